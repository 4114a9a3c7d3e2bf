"""Whatever the rows: every one is accounted for, and neither their split into files nor the order of delivery matters."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

COLUMNS = ("id", "account", "mrr", "start", "end", "changed")
SUBSCRIPTIONS: dict[str, Any] = {
    "files": "subscriptions*",
    "columns": {
        "subscription_id": "id",
        "account_id": "account",
        "mrr": "mrr",
        "started_at": "start",
        "ended_at": "end",
        "updated_at": "changed",
    },
}
ACCOUNTS = {"files": "accounts*", "columns": {"account_id": "id", "created_at": "created"}}
FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))

ODD = [
    "",
    " ",
    "1",
    "2",
    "-1",
    "1.5",
    "x",
    "2024-01-01",
    "2024-02-30",
    "2024-01-02T03:04:05+02:00",
    "null",
    "é",
    '"',
    "a,b",
]
messy = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=5))
row = st.fixed_dictionaries(dict.fromkeys(COLUMNS, messy))
good_row = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["s1", "s2", "s3"]),
        "account": st.sampled_from(["1", "2"]),
        "mrr": st.sampled_from(["1.00", "2.50", "-1"]),
        "start": st.sampled_from(["2024-01-01", "2024-02-01"]),
        "end": st.sampled_from(["", "2024-01-15", "2024-03-01"]),
        "changed": st.sampled_from(["2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]),
    }
)


def as_csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def fresh(company_type, folder: str):
    company = company_type(Path(folder))
    company.streams(accounts=ACCOUNTS, subscriptions=SUBSCRIPTIONS)
    company.write("accounts.csv", "id,created\n1,2024-01-01\n2,2024-01-01\n")
    return company


@FEW
@given(rows=st.lists(row, min_size=1, max_size=20), is_json=st.booleans())
def test_read_is_loaded_plus_quarantined_and_a_reload_changes_nothing(company, rows, is_json):
    with tempfile.TemporaryDirectory() as folder:
        own = fresh(type(company), folder)
        own.write(
            "subscriptions.jsonl" if is_json else "subscriptions.csv", as_jsonl(rows) if is_json else as_csv(rows)
        )
        report = own.load()["subscriptions"]
        kept = own.query("select count(*) from raw_files.subscriptions")[0][0]
        held = own.query("select coalesce(sum(_times_in_run), 0)::bigint from quarantine.subscriptions")[0][0]
        assert report.status == "loaded"
        assert report.rows_read == len(rows)
        assert (kept, held) == (report.rows_inserted, report.rows_quarantined)
        assert kept + held + report.rows_superseded == len(rows)
        numbers = own.query("select _row from quarantine.subscriptions")
        first = 1 if is_json else 2
        assert {number for (number,) in numbers} <= set(range(first, first + len(rows)))
        before = own.contents()
        assert own.load()["subscriptions"].status == "unchanged"
        assert own.load(full=True)["subscriptions"].rows_read == len(rows)
        assert own.contents() == before


@FEW
@given(data=st.data(), rows=st.lists(good_row, min_size=1, max_size=12))
def test_any_split_into_files_in_any_order_of_delivery_ends_in_the_same_table(company, data, rows):
    # Versions of one subscription have distinct change dates: which one is the latest is never a toss-up.
    rows = list({(row["id"], row["changed"]): row for row in rows}.values())
    table = "select subscription_id, account_id, mrr, started_at, ended_at, updated_at from raw_files.subscriptions order by all"
    with tempfile.TemporaryDirectory() as folder:
        whole = fresh(type(company), folder)
        whole.write("subscriptions.csv", as_csv(rows))
        whole.load()
        expected = whole.query(table)
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(rows) - 1)), max_size=3)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        split = fresh(type(company), folder)
        for n, part in enumerate(parts):
            split.write(f"subscriptions-{data.draw(st.integers(0, 9))}{n}.csv", as_csv(part))
            if data.draw(st.booleans()):
                split.load()
        split.load()
        assert split.query(table) == expected
