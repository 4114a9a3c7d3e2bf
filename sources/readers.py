"""The SQL that reads files of one shape: with DuckDB's own readers, as text or typed, with the number of each record.

Lives here: plain functions from a shape to SQL. Must not live here: which files are read, and what is asked of them beforehand
(`files.py`), what the columns mean (`mapping.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from core.source_settings import CsvOptions
from core.warehouse import identifier, literal
from sources.file_checks import Format
from sources.names import sql_names
from sources.places import Here


@dataclass(frozen=True)
class Shape:
    """What files that are read together share: format, names of columns and those that are `repeated`, for Parquet what DuckDB calls
    them and their types (`read_as`), for CSV how it is written and what to `skip`, where they are read, and whether these are copies."""

    format: Format
    here: Here
    is_copy: bool = False
    columns: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    read_as: tuple[tuple[str, str], ...] = ()
    csv: CsvOptions = field(default_factory=CsvOptions)
    skip: int = 0
    has_repeated_keys: bool = False

    @property
    def names(self) -> dict[str, str]:
        """The names of the columns, with what they are called in SQL."""
        return sql_names(self.columns)


def reader(
    shape: Shape, names: Sequence[str], selected: Mapping[str, str], *, first_time: bool, is_numbered: bool = False
) -> str:
    """SQL that reads files of one shape. The first reading of text keeps what cannot be read in `tenure_rejects`.

    Parquet that `is_numbered` has `file_row_number`, from 0: the reader knows it, and need not read what a filter leaves out.
    """
    listed = f"{paths(shape.here, names)}, filename = {literal(_FILE)}"
    name = f"{shape.here.named(identifier(_FILE))} as _file"
    if shape.format == "parquet":
        number = ", file_row_number = true" if is_numbered else ""
        columns = [*_parquet_columns(shape, selected), *(["file_row_number"] if is_numbered else [])]
        return f"(select {', '.join([*columns, name])} from read_parquet({listed}{number}))"
    rejects = "store_rejects = true, rejects_table = 'tenure_rejects', rejects_scan = 'tenure_scans'"
    broken = rejects if first_time else "ignore_errors = true"
    options = line_options(shape) if shape.format == "jsonl" else _csv_options(shape)
    return f"(select * exclude ({identifier(_FILE)}), {name} from read_csv({listed}, {options}, {broken}))"


# A line of JSON is read as one text column: DuckDB's JSON reader turns a broken line into a row of NULLs, and loses
# the first line after a byte-order mark. It costs 0.6 s instead of 0.4 s for a million lines.
_LINES = "auto_detect = false, header = false, delim = '\x01', quote = '', escape = '', columns = {'line': 'VARCHAR'}"
_PLAIN = ", compression = 'none'"
"""A copy is not compressed, though its name may say so."""


_FILE = "tenure: the file that a row is of"
"""What readers call the column, which files have none of; `_file` they may have."""


def paths(here: Here, names: Sequence[str]) -> str:
    return "[" + ", ".join(literal(str(here.path(name))) for name in names) + "]"


def line_options(shape: Shape) -> str:
    return f"{_LINES}{_PLAIN}" if shape.is_copy else _LINES


def _csv_options(shape: Shape) -> str:
    csv = shape.csv
    return (
        f"auto_detect = false, header = true, quote = {literal(csv.quote)}, escape = {literal(csv.escape)},"
        f" encoding = {literal(csv.encoding)}, delim = {literal(csv.delimiter)}, skip = {shape.skip},"
        f" columns = {_texts(tuple(shape.names.values()))}{_PLAIN if shape.is_copy else ''}"
    )


def _parquet_columns(shape: Shape, selected: Mapping[str, str]) -> list[str]:
    """SQL of the columns that a mapping reads. Text that is not marked as such, as Spark, Hive and Impala write it, is decoded."""
    read_as = dict(zip(shape.columns, (name for name, _ in shape.read_as), strict=True))
    as_bytes = bytes_in(shape, selected)
    columns = [
        f"{f'try(decode({identifier(read_as[name])}))' if name in as_bytes else identifier(read_as[name])} as {identifier(sql)}"
        for name, sql in selected.items()
    ]
    found = {
        name: f"{column} is not null and try(decode({column})) is null"
        for name in as_bytes
        for column in [identifier(read_as[name])]
    }
    listed = ", ".join(
        f"case when {is_bad} then {{'name': {literal(selected[name])}, 'detail': {literal(f'{name} is not text but bytes: ')}"
        f" || left(hex({identifier(read_as[name])}), 60)}} end"
        for name, is_bad in found.items()
    )
    unreadable = f"case when {' or '.join(found.values())} then list_filter([{listed}], lambda u: u is not null) end"
    return [*columns, f"{unreadable} as _unreadable"] if found else columns


def bytes_in(shape: Shape, selected: Mapping[str, str]) -> list[str]:
    """Those of the selected columns that are kept as bytes."""
    return [
        name
        for name, (_, kind) in zip(shape.columns, shape.read_as, strict=True)
        if kind == "BLOB" and name in selected
    ]


# A quote that is not closed swallows the lines that follow: each of them counts as a record that could not be read.
def rejected(here: Here) -> str:
    return (
        f"(select {here.named('file_path')} as _file, line as _row,"
        " lower(any_value(error_type)) || ': ' || any_value(error_message) as detail,"
        " unnest(case when any_value(error_type) = 'UNQUOTED VALUE' then string_split(any_value(csv_line), chr(10)) else [''] end)"
        " from tenure_rejects join tenure_scans using (scan_id, file_id) group by file_path, line)"
    )


def _texts(names: Sequence[str]) -> str:
    return "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"


def objects(
    relation: str, names: Mapping[str, str], *, numbered: bool, has_repeated_keys: bool, with_comma: Collection[str]
) -> str:
    """Lines of JSON taken apart into text columns; a blank line is none, one that is no object is `_malformed`.

    `names` are the keys that are read, with what they are called in SQL. DuckDB takes keys that differ in case for one name, so each
    of these is in another part. Of a key that an object has twice, the last value holds, as for most readers of JSON. Numbers of keys
    `with_comma`, which may hold texts with a decimal comma, are written with one too: JSON's own have a decimal point.
    """
    row = "_row, " if numbered else ""
    whole = "case when json_valid(line) and json_type(line) = 'OBJECT' then line end as line"
    line = f"case when {_TWICE} then {_LAST} else line end" if has_repeated_keys else "line"
    parts: list[dict[str, str]] = []
    for key, sql in names.items():
        part = next((one for one in parts if key.lower() not in map(str.lower, one)), None)
        if part is None:
            parts.append(part := {})
        part[key] = sql
    shapes = [literal(json.dumps(dict.fromkeys(part, "VARCHAR"), ensure_ascii=False)) for part in parts]
    fields = "".join(f", json_transform({line}, {shape}) as v{n}" for n, shape in enumerate(shapes))
    rewritten = [key for key in names if key in with_comma]
    fields += "".join(
        f", json_type({line}, {literal(path_of(key))}) = 'DOUBLE' as is_number{n}" for n, key in enumerate(rewritten)
    )
    values = {key: f"v{n}.{identifier(key)}" for n, part in enumerate(parts) for key in part}
    for n, key in enumerate(rewritten):
        values[key] = f"case when is_number{n} then replace({values[key]}, '.', ',') else {values[key]} end"
    columns = "".join(f"{values[key]} as {identifier(sql)}, " for part in parts for key, sql in part.items())
    return (
        f"(select {columns}{row}_file, _malformed from (select {row}_file, line is null as _malformed{fields}"
        f" from (select {row}_file, {whole} from {relation} where line is not null)))"
    )


def path_of(key: str) -> str:
    """JSON's path of a key."""
    return "$." + json.dumps(key, ensure_ascii=False)


