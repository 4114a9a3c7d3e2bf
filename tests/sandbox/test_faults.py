"""Planted faults: at the stated rates, where the truth says, and never in place of what is true."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sandbox import faults
from sandbox.vendors import LAYOUTS

ROW_OBJECTS = [layout.name for layout in LAYOUTS]


def near(count: int, rate: float, of: int) -> bool:
    """Within four standard deviations of a binomial count."""
    return abs(count - rate * of) <= 4 * math.sqrt(max(1.0, rate * of))


def planted(world: Any, condition: str) -> int:
    return int(world.value(f"select count(*) from truth_faults where {condition}"))


def test_faults_of_events_come_at_the_stated_rates(founded: Any) -> None:
    events = founded.value("select count(distinct event_id) from events")
    assert near(planted(founded, "object = 'events' and kind = 'late'"), faults.LATE_EVENT_RATE, events)
    assert near(planted(founded, "object = 'events' and kind = 'duplicate'"), faults.DUPLICATE_EVENT_RATE, events)
    assert near(planted(founded, "object = 'events' and kind like 'broken%'"), faults.BROKEN_EVENT_RATE, events)


def test_faults_of_other_rows_come_at_the_stated_rates(lived: Any) -> None:
    rows = sum(lived.value(f"select count(distinct id) from {name}") for name in ROW_OBJECTS)
    broken = planted(lived, "object <> 'events' and kind like 'broken%'")
    twice = planted(lived, "object <> 'events' and kind in ('duplicate', 'stale duplicate')")
    assert near(broken, faults.BROKEN_ROW_RATE, rows)
    assert near(twice, faults.DUPLICATE_ROW_RATE, rows)


def test_every_way_to_break_a_contract_is_planted(founded: Any) -> None:
    reasons = {row[0] for row in founded.rows("select distinct reason from truth_faults where reason is not null")}
    assert reasons == {
        "null_key",
        "missing_value",
        "impossible_date",
        "out_of_range",
        "end_before_start",
        "unknown_account",
    }


@pytest.mark.parametrize("name", [*ROW_OBJECTS, "events"])
def test_each_fault_is_in_the_file_that_the_truth_names(lived: Any, name: str) -> None:
    key = "event_id" if name == "events" else "id"
    faults_ = f"select * from truth_faults where object = '{name}' and file is not null"
    assert lived.value(f"select count(*) from ({faults_})") > 0
    missing = lived.rows(
        f"select file, key, kind from ({faults_} and key is not null) f"
        f" anti join {name} r on r._path = f.file and r.{key} = f.key limit 3"
    )
    assert missing == []
    nameless = lived.value(f"select count(*) from ({faults_} and key is null)")
    assert lived.value(f"select count(*) from {name} where {key} is null") == nameless


@pytest.mark.parametrize("name", [*ROW_OBJECTS, "events"])
def test_rows_repeat_only_where_a_copy_was_planted_or_the_row_changed(lived: Any, name: str) -> None:
    key = "event_id" if name == "events" else "id"
    copies = f"select file, key, count(*) as n from truth_faults where object = '{name}' and kind like '%duplicate' group by all"
    unexplained = lived.rows(
        f"select r._path, r.{key} from {name} r left join ({copies}) c on c.file = r._path and c.key = r.{key}"
        f" where r.{key} is not null group by all having count(*) > 1 + coalesce(any_value(c.n), 0) limit 3"
    )
    assert unexplained == []


def test_a_stale_copy_is_older_than_the_row_that_it_follows(lived: Any) -> None:
    older = lived.rows("""
        select count(*) filter (i.updated < t.updated), count(*) filter (i.updated > t.updated)
        from truth_faults f join invoices i on i.id = f.key and i._path = f.file join true_invoices t on t.id = f.key
        where f.object = 'invoices' and f.kind = 'stale duplicate'
    """)
    assert older[0][0] > 0
    assert older[0][1] == 0


def test_a_late_row_is_missing_on_its_day_and_comes_later(lived: Any) -> None:
    late = lived.rows("""
        select count(*), count(*) filter (t.timestamp < t._day), count(distinct t._day) from truth_faults f
        join events t on t.event_id = f.key and t._path = f.file
        where f.object = 'events' and f.kind = 'late' and f.file > 'product/events/2024-03'
    """)[0]
    assert late[0] == late[1] > 20
    assert late[2] >= 8
    first = lived.value("""
        select count(*) from truth_faults f join engagements e on e.id = f.key
        where f.object = 'engagements' and f.kind = 'late'
            and e._day <= cast(make_timestamp(try_cast(e.timestamp as bigint) * 1000) as date)
    """)
    assert planted(lived, "object = 'engagements' and kind = 'late'") > 0
    assert first == 0


def test_companies_are_merged_and_renamed_as_the_truth_says(lived: Any) -> None:
    latest = "(from companies qualify row_number() over (partition by id order by hs_lastmodifieddate desc) = 1)"
    merged = lived.rows("select key, account_id from truth_faults where kind = 'merged' order by 1")
    assert len(merged) >= 2
    shown = f"select id, merged_into_id from {latest} where merged_into_id is not null"
    known = f"({shown}) where id not in (select key from truth_faults where kind like 'broken%' and key is not null)"
    assert lived.rows(f"select * from {known} order by 1") == merged
    renamed = lived.rows("select key from truth_faults where kind = 'renamed' order by 1")
    assert len(renamed) >= 4
    named = f"select id from {latest} where name like '% Global %' and id not in"
    assert (
        lived.rows(f"{named} (select key from truth_faults where kind like 'broken%' and key is not null) order by 1")
        == renamed
    )


def test_the_truth_lies_outside_the_folder_of_the_data(founded: Any) -> None:
    root = founded.home / "sandbox"
    assert sorted(path.name for path in root.iterdir()) == ["company.json", "data", "truth"]
    assert sorted(path.name for path in (root / "data").iterdir()) == ["billing", "crm", "product", "support"]
