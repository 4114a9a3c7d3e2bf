"""What Segment leaves in a bucket or folder of the sandbox company: its calls as JSON lines, by the day on which they came in.

Lives here: the product's files as `group`, `identify` and `track` calls. Must not live here: how buckets are read, what Tenure reads.

Layout and fields as in Segment's documentation, pages "Amazon S3" (`segment-logs/{source}/{received day}/{file}.gz`, the day as
milliseconds since 1970) and "Spec: Common Fields", "Spec: Group", "Spec: Identify".
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from core.warehouse import Connection, literal, scratch

SOURCE = "Sandb0xSrc"
NAMELESS = 10
"""One event in so many does not name its group: its user does. Half of these were made before the user said who they are."""


def export(product: Path, bucket: Path) -> list[Path]:
    """Write the calls behind `product` (its files of workspaces and events) below `bucket`; the files that are new.

    A day's file that is there is left as it is, as Segment leaves it. Events that were broken on purpose are calls too, save those
    without a workspace: here that says no more than that the user's is asked for.
    """
    with scratch() as connection:
        _read(connection, product)
        days = [day for (day,) in connection.execute("select distinct day from calls order by day").fetchall()]
        made = []
        for day in days:
            path = bucket / "segment-logs" / SOURCE / str(_milliseconds(day)) / f"{_milliseconds(day)}.0.1.gz"
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(call) + "\n" for call in _calls(connection, day))
            path.write_bytes(gzip.compress(lines.encode(), compresslevel=1, mtime=0))
            made.append(path)
        return made


def _read(connection: Connection, product: Path) -> None:
    """Table `calls`: one row for each call, with the day on which it came in."""
    workspaces, events = (literal(str(product / name / "*.parquet")) for name in ("workspaces", "events"))
    connection.execute(
        f"""
        create table told as
        select *, hash(event_id) % {NAMELESS} = 0 and workspace_id in (select id from read_parquet({workspaces})) as is_nameless,
            hash(event_id) % {2 * NAMELESS} = 0 as is_visitor
        from read_parquet({events}) where workspace_id is not null
        """
    )
    connection.execute(
        f"""
        create table calls as
        select 'group' as type, 'g-' || id || '-' || epoch_us(updated_at) as id, null as user_id, null as visitor, id as group_id,
            null as event, updated_at as happened,
            cast(left(parse_filename(filename), 10) as date) as day,
            to_json({{'name': name, 'website': domain, 'crm_id': crm_id,
                'createdAt': strftime(created_at, '%Y-%m-%dT%H:%M:%S.%fZ')}}) as told
        from read_parquet({workspaces}, filename = true) where created_at is not null
        union all
        select 'group', 'm-' || user_id, user_id, null, min(workspace_id), null, min(timestamp), cast(min(received_at) as date), '{{}}'
        from told where user_id is not null and event is not null and workspace_id in (select id from read_parquet({workspaces}))
        group by user_id
        union all
        select 'identify', 'i-' || user_id, user_id, 'anon-' || user_id, null, null, min(timestamp), cast(min(received_at) as date), '{{}}'
        from told where is_nameless and is_visitor group by user_id
        union all
        select 'track', event_id, case when not (is_nameless and is_visitor) then user_id end,
            case when is_nameless and is_visitor then 'anon-' || user_id end,
            case when not is_nameless then workspace_id end, event, timestamp, cast(received_at as date),
            to_json({{'quantity': quantity, 'product': product}})
        from told
        """
    )


def _calls(connection: Connection, day: date) -> Iterator[Mapping[str, Any]]:
    found = connection.execute(
        "select type, id, user_id, visitor, group_id, event, happened, told from calls where day = ? order by happened, id",
        [day],
    )
    while rows := found.fetchmany(10_000):
        for kind, call, user, visitor, group, event, happened, told in rows:
            at = happened.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            about = json.loads(told)
            said = {"type": kind, "messageId": call, "userId": user, "anonymousId": visitor, "timestamp": at}
            if kind == "track":
                yield {**said, "event": event, "context": {"groupId": group} if group else {}, "properties": about}
            elif kind == "group":
                yield {
                    **said,
                    "anonymousId": visitor or (None if user else "server"),
                    "groupId": group,
                    "context": {},
                    "traits": about,
                }
            else:
                yield {**said, "context": {}, "traits": about}


def _milliseconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
