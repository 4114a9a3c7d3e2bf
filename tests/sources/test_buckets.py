"""Deliveries in a bucket: read as those of a folder, against somebody else's S3 over HTTP."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core import warehouse
from core.errors import Fatal, Forbidden, Retriable, Unauthorized
from core.source_settings import BucketConfig
from sources import ledger
from sources.base import open_stream, stream_ids
from sources.bucket import Bucket
from sources.places import Folder, matches, stem

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
EVENTS: dict[str, Any] = {
    "files": "events/**/*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}
CSV = "id,name,created\n1,One,2024-01-01\n2,Two,2024-01-02\n"
EVENT = "account,event,at\n1,login,2024-02-0{day}\n"
EVENTS_READ = (
    "select account_id, event_name, cast(cast(occurred_at as date) as varchar) from raw_files.usage_events order by all"
)


class Delivered:
    """A company whose files lie in a bucket, below a prefix."""

    def __init__(self, company: Any, s3: Any) -> None:
        self.company, self.s3 = company, s3
        self.streams()

    def streams(self, bucket: dict[str, Any] | None = None, **streams: dict[str, Any]) -> None:
        self.company.sources(
            app={
                "connector": "files",
                "path": f"s3://{self.s3.bucket}/exports",
                "bucket": bucket or self.s3.reached(),
                "streams": streams or {"accounts": ACCOUNTS, "usage_events": EVENTS},
            }
        )

    def put(self, key: str, content: Any, **more: Any) -> str:
        """Write what `Company.write` would write, compressed by its ending."""
        return self.s3.put(f"exports/{key}", self.company.write(key, content).read_bytes(), **more)

    def url(self, key: str) -> str:
        return f"s3://{self.s3.bucket}/exports/{key}"

    def load(self, **options: Any) -> Any:
        reports = self.company.load(**options)
        assert self.copies() == []
        return reports

    def copies(self) -> list[Path]:
        """What lies in the temporary folder."""
        return [path for path in self.company.tenure.temp_directory.rglob("*") if path.name.startswith("fetched-")]

    def bucket(self, **config: Any) -> Bucket:
        given = BucketConfig(**(config or self.s3.reached()))
        return Bucket(f"s3://{self.s3.bucket}/exports", given, temp_directory=self.company.tenure.temp_directory)

    def events(self) -> list[tuple[Any, ...]]:
        return self.company.query(EVENTS_READ)

    def stopped(self, stream: str = "usage_events") -> str:
        report = self.load()[stream]
        assert report.status == "stopped"
        return str(report.message)


@pytest.fixture
def there(company: Any, s3: Any) -> Delivered:
    delivered = Delivered(company, s3)
    delivered.put("accounts.csv", CSV)
    return delivered


# --- read as a folder is read --------------------------------------------------------------------------------------------

LINES = '{"account":1,"event":"login","at":"2024-02-01"}\n{"account":2,"event":"export","at":"2024-02-02","n":1}\n'
TABLE = [{"account": 1, "event": "login", "at": "2024-02-01"}, {"account": 2, "event": "export", "at": "2024-02-02"}]
COMMAS = "account,event,at\n1,login,2024-02-01\n2,export,2024-02-02\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [("1.csv", COMMAS), ("1.csv.gz", COMMAS), ("1.jsonl.gz", LINES), ("1.jsonl.zst", LINES), ("1.parquet", TABLE)],
)
def test_each_format_gives_the_rows_that_a_folder_gives(there: Delivered, name: str, content: Any) -> None:
    there.put(f"events/2024-02-01/{name}", content)
    report = there.load()["usage_events"]
    assert (report.files, report.rows_read, report.rows_inserted) == (1, 2, 2)
    assert there.events() == [("1", "login", "2024-02-01"), ("2", "export", "2024-02-02")]
    assert there.company.query("select distinct _file from raw_files.usage_events") == [
        (there.url(f"events/2024-02-01/{name}"),)
    ]


def test_an_object_that_holds_what_is_loaded_counts_nothing_whatever_its_tag(there: Delivered) -> None:
    there.put("events/1.csv", COMMAS)
    there.load()
    there.put("events/2.csv.gz", COMMAS)
    report = there.load()["usage_events"]
    assert (report.status, report.rows_read) == ("unchanged", 0)
    assert f"{there.url('events/2.csv.gz')} as {there.url('events/1.csv')}" in report.message
    there.s3.delete("exports/events/1.csv")
    there.load()
    there.put("events/2.csv.gz", COMMAS + "1,login,2024-02-05\n")
    there.load()
    assert len(there.events()) == 3


def test_a_bucket_and_a_folder_with_the_same_files_end_in_the_same_tables(there: Delivered) -> None:
    there.put("events/1.csv", "account,event,at\n1,login,2024-02-01\n9,login,2024-02-01\n1,login,soon\n1,login\n")
    there.put("events/2.csv.gz", "event;account;at\nexport;2;2024-02-02\n;2;2024-02-02\n")
    there.put(
        "events/3.jsonl", '{"account":1,"event":"x","at":"2024-02-03"}\nnonsense\n{"account":2,"at":"2024-02-03"}\n'
    )
    there.put("events/4.parquet", [*TABLE, {"account": 1, "event": None, "at": "2024-02-09"}])
    there.load()
    in_bucket = there.company.contents()
    there.company.document["sources"]["app"].update(path=str(there.company.data))
    del there.company.document["sources"]["app"]["bucket"]
    (there.company.home / "warehouse.duckdb").unlink()
    there.company.load()
    assert len(in_bucket["quarantine.usage_events"]) == 7
    named = json.dumps(in_bucket, default=str).replace(there.url(""), f"{there.company.data}/")
    assert json.loads(named) == json.loads(json.dumps(there.company.contents(), default=str))


def test_quarantined_rows_and_rejected_records_carry_the_url_and_their_number(there: Delivered) -> None:
    url = there.put("events/1.csv", "account,event,at\n1,login,2024-02-01,x\n1,login,soon\n9,login,2024-02-01\n")
    there.load()
    found = there.company.query("select _file, _row, _reason from quarantine.usage_events order by _row")
    assert found == [(url, 2, "malformed_row"), (url, 3, "impossible_date"), (url, 4, "unknown_account")]


def test_only_names_that_a_folder_would_read_are_read(there: Delivered) -> None:
    for day, name in enumerate(("a b.csv", "ä [1]*.csv", "100%25.csv", "o'clock=#?.csv", "+.csv"), start=1):
        there.put(f"events/{name}", EVENT.format(day=day))
    for name in ("x.csv.tmp", ".hidden.csv", "y.part"):
        there.put(f"events/{name}", "no event")
    there.s3.put("exports/events/2024-02-01/", b"")
    there.s3.put("exports/events/2024-02-01_$folder$", b"")
    there.s3.put("exports-of-others/events/z.csv", EVENT.format(day=2).encode())
    report = there.load()["usage_events"]
    assert (report.status, report.files, report.rows_inserted) == ("loaded", 5, 5)
    files = there.company.query("select distinct _file from raw_files.usage_events order by _file collate nocase")
    assert {Path(file).name for (file,) in files} == {"a b.csv", "ä [1]*.csv", "100%25.csv", "o'clock=#?.csv", "+.csv"}
    assert there.load()["usage_events"].status == "unchanged"


def test_an_object_that_says_it_is_encoded_is_read_as_it_lies_there(there: Delivered) -> None:
    there.put("events/1.jsonl.gz", LINES, ContentEncoding="gzip", ContentType="application/json")
    assert there.load()["usage_events"].rows_inserted == 2


def test_a_lookup_lies_in_the_bucket_too(there: Delivered) -> None:
    there.put("owners-1.csv", "id,email\n7,kim@us.example\n")
    there.put("accounts.csv", "id,name,created,owner\n1,One,2024-01-01,7\n2,Two,2024-01-01,8\n")
    there.put("events/1.csv", EVENT.format(day=1))
    columns = {"account_id": "a.id", "name": "name", "created_at": "created", "owner_email": "o.email"}
    looked_up = {"lookups": {"owners": "owners*"}, "join": "as a left join owners as o on o.id = a.owner"}
    there.streams(accounts={**ACCOUNTS, **looked_up, "columns": columns}, usage_events=EVENTS)
    there.load()
    found = there.company.query("select account_id, owner_email from raw_files.accounts order by all")
    assert found == [("1", "kim@us.example"), ("2", None)]


DOCS = Path(__file__).parents[2] / "docs"
OWN = {"id": "m1", "account": "1", "user": "u1", "action": "Report exported", "at": "2024-02-01T10:00:00.123Z"}
SEGMENT = {
    "type": "track",
    "event": "Report exported",
    "messageId": "m1",
    "userId": "u1",
    "timestamp": "2024-02-01T10:00:00.123Z",
    "context": {"groupId": "1"},
}
POSTHOG = {
    "uuid": "m1",
    "event": "Report exported",
    "distinct_id": "u1",
    "timestamp": "2024-02-01T10:00:00.123456+00:00",
    "properties": {"$groups": {"company": "1"}, "$group_0": "1"},
}


@pytest.mark.parametrize(
    ("page", "path", "stream", "line", "key"),
    [
        ("configuration", "s3://example-events/production", "usage_events", OWN, "2024-02-01/1.gz"),
        (
            "product_events",
            "s3://your-bucket/segment-logs/your-source",
            "tracks",
            SEGMENT,
            "1706745600000/1706781600000.abc.1.2.3.gz",
        ),
        ("product_events", "s3://your-bucket/posthog", "events", POSTHOG, "2024/02/01/00:00:00-01:00:00.jsonl.gz"),
    ],
)
def test_exports_are_read_as_the_documentation_says(
    there: Delivered, page: str, path: str, stream: str, line: dict[str, Any], key: str
) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)]
    (product,) = [yaml.safe_load(block)["sources"]["product"] for block in blocks if f"path: {path}" in block]
    product.update(path=f"s3://{there.s3.bucket}/exports", bucket=there.s3.reached(), account_source="crm")
    product["streams"] = product.get("streams") or [stream]
    crm = {"connector": "files", "path": str(there.company.data), "streams": {"accounts": ACCOUNTS}}
    there.company.sources(crm=crm, product=product)
    there.s3.put(f"exports/{key}", gzip.compress(json.dumps(line).encode() + b"\n"))
    assert there.load()[stream].rows_inserted == 1
    table = f"raw_{product['connector']}.usage_events"
    found = there.company.query(f"select event_id, account_id, user_id, event_name from {table}")
    assert found == [("m1", "1", "u1", "Report exported")]


# --- only what is new ----------------------------------------------------------------------------------------------------


def test_only_new_and_changed_objects_are_read(there: Delivered) -> None:
    there.put("events/2024-02-02/1.csv", EVENT.format(day=2))
    first, again = there.load(), there.load()
    assert (first["usage_events"].files, first["usage_events"].rows_inserted) == (1, 1)
    assert [(report.status, report.files) for report in again.values()] == [("unchanged", 0)] * 2
    there.put("events/2024-02-03/1.csv", EVENT.format(day=3))
    there.put("events/2024-02-01/late.csv", EVENT.format(day=1))
    report = there.load()["usage_events"]
    assert (report.files, report.rows_read, report.rows_inserted) == (2, 2, 2)
    there.put("events/2024-02-03/1.csv", EVENT.format(day=4))
    report = there.load()["usage_events"]
    assert (report.files, report.rows_read) == (1, 1)
    assert [day for *_, day in there.events()] == ["2024-02-01", "2024-02-02", "2024-02-04"]


def test_an_object_of_the_same_size_and_second_is_known_by_its_e_tag(there: Delivered) -> None:
    there.put("events/1.csv", EVENT.format(day=1))
    there.load()
    there.put("events/1.csv", EVENT.format(day=2))
    assert there.load()["usage_events"].files == 1
    assert [day for *_, day in there.events()] == ["2024-02-02"]


def test_an_object_that_was_moved_or_written_again_is_not_read_again(there: Delivered) -> None:
    there.put("events/1.csv", "account,event,at\n1,login,2024-02-01\n9,login,2024-02-01\n")
    there.put("events/2.csv", EVENT.format(day=2))
    there.load()
    source = {"Bucket": there.s3.bucket, "Key": "exports/events/1.csv"}
    there.s3.client.copy_object(Bucket=there.s3.bucket, Key="exports/events/old/1.csv", CopySource=source)
    there.s3.delete("exports/events/1.csv")
    time.sleep(1.1)  # S3 tells the second of a change
    there.put("events/2.csv", EVENT.format(day=2))
    assert there.load()["usage_events"].status == "unchanged"
    moved = there.url("events/old/1.csv")
    assert there.company.query("select _file from quarantine.usage_events") == [(moved,)]
    known = there.company.query("select path, sha256 from ledger.files where stream = 'usage_events' order by path")
    assert [path for path, _ in known] == [there.url("events/2.csv"), moved]
    assert all(content.startswith('etag:"') for _, content in known)
    there.s3.delete("exports/events/2.csv")
    assert there.load()["usage_events"].status == "unchanged"
    assert len(there.events()) == 2, "an object that is gone takes nothing with it"


# --- pieces --------------------------------------------------------------------------------------------------------------


def piecemeal(there: Delivered, days: int = 6) -> None:
    for day in range(1, days + 1):
        there.put(f"events/2024-02-0{day}/1.csv", EVENT.format(day=day) + f"8,login,2024-02-0{day}\n")


def test_no_more_than_a_piece_is_on_disk_at_a_time(there: Delivered, monkeypatch: pytest.MonkeyPatch) -> None:
    piecemeal(there)
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 120)
    tenure = there.company.tenure
    held: list[int] = []
    with warehouse.scratch() as connection:
        streams = stream_ids(tenure.config)
        ledger.ensure_tables(connection, streams)
        source = tenure.config.sources["app"]
        opened = open_stream(streams[1], source, now=there.company.now, temp_directory=tenure.temp_directory)
        for chunk in opened.chunks(connection, full=False):
            connection.execute(f"create or replace temp table seen as select * from {chunk.relation}")
            held.append(sum(path.stat().st_size for path in tenure.temp_directory.rglob("*.csv")))
    assert len(held) == 3
    assert all(0 < size <= 120 for size in held)
    assert there.copies() == []
    report = there.load()["usage_events"]
    assert (report.files, report.rows_inserted, report.rows_quarantined) == (6, 6, 6)


@pytest.mark.parametrize("entity", ["keyed", "unkeyed"])
def test_pieces_end_in_the_rows_of_one_delivery(there: Delivered, monkeypatch: pytest.MonkeyPatch, entity: str) -> None:
    columns = {"account_id": "account", "event_name": "event", "occurred_at": "at"}
    stream = {**EVENTS, "columns": {**columns, **({"event_id": "id"} if entity == "keyed" else {})}}
    there.streams(accounts=ACCOUNTS, usage_events=stream)
    for day in range(1, 7):
        rows = [{"id": n, "account": 1, "event": f"of {day}", "at": f"2024-02-0{day}"} for n in range(day, day + 3)]
        there.put(f"events/{day}.parquet", rows)
    there.load()
    whole = there.company.contents()
    (there.company.home / "warehouse.duckdb").unlink()
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 1)
    there.load()
    assert there.company.contents() == whole


def test_a_key_that_came_up_later_is_null_in_older_pieces(there: Delivered, monkeypatch: pytest.MonkeyPatch) -> None:
    there.streams(accounts=ACCOUNTS, usage_events={**EVENTS, "columns": {**EVENTS["columns"], "product": "product"}})
    there.put("events/1.jsonl", '{"account":1,"event":"old","at":"2024-02-01"}\n')
    there.put("events/2.jsonl", '{"account":1,"event":"new","at":"2024-02-02","product":"app"}\n')
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 1)
    assert there.load()["usage_events"].rows_inserted == 2
    assert there.company.query("select event_name, product from raw_files.usage_events order by all") == [
        ("new", "app"),
        ("old", None),
    ]


CHILD = """
import sys, time
from datetime import datetime
from pathlib import Path
import core.settings, core.warehouse, sources.files
from sources import ledger
from sources.base import open_stream, stream_ids
from sources.load import load_stream

