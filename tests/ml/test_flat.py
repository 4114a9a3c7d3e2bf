"""A flat file as a data set: its id, label, time, the fate of its columns, and sentences for what is wrong."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UserError
from ml import flat, leaks

Write = Callable[..., Path]


def customers(rows: int = 400, *, seed: int = 1) -> pd.DataFrame:
    """Customers of whom the dear and the new leave more often."""
    random = np.random.default_rng(seed)
    tenure = random.integers(1, 60, rows)
    price = random.uniform(5, 100, rows)
    risk = 1 / (1 + np.exp(0.08 * tenure - 0.03 * price))
    return pd.DataFrame(
        {
            "customer_id": [f"c{i:05d}" for i in range(rows)],
            "tenure": tenure,
            "price": price,
            "plan": random.choice(["basic", "plus", "pro"], rows),
            "churned": np.where(random.random(rows) < risk, "yes", "no"),
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(frame: pd.DataFrame, name: str = "t.csv") -> Path:
        path = tmp_path / name
        if name.endswith(".parquet"):
            frame.to_parquet(path, index=False)
        elif name.endswith(".jsonl"):
            frame.to_json(path, orient="records", lines=True)
        elif name.endswith(".zst"):
            with pa.output_stream(str(path), compression="zstd") as stream:
                stream.write(frame.to_csv(index=False).encode())
        else:
            frame.to_csv(path, index=False)
        return path

    return to


def prepare(path: Path, **options: Any) -> flat.Prepared:
    return flat.prepare(path, **{"label": "churned", "id": "customer_id", **options})


def fate(prepared: flat.Prepared, column: str) -> flat.Fate:
    return next(one for one in prepared.fates if one.column == column)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zst", "t.parquet", "t.jsonl"])
def test_every_format_gives_the_same_data(write: Write, name: str) -> None:
    frame = customers()
    prepared = prepare(write(frame, name))
    assert prepared.data.content_hash() == prepare(write(frame, "other.csv")).data.content_hash()
    assert prepared.data.events == int((frame["churned"] == "yes").sum())


def test_a_table_of_messy_types_is_understood(write: Write) -> None:
    frame = customers()
    rows = np.arange(len(frame))
    frame["fee"] = [f"$ {v:,.2f}" if v > 20 else "NA" for v in frame["price"] * 100]
    frame["share"] = [f"{v % 97} %" for v in rows]
    frame["vip"] = np.where(rows % 3 == 0, "Y", "N")
    frame["joined"] = pd.date_range("2020-01-01", periods=len(frame)).strftime("%d/%m/%Y")
    frame["blank"] = " "
    frame["same"] = 1
    frame["note"] = [f"called on day {v} about things" for v in rows]
    frame["RowNumber"] = rows + 1
    frame["accountKey"] = rows * 7 + 100
    frame["balance_cents"] = np.random.default_rng(0).permutation(len(frame)) * 13 + 5
    prepared = prepare(write(frame))
    became = {one.column: one.became for one in prepared.fates if one.role == "used"}
    assert became == {
        "tenure": "number",
        "price": "number",
        "plan": "category of 3",
        "fee": "number",
        "share": "number",
        "vip": "yes or no",
        "joined": "days before 2021-02-03",
        "balance_cents": "number",
    }
    assert {one.column: one.note for one in prepared.fates if one.role == "left out"} == {
        "blank": "is empty in every row",
        "same": "has the same value in every row",
        "note": "is an identifier: a text of its own for every customer",
        "RowNumber": "is an identifier: a number of its own for every customer",
        "accountKey": "is an identifier: a number of its own for every customer",
    }
    assert [one.column for one in prepared.fates] == list(frame.columns)


def test_csv_with_semicolons_decimal_commas_and_latin_letters_is_read(tmp_path: Path) -> None:
    frame = customers()
    frame["price"] = [f"{v:.2f}".replace(".", ",") for v in frame["price"]]
    frame["plan"] = frame["plan"].replace("pro", "größe")
    path = tmp_path / "t.csv"
    frame.to_csv(path, sep=";", index=False, encoding="latin-1")
    prepared = prepare(path)
    assert fate(prepared, "price").became == "number"
    assert "größe" in list(prepared.data.features["plan"].cat.categories)


@pytest.mark.parametrize(
    ("stayed", "left", "name"),
    [
        ("no", "yes", "churned"),
        ("False", "True", "churned"),
        ("0", "1", "Exited"),
        ("Stayed", "Churned", "Customer Status"),
        ("Existing Customer", "Attrited Customer", "Attrition_Flag"),
        ("active", "cancelled", "status"),
        ("active", "zzz", "status"),
        ("1", "0", "is_active"),
        ("yes", "no", "retained"),
    ],
)
def test_which_value_means_left_is_known_from_words_and_names(write: Write, stayed: str, left: str, name: str) -> None:
    frame = customers()
    frame[name] = frame.pop("churned").map({"no": stayed, "yes": left})
    prepared = prepare(write(frame), label=name)
    assert prepared.plan.left == left
    assert prepared.data.events == int((frame[name] == left).sum())


def test_when_no_value_says_it_the_rarer_one_is_taken_and_told(write: Write) -> None:
    frame = customers()
    frame["churned"] = np.where(np.arange(len(frame)) % 4 == 0, "red", "blue")
    prepared = prepare(write(frame))
    assert prepared.plan.left == "red"
    assert prepared.notes == ("Neither value of churned says who left; 'red', the rarer one, is taken to mean that.",)


def test_rows_without_a_label_are_left_out_and_counted(write: Write) -> None:
    frame = customers()
    frame.loc[:6, "churned"] = None
    prepared = prepare(write(frame))
    assert len(prepared.data) == len(frame) - 7
    assert prepared.rows_without_label == 7
    assert "7 rows have no churned and are left out." in prepared.notes


def test_leaks_are_left_out_or_named_and_can_be_kept(write: Write) -> None:
    frame = customers(800)
    left = (frame["churned"] == "yes").to_numpy()
    random = np.random.default_rng(3)
    frame["copy"] = np.where(left, "b", "a")
    frame["final_balance"] = np.where(left, random.normal(10, 1, 800), random.normal(-10, 1, 800))
    frame["exit_reason"] = np.where(left, random.choice(["price", "service"], 800), "")
    frame["survey"] = np.where(left & (random.random(800) < 0.3), random.integers(1, 5, 800).astype(str), "")
    frame["next_renewal"] = np.where(left, "", "2024-01-01")
    frame["churn_score"] = np.where(left, random.normal(70, 8, 800), random.normal(40, 8, 800))
    frame["strong"] = np.where(left, random.normal(1.2, 0.8, 800), random.normal(-1.2, 0.8, 800))
    frame["refunds"] = np.where(left & (random.random(800) < 0.4), 1, 0)
    frame["cltv"] = random.normal(size=800)
    prepared = prepare(write(frame))
    verdicts = {one.name: one.verdict for one in prepared.suspects}
    assert verdicts == {
        "copy": "left out",
        "final_balance": "left out",
        "exit_reason": "left out",
        "survey": "left out",
        "next_renewal": "left out",
        "churn_score": "left out",
        "strong": "kept",
        "refunds": "kept",
        "cltv": "kept",
    }
    assert "is filled only for customers who left" in fate(prepared, "exit_reason").note
    assert "strong" in prepared.data.features
    assert "copy" not in prepared.data.features
    kept = prepare(write(frame), keep=["copy", "exit_reason"], drop=["strong"])
    assert {"copy", "exit_reason"} <= set(kept.data.features)
    assert fate(kept, "strong").note == "was left out with --drop"


def test_honest_columns_are_no_suspects(write: Write) -> None:
    assert prepare(write(customers(3000))).suspects == ()


@pytest.mark.parametrize(
    "name", ["churn_date", "CancelledAt", "exit_reason", "Churn Score", "CLTV", "end_date", "leftOn"]
)
def test_names_that_speak_of_the_future_are_known(name: str) -> None:
    assert leaks.says_future(name)


@pytest.mark.parametrize("name", ["tenure", "last_login_at", "price", "brand", "credit_score", "send_date", "weekday"])
def test_names_that_do_not_are_left_alone(name: str) -> None:
    assert not leaks.says_future(name)


def test_with_time_an_id_may_come_again_on_another_day(write: Write) -> None:
    frame = pd.concat([customers().assign(day=day) for day in ("2024-01-01", "2024-02-01")])
    prepared = prepare(write(frame), time="day")
    assert len(prepared.data) == 800
    assert fate(prepared, "day").became == "2 dates, 2024-01-01 to 2024-02-01"
    with pytest.raises(UserError, match="400 rows repeat the customer_id of another row, such as c00000"):
        prepare(write(frame))
    with pytest.raises(
        UserError, match="1 row repeats the customer_id of another row with the same day, such as c00000"
    ):
        prepare(write(pd.concat([frame, frame.head(1)])), time="day")


def bad(**changes: Any) -> pd.DataFrame:
    frame = customers()
    for name, values in changes.items():
        frame[name] = values
    return frame


@pytest.mark.parametrize(
    ("frame", "options", "sentence"),
    [
        (customers(), {"label": "churn"}, "t.csv has no column 'churn' (--label)."),
        (customers(), {"id": "id"}, "t.csv has no column 'id' (--id)."),
        (customers(), {"drop": ["nope"]}, "t.csv has no column 'nope' (--drop)."),
        (bad(day=None), {"time": "day"}, "400 of 400 rows have no date in day."),
        (customers(), {"time": "tenure"}, "400 of 400 rows have no date in tenure, such as"),
        (customers(), {"time": "customer_id", "id": "customer_id"}, "--label, --id and --time have to name different"),
        (customers(), {"drop": ["plan"], "keep": ["plan"]}, "plan cannot be dropped and kept."),
        (bad(churned="yes"), {}, "The label churned has one value only ('yes')."),
        (bad(churned=None), {}, "The label churned is empty in every row."),
        (bad(churned=["a", "b", "c", "d"] * 100), {}, "The label churned has 4 values (a, b, c, d); a label has two."),
        (bad(customer_id="x"), {}, "399 rows repeat the customer_id of another row, such as x."),
        (bad(customer_id=[None, *range(399)]), {}, "1 row of 400 has no customer_id."),
        (customers(10), {}, "t.csv has 10 rows with a label, of which"),
        (customers().head(0), {}, "t.csv has a header but no rows."),
        (
            customers()[["customer_id", "churned"]],
            {},
            "No column is left to learn from: there is only the id and the label",
        ),
        (
            customers().assign(day="01/02/2024"),
            {"time": "day"},
            "In day day and month cannot be told apart (01/02/2024).",
        ),
    ],
)
def test_bad_tables_are_told_in_one_sentence(
    write: Write, frame: pd.DataFrame, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        prepare(write(frame), **options)
    assert error.value.message.startswith(sentence)
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"", "is empty (0 bytes)"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", "cannot be read"),
        ("t.csv", b'a,b\n1,"2\n', "cannot be read"),
        ("t.csv", b"\x00\x01\x02", "has no header line"),
        ("t.parquet", b"no parquet", "is not a whole Parquet file"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 50_000, mtime=0)[:-20], "cannot be read"),
        ("t.csv.zst", b"nonsense", "cannot be read"),
        ("t.jsonl", b"{nonsense", "cannot be read"),
        ("t.xlsx", b"x", "has no ending that says what it is"),
    ],
)
def test_broken_files_are_told_in_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence.replace("(", "[(]").replace(")", "[)]")) as error:
        prepare(path)
    assert "\n" not in error.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        prepare(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["a[1].csv", "it's.csv", "a*b.csv", "sp ace.csv"])
def test_a_file_may_be_called_anything(write: Write, name: str) -> None:
    write(customers(50), "a1.csv")
    assert len(prepare(write(customers(), name)).data) == 400


def test_columns_may_be_called_anything(write: Write) -> None:
    frame = customers().rename(columns={"tenure": "te\"nu're, <b>", "price": "label", "plan": "select"})
    frame.insert(1, "", 5.5 * np.arange(len(frame)) % 17)
    prepared = prepare(write(frame))
    assert {"te\"nu're, <b>", "label", "select"} <= set(prepared.data.features)


CELL = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "NA", "yes", "no", "1", "0", "1,5", "$ 3", "2024-01-01", "31/12/2020", "x", "-", "9" * 400, "∞"]
    ),
    st.text(max_size=8),
    st.floats(allow_nan=True).map(str),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_tables_end_in_data_or_in_a_sentence(write: Write, data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 120))
    names = data.draw(
        st.lists(st.sampled_from(["a", "b", "c", "id", "y", "t", "A b"]), min_size=1, max_size=6, unique=True)
    )
    frame = pd.DataFrame({"id": range(rows), "y": [str(i % 2) for i in range(rows)]})
    for name in names:
        # A few cells, repeated: columns that look like something, and columns that do not.
        cells = data.draw(st.lists(CELL, min_size=1, max_size=12))
        frame[name] = [cells[(place * 7 + place // 5) % len(cells)] for place in range(rows)]
    kind = data.draw(st.sampled_from(["t.csv", "t.parquet", "t.jsonl"]))
    path = write(frame.astype(dict.fromkeys(names, object)), kind)
    with contextlib.suppress(UserError):
        prepared = prepare(path, label="y", id="id", time=data.draw(st.sampled_from([None, "t"])))
        assert np.isfinite(prepared.data.labels).all()
        assert set(prepared.data.features.columns) == {one.column for one in prepared.fates if one.role == "used"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["t.csv", "t.jsonl", "t.parquet", "t.csv.gz"]))
def test_random_bytes_end_in_a_sentence(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError):
        prepare(path, label="y", id="id")