_TWICE = "len(json_keys(line)) <> list_unique(json_keys(line))"
_LAST = (
    "cast(to_json(map(list_distinct(json_keys(line)), list_transform(list_distinct(json_keys(line)), lambda key:"
    " json_extract(line, '$.*')[len(json_keys(line)) - list_position(list_reverse(json_keys(line)), key) + 1]))) as varchar)"
)
"""SQL of an object with each of its keys once, and the last of its values."""


def numbered(reader: str, first: int, *, rejected: str | None = None) -> str:
    """The reader's rows with `_row`, their number within their file in reading order, counted from `first`.

    Records that were `rejected` count.
    """
    in_order = counted(reader, first)
    return in_order if rejected is None else recounted(in_order, rejected)


def counted(reader: str, first: int) -> str:
    """The reader's rows with `_row`, as if no record had been rejected.

    Windows over all rows so far make DuckDB read the files in order, one after the other, and keep nothing back: 200,000
    records in half the time of a window for each file.
    """
    start = "case when _file is distinct from lag(_file) over () then _at end"
    return (
        "(select * exclude (_at, _start),"
        f" _at - max(_start) over (rows between unbounded preceding and current row) + {first} as _row"
        f" from (select *, {start} as _start from (select *, row_number() over () as _at from {reader})))"
    )


def recounted(relation: str, rejected: str) -> str:
    """Rows that were `_counted`, with the records before them that were rejected.

    Reject i (from 1) of a file, with number l, stands before the accepted row that was counted as n when n > l - i.
    """
    once = f"(select distinct _file, _row from {rejected})"
    gaps = (
        f"(select _file, _row - i as before, max(i) as rejects from"
        f" (select _file, _row, row_number() over (partition by _file order by _row) as i from {once})"
        " group by _file, before)"
    )
    return (
        "(select r.* exclude (_row), r._row + coalesce(g.rejects, 0) as _row"
        f" from {relation} as r asof left join {gaps} as g on g._file = r._file and r._row > g.before)"
    )


def from_one(reader: str) -> str:
    """The rows of a reader that `is_numbered`, with `_row`, which counts from one."""
    return f"(select * exclude (file_row_number), file_row_number + 1 as _row from {reader})"