sources.files.CHUNK_BYTES = 120
tenure = core.settings.load(Path(sys.argv[1]), home=Path(sys.argv[2]))
now = datetime(2024, 6, 2)

class Pausing:
    def __init__(self, stream):
        self.stream, self.id, self.config, self.progress = stream, stream.id, stream.config, stream.progress
    def chunks(self, connection, **options):
        for piece, chunk in enumerate(self.stream.chunks(connection, **options), start=1):
            yield chunk
            print("loaded", piece, flush=True)
            if self.id.stream == "usage_events" and piece == 2:
                time.sleep(60)

with core.warehouse.warehouse(tenure.warehouse_path, temp_directory=tenure.temp_directory) as connection:
    streams = stream_ids(tenure.config)
    ledger.ensure_tables(connection, streams)
    for stream in streams:
        opened = open_stream(stream, tenure.config.sources[stream.source], now=now, temp_directory=tenure.temp_directory)
        load_stream(connection, Pausing(opened), tenure, now=now, run_id="child")
"""


def test_a_kill_between_two_pieces_loses_nothing_and_leaves_no_copy(there: Delivered) -> None:
    piecemeal(there)
    tenure = there.company.tenure
    command = [sys.executable, "-c", CHILD, str(there.company.folder / "tenure.yml"), str(tenure.home)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert child.stdout is not None
    told = [child.stdout.readline().split() for _ in range(3)]
    assert told == [["loaded", "1"], ["loaded", "1"], ["loaded", "2"]]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert there.copies() != [], "the process was killed while it had copies"
    there.load()
    after = there.company.contents()
    (tenure.home / "warehouse.duckdb").unlink()
    there.load()
    assert after == there.company.contents()
    assert len(there.events()) == 6


def test_copies_are_gone_when_loading_fails(there: Delivered) -> None:
    there.put("events/1.csv", 'account,event,at\n1,"login,2024-02-01\n' + "1,x,2024-02-01\n" * 1000)
    message = there.stopped()
    assert there.url("events/1.csv") in message
    assert "a quote is opened and not closed" in message
    assert "fetched-" not in message


# --- what goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("1.parquet", b"PAR1 and no more", "is not a whole Parquet file"),
        ("1.parquet", b"PAR1 nothing that ends well PAR1", "is not a readable Parquet file"),
        ("1.csv", b"", "is empty (0 bytes)"),
        ("1.csv", b"\n\n", "has no header line"),
        ("1.jsonl", b'[{"a": 1}]', "holds one JSON array"),
        ("1.csv", b"other,columns\n1,2\n", "the mapping does not fit"),
        ("1.csv.gz", b"\x1f\x8b\x08 cut", "is not a whole gzip file"),
        ("1.bin", b"x", "the name does not tell its format"),
    ],
)
def test_a_broken_object_stops_its_stream_by_its_url(there: Delivered, name: str, content: bytes, said: str) -> None:
    url = there.s3.put(f"exports/events/{name}", content)
    message = there.stopped()
    assert said in message
    assert url in message
    assert str(there.company.home) not in message


def test_an_object_that_changes_or_goes_while_it_is_read_is_tried_again(
    there: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    piecemeal(there, days=4)
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 1)
    tenure = there.company.tenure
    for change in (lambda key: there.put(key, EVENT.format(day=9)), lambda key: there.s3.delete(f"exports/{key}")):
        with warehouse.scratch() as connection:
            streams = stream_ids(tenure.config)
            ledger.ensure_tables(connection, streams)
            source = tenure.config.sources["app"]
            opened = open_stream(streams[1], source, now=there.company.now, temp_directory=tenure.temp_directory)
            chunks = opened.chunks(connection, full=False)
            connection.execute(f"create or replace temp table seen as select * from {next(chunks).relation}")
            change("events/2024-02-03/1.csv")
            with pytest.raises(Retriable, match=r"2024-02-03/1\.csv changed or went between"):
                next(chunks)
    assert there.copies() == []
    assert there.load()["usage_events"].rows_inserted == 3


def test_a_bucket_that_is_not_there_is_named(there: Delivered) -> None:
    there.company.document["sources"]["app"]["path"] = "s3://no-such-bucket-anywhere/x"
    message = there.stopped()
    assert "s3://no-such-bucket-anywhere/x/events: 404 NoSuchBucket" in message
    assert "spelled" in message


def test_globs_that_match_nothing_are_named(there: Delivered) -> None:
    assert f"no file matches events/**/* in s3://{there.s3.bucket}/exports/" in there.stopped()


def test_an_endpoint_that_does_not_answer_is_tried_again(there: Delivered) -> None:
    there.streams({**there.s3.reached(), "endpoint": "http://127.0.0.1:9"})
    with pytest.raises(Retriable, match="the store does not answer"):
        there.company.load(last_attempt=False)
    assert "the store does not answer" in there.stopped()


def test_a_key_that_cannot_be_read_is_named(there: Delivered) -> None:
    there.s3.put("exports/events//double.csv", b"x")
    message = there.stopped()
    assert "exports/events//double.csv" in message
    assert "Rename it" in message
    there.s3.put("exports/events/ok/1.csv", EVENT.format(day=1).encode())
    there.streams(accounts=ACCOUNTS, usage_events={**EVENTS, "files": "events/ok/*"})
    assert there.load()["usage_events"].rows_inserted == 1


@pytest.fixture
def guarded(s3_server: Any) -> Iterator[Callable[..., tuple[str, str]]]:
    """Makes keys that are allowed some actions; from then on the server checks keys and signatures."""

    def ask(count: bytes) -> None:
        url = f"{s3_server.endpoint}/moto-api/reset-auth"
        request = urllib.request.Request(url, data=count, method="POST", headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=10).close()

    def make(*actions: str) -> tuple[str, str]:
        iam = boto3.client(
            "iam",
            endpoint_url=s3_server.endpoint,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
        )
        user = f"user-{time.monotonic_ns()}"
        iam.create_user(UserName=user)
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=user, PolicyName="reads", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        ask(b"0")
        return key["AccessKeyId"], key["SecretAccessKey"]

    yield make
    ask(b"inf")


def test_keys_that_may_list_and_get_are_enough(there: Delivered, guarded: Any) -> None:
    there.put("events/1.csv", EVENT.format(day=1))
    access, secret = guarded("s3:ListBucket", "s3:GetObject")
    there.streams(there.s3.reached(access_key_id=access, secret_access_key=secret))
    assert there.load()["usage_events"].rows_inserted == 1


def test_without_keys_those_of_the_environment_are_taken(
    there: Delivered, guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.put("events/1.csv", EVENT.format(day=1))
    access, secret = guarded("s3:ListBucket", "s3:GetObject")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    there.streams({"endpoint": there.s3.endpoint})
    assert there.load()["usage_events"].rows_inserted == 1
    there.streams(there.s3.reached(access_key_id=access, secret_access_key="wrong"))
    assert "SignatureDoesNotMatch" in there.stopped(), "keys of the settings come first"


def test_a_public_bucket_is_read_without_keys(there: Delivered) -> None:
    there.put("accounts.csv", CSV, ACL="public-read")
    there.put("events/1.csv", EVENT.format(day=1), ACL="public-read")
    there.streams({"endpoint": there.s3.endpoint, "anonymous": True})
    assert there.load()["usage_events"].rows_inserted == 1
    there.put("events/2.csv", EVENT.format(day=2), ACL="private")
    assert f"{there.url('events/2.csv')}: 403" in there.stopped()


def fetch_all(bucket: Bucket) -> None:
    files = [found.unread() for found in bucket.find(("events/*",), label="app/x")]
    with bucket.here(files, label="app/x"):
        pass


def test_wrong_keys_and_missing_rights_say_what_to_do_and_show_no_secret(there: Delivered, guarded: Any) -> None:
    canary = "canary-4f1b/secret+key"
    there.put("events/1.csv", EVENT.format(day=1))
    access, secret = guarded("s3:ListBucket")
    cases = [
        ("AKIACANARY0000000001", canary, "403 InvalidAccessKeyId", "Check the keys", Unauthorized),
        (access, canary, "403 SignatureDoesNotMatch", "Check the keys", Unauthorized),
        (access, secret, "403 AccessDenied", "Allow s3:GetObject", Forbidden),
    ]
    for key, its_secret, said, hint, word in cases:
        there.streams(there.s3.reached(access_key_id=key, secret_access_key=its_secret, session_token=None))
        message = there.stopped()
        assert said in message
        assert hint in message
        bucket = there.bucket(**there.s3.reached(access_key_id=key, secret_access_key=its_secret))
        with pytest.raises(word) as caught:
            fetch_all(bucket)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        examined = json.dumps([repr(finding) for finding in there.company.examine().streams])
        assert said in examined
        for text in (message, examined, repr(bucket.__dict__), repr(there.company.tenure)):
            assert its_secret not in text
            assert key not in text
    for path in there.company.home.rglob("*"):
        assert not path.is_file() or not any(
            text.encode() in path.read_bytes() for text in (canary, secret, access, "AKIACANARY")
        ), path


# --- globs, and the other doors ------------------------------------------------------------------------------------------

NAMES = st.text(alphabet="ab.[", min_size=1, max_size=3).filter(lambda name: name not in (".", "..") and name[0] != ".")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
GLOBS = st.lists(st.sampled_from(["*", "**", "a*", "?", "[ab]*", "a", "b", "*.a"]), min_size=1, max_size=4).map(
    "/".join
)


@given(paths=st.sets(PATHS, max_size=8), pattern=GLOBS)
def test_a_glob_matches_in_a_bucket_what_it_matches_in_a_folder(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], pattern: str
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    written = []
    for path in sorted(paths):
        if any(path.startswith(f"{other}/") for other in paths):
            continue
        written.append(path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    found = {
        Path(file.path).relative_to(folder) for file in Folder(folder).find((pattern,), label="x", may_be_none=True)
    }
    expected = {Path(path) for path in written if matches(path, pattern)}
    assert found == expected
    assert all(str(path.parent) == (stem(pattern)[0] or ".") for path in expected if stem(pattern)[1])
    assert all(str(path).startswith(stem(pattern)[0]) for path in expected)


def test_the_doctor_looks_into_a_bucket(there: Delivered) -> None:
    for day in range(1, 10):
        there.put(f"events/{day}.csv", EVENT.format(day=day))
    there.put("events/5.csv", "account,event,at\n1,login,soon\n")
    accounts, events = there.company.examine().streams
    assert (accounts.status, accounts.files, accounts.bytes) == ("ok", 1, len(CSV))
    assert (events.status, events.files, events.rows_read) == ("warning", 9, 9)
    assert [example.file for example in events.examples] == [there.url("events/5.csv")]
    assert there.copies() == []


def test_the_doctor_fetches_no_more_than_a_piece(there: Delivered, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(1, 10):
        there.put(f"events/{day}.csv", EVENT.format(day=day))
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 3 * len(EVENT.format(day=1)))
    _, events = there.company.examine().streams
    assert (events.files, events.rows_read, events.is_sample) == (9, 3, True)


def test_reading_all_anew_ends_in_the_same_rows(there: Delivered) -> None:
    piecemeal(there)
    there.load()
    before = there.company.contents()
    report = there.load(full=True)["usage_events"]
    assert (report.files, report.rows_inserted) == (6, 6)
    assert there.company.contents() == before


def test_a_container_without_its_account_stops_the_stream(there: Delivered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    there.company.document["sources"]["app"].update(path="az://container/exports")
    del there.company.document["sources"]["app"]["bucket"]
    message = there.stopped()
    assert "az://container/exports/: " in message
    assert "Account must be specified" in message


def test_found_objects_know_what_they_hold(there: Delivered) -> None:
    url = there.put("events/1.csv", EVENT.format(day=1))
    (found,) = there.bucket().find(("events/*",), label="app/x")
    assert (found.path, found.size, found.appears_whole) == (url, len(EVENT.format(day=1)), True)
    with pytest.raises(Fatal, match="no file matches"):
        there.bucket().find(("nothing/*",), label="app/x")
    assert there.bucket().find(("nothing/*",), label="app/x", may_be_none=True) == []


# --- a line that breaks ----------------------------------------------------------------------------------------------------


class BreakingLine(ThreadingHTTPServer):
    """Stands before the server and breaks the line in the middle of an object, so many `times`."""

    def __init__(self, endpoint: str, times: int) -> None:
        super().__init__(("127.0.0.1", 0), _Breaking)
        self.behind, self.times, self.broken = endpoint, times, 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Breaking(BaseHTTPRequestHandler):
    server: BreakingLine

    def do_GET(self) -> None:
        request = urllib.request.Request(self.server.behind + self.path, headers=dict(self.headers))
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Type", "ETag", "Last-Modified", "Content-Range"):
                if answer.headers[name]:
                    self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        breaks = ".csv" in self.path and "accounts" not in self.path and self.server.broken < self.server.times
        self.server.broken += breaks
        self.wfile.write(body[: len(body) // 2] if breaks else body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is told."""


@pytest.mark.parametrize("times", [1, 1000])
def test_half_an_object_is_never_taken_for_a_whole_one(there: Delivered, times: int) -> None:
    content = "account,event,at\n" + "1,login,2024-02-01\n" * 200_000
    there.put("events/1.csv", content)
    line = BreakingLine(there.s3.endpoint, times)
    threading.Thread(target=line.serve_forever, daemon=True).start()
    try:
        there.streams({**there.s3.reached(), "endpoint": line.endpoint})
        report = there.load()["usage_events"]
    finally:
        line.shutdown()
        line.server_close()
    assert line.broken >= 1
    if times == 1:
        assert (report.status, report.rows_read) == ("loaded", 200_000)
    else:
        assert (report.status, report.rows_read) == ("stopped", 0)
        assert report.message.startswith(f"app/usage_events: {there.url('events/1.csv')}: the store does not answer")
