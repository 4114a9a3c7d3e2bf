"""The files connector: folders of CSV, JSON lines or Parquet, plain or compressed, read by DuckDB's own reader.

Lives here: finding new and changed files, and the SQL that reads them. Must not live here: what a row means
(`mapping.py`), where it goes (`load.py`), what one file looks like inside (`file_checks.py`).

A file is new or changed when its size or modification time differs from the ledger's and its content's hash does too.
A file that was moved is known by its hash. A file that is gone takes nothing with it: what it gave stays loaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from core.errors import Fatal, Retriable
from core.settings import SourceConfig, StreamConfig
from core.warehouse import Connection, Error, identifier, literal, rows, scalar
from sources import ledger
from sources.base import Chunk, FileVersion, Progress, StreamId
from sources.file_checks import COMPRESSED, SETTLE_SECONDS, Format, check_complete, csv_header, head, sha256

__all__ = ["SETTLE_SECONDS", "FilesStream", "Found", "find", "format_of", "open_stream"]

CHUNK_BYTES = 512 * 1024 * 1024
"""Most bytes of plain text files that are read in one piece; a byte of a compressed or Parquet file counts four times."""
SMALL_BYTES = 64 * 1024 * 1024
"""Text files of at most so many bytes, counted alike, are read once by one thread, which counts records as it goes. Larger ones
are read by all threads, and those with broken rows once more."""
SAMPLE_FILES = 20
_LOST_CHARACTERS = 10_000
"""DuckDB keeps so much of a rejected record; one that fills it has swallowed the rest of the file."""

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")


@dataclass(frozen=True)
class Found:
    """A file on disk with what `stat` says."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Shape:
    """What files that are read together share: format, columns (Parquet: with their types), CSV delimiter."""

    format: Format
    columns: tuple[str, ...] = ()
    delimiter: str = ""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> FilesStream:
    """The connector's door; see `sources.base.Opener`."""
    assert source.path is not None
    return FilesStream(stream, source.streams[stream.stream], folder=source.path, now=now)


class FilesStream:
    """A stream that reads every new or changed file that its globs match."""

    def __init__(self, stream: StreamId, config: StreamConfig, *, folder: Path, now: datetime) -> None:
        self.id = stream
        self.config = config
        self.folder = folder
        self.now = now
        self._progress = Progress()

    def progress(self) -> Progress:
        """The files that are known by now: read, touched but the same, or moved."""
        return self._progress

    def chunks(self, connection: Connection, *, full: bool, sample_rows: int | None = None) -> Iterator[Chunk]:
        """New and changed files, those with the same columns together, in the order of their paths.

        Raises `Fatal` for a folder or file that is missing, empty, cut off or not of its format, before anything of the
        stream is written; `Retriable` for a file that is still being written, or that changes while it is read.
        """
        known = {} if full else ledger.known_files(connection, self.id)
        found = find(self.folder, self.config.files, label=self.id.label, may_be_none=bool(known))
        if sample_rows is not None:
            whole, found = len(found), _spread(found, SAMPLE_FILES)
            self._progress = Progress(is_partial=len(found) < whole)
        changed = self._changed(found, known)
        if not changed:
            return
        self._open_lookups(connection)
        for shape, versions in self._shapes(connection, changed, known).items():
            # A first delivery in Parquet goes straight into its table. Read in one piece, all its repeated keys are known
            # before, and no row is taken out again: for 10 million events a commit of 0.1 s instead of 22 s.
            at_once = shape.format == "parquet" and not known
            for piece in [versions] if at_once else _pieces(versions):
                yield self._chunk(connection, shape, piece, sample_rows)
                self._check_read(connection, shape, piece)

    # --- which files ---------------------------------------------------------------------------------------------

    def _changed(self, found: list[Found], known: dict[str, FileVersion]) -> list[FileVersion]:
        changed, remembered, moved = [], [], {}
        here = {str(file.path) for file in found}
        gone = {version.sha256: version for path, version in known.items() if path not in here}
        for file in found:
            before = known.get(str(file.path))
            if before is not None and (before.size, before.mtime_ns) == (file.size, file.mtime_ns):
                continue
            age = self.now.replace(tzinfo=UTC).timestamp() - file.mtime_ns / 1e9
            check_complete(file.path, file.size, self._format(file.path), age_seconds=age)
            version = FileVersion(str(file.path), file.size, file.mtime_ns, sha256(file.path))
            if before is not None and before.sha256 == version.sha256:
                remembered.append(replace(version, columns=before.columns))
            elif before is None and version.sha256 in gone:
                origin = gone.pop(version.sha256)
                moved[origin.path] = version.path
                remembered.append(replace(version, columns=origin.columns))
            else:
                changed.append(version)
        self._progress = replace(self._progress, files=tuple(remembered), moved=moved)
        return changed

    def _format(self, path: Path) -> Format:
        return self.config.format or format_of(path)

    def _shapes(
        self, connection: Connection, changed: list[FileVersion], known: dict[str, FileVersion]
    ) -> dict[_Shape, list[FileVersion]]:
        alike: dict[_Shape, list[FileVersion]] = defaultdict(list)
        for version in changed:
            path = Path(version.path)
            format_ = self._format(path)
            if format_ == "csv":
                header = csv_header(path, self.config.csv)
                alike[_Shape("csv", header.columns, header.delimiter)].append(version)
            elif format_ == "parquet":
                alike[_Shape("parquet", self._parquet_columns(connection, path))].append(version)
            else:
                if head(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                    raise Fatal(
                        f"{self.id.label}: {path} holds one JSON array, not one object a line.",
                        hint="Convert it, for example with `jq -c '.[]'`.",
                    )
                alike[_Shape("jsonl")].append(version)
        lines = alike.pop(_Shape("jsonl"), None)
        if lines:
            # A key that is missing from a line, a file or a whole day is NULL; one that no file ever had is a mistake, unless
            # it is among the `fields` that the stream may have.
            keys = self._json_keys(connection, lines)
            seen = {*keys, *self.config.fields, *(name for version in known.values() for name in version.columns)}
            named = [replace(version, columns=keys) for version in lines]
            alike[_Shape("jsonl", tuple(sorted(seen)))] = named
        return alike

    def _parquet_columns(self, connection: Connection, path: Path) -> tuple[str, ...]:
        try:
            described = rows(connection, f"describe select * from read_parquet({literal(str(path))})")
        except Error as error:
            raise Fatal(f"{self.id.label}: {path} is not a readable Parquet file: {_short(error)}") from error
        return tuple(f"{row['column_name']} {row['column_type']}" for row in described)

    def _json_keys(self, connection: Connection, versions: list[FileVersion]) -> tuple[str, ...]:
        lines = f"read_csv({_paths([version.path for version in versions])}, {_LINES}, ignore_errors = true)"
        found = rows(
            connection,
            f"select distinct unnest(json_keys(case when json_valid(line) then line end)) as key from {lines}",
        )
        return tuple(sorted(row["key"] for row in found))

    # --- how they are read ---------------------------------------------------------------------------------------

    def _chunk(
        self, connection: Connection, shape: _Shape, versions: list[FileVersion], sample_rows: int | None
    ) -> Chunk:
        self._progress = replace(self._progress, files=(*self._progress.files, *versions))
        paths = [version.path for version in versions]
        if shape.format != "parquet":
            connection.execute("drop table if exists tenure_rejects; drop table if exists tenure_scans")
        whole = (
            self._reader(shape, paths, first_time=True)
            if sample_rows is None
            else self._sample(connection, shape, paths, sample_rows)
        )
        is_json = shape.format == "jsonl"
        first = 1 if is_json else 2

        def numbered(files: Sequence[str]) -> str:
            if sample_rows is not None:
                again = f"(select * from {whole} where _file in ({', '.join(literal(path) for path in files)}))"
            else:
                again = self._reader(shape, files, first_time=False)
            if shape.format == "parquet":
                return _numbered_by_reader(again) if sample_rows is None else _numbered(again, 1)
            counted = _numbered(again, first, rejected=_REJECTED)
            return _objects(counted, shape.columns, numbered=True) if is_json else counted

        def recounted(relation: str) -> str:
            return _recounted(relation, _REJECTED) if shape.format != "parquet" else relation

        counted = None
        if sample_rows is None and shape.format == "parquet":
            counted = _numbered_by_reader(whole)
        elif sample_rows is None and sum(map(_weight, versions)) <= SMALL_BYTES:
            in_order = _counted(whole, first)
            counted = _objects(in_order, shape.columns, numbered=True) if is_json else in_order
        relation = _objects(whole, shape.columns, numbered=False) if is_json else whole
        is_text = shape.format != "parquet"
        rejects = _REJECTED if is_text else None
        return Chunk(
            relation,
            numbered,
            is_text,
            has_malformed=is_json,
            files=tuple(versions),
            rejects=rejects,
            counted=counted,
            recounted=recounted,
        )

    def _reader(self, shape: _Shape, paths: Sequence[str], *, first_time: bool) -> str:
        """SQL that reads files of one shape. The first reading of text keeps what cannot be read in `tenure_rejects`."""
        if shape.format == "parquet":
            return f"read_parquet({_paths(paths)}, filename = '_file')"
        rejects = "store_rejects = true, rejects_table = 'tenure_rejects', rejects_scan = 'tenure_scans'"
        broken = rejects if first_time else "ignore_errors = true"
        return f"read_csv({_paths(paths)}, {self._reader_options(shape)}, filename = '_file', {broken})"

    def _sample(self, connection: Connection, shape: _Shape, paths: list[str], sample_rows: int) -> str:
        each = max(1, sample_rows // len(paths))
        parts = [f"(select * from {self._reader(shape, [path], first_time=True)} limit {each})" for path in paths]
        connection.execute("create or replace temp table tenure_sample as " + " union all ".join(parts))
        fullest = "select max(n) from (select count(*) as n from tenure_sample group by _file)"
        if scalar(connection, fullest) == each:
            self._progress = replace(self._progress, is_partial=True)
        return "(select * from tenure_sample order by rowid)"

    def _reader_options(self, shape: _Shape) -> str:
        if shape.format == "jsonl":
            return _LINES
        csv = self.config.csv
        return (
            f"auto_detect = false, header = true, quote = {literal(csv.quote)}, escape = {literal(csv.escape)},"
            f" encoding = {literal(csv.encoding)}, delim = {literal(shape.delimiter)}, columns = {_texts(shape.columns)}"
        )

    def _check_read(self, connection: Connection, shape: _Shape, versions: list[FileVersion]) -> None:
        for version in versions:
            stat = Path(version.path).stat()
            if (stat.st_size, stat.st_mtime_ns) != (version.size, version.mtime_ns):
                raise Retriable(f"{self.id.label}: {version.path} changed while it was read.")
        if shape.format == "parquet":
            return
        lost = rows(
            connection,
            "select s.file_path, e.line from tenure_rejects as e join tenure_scans as s using (scan_id, file_id)"
            f" where e.error_type = 'UNQUOTED VALUE' and length(e.csv_line) >= {_LOST_CHARACTERS} limit 1",
        )
        if lost:
            raise Fatal(
                f"{self.id.label}: {lost[0]['file_path']}, record {lost[0]['line']}: a quote is opened and not closed,"
                " so that what follows cannot be told apart.",
                hint='Mend the quote, or set `csv: {quote: ""}` if the file does not quote.',
            )

    def _open_lookups(self, connection: Connection) -> None:
        for name, pattern in self.config.lookups.items():
            found = find(self.folder, (pattern,), label=f"{self.id.label} lookup {name}")
            paths = _paths([str(file.path) for file in found])
            csv = self.config.csv
            reader = {
                "parquet": f"read_parquet({paths}, union_by_name = true)",
                "jsonl": f"read_json({paths}, format = 'newline_delimited', union_by_name = true)",
                "csv": f"read_csv({paths}, header = true, all_varchar = true, union_by_name = true,"
                f" quote = {literal(csv.quote)}, escape = {literal(csv.escape)}, encoding = {literal(csv.encoding)})",
            }[format_of(found[0].path)]
            try:
                connection.execute(f"create or replace temp view {identifier(name)} as select * from {reader}")
            except Error as error:
                raise Fatal(f"{self.id.label}: lookup {name} ({pattern}) cannot be read: {_short(error)}") from error


def find(folder: Path, patterns: tuple[str, ...], *, label: str, may_be_none: bool = False) -> list[Found]:
    """The files below `folder` that match, in the order of their paths.

    Raises `Fatal` when the folder is missing, or nothing matches and `may_be_none` does not allow it.
    """
    if not folder.is_dir():
        raise Fatal(f"{label}: there is no folder {folder}.", hint="Check the source's `path`.")
    paths = {
        path
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file() and not path.name.startswith(".") and path.suffix not in _UNFINISHED
    }
    if not paths and not may_be_none:
        raise Fatal(f"{label}: no file matches {', '.join(patterns)} in {folder}.", hint="Check the stream's `files`.")
    stats = [(path, path.stat()) for path in sorted(paths)]
    return [Found(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def format_of(path: Path) -> Format:
    """The format by the file's ending, below a compression's ending.

    Raises `Fatal` for an ending that says nothing.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    found = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise Fatal(
            f"{path}: the name does not tell its format.", hint="Set `format: csv`, `jsonl` or `parquet` on the stream."
        )
    return found


def _spread(found: list[Found], most: int) -> list[Found]:
    """At most so many files, evenly from the first to the last."""
    if len(found) <= most:
        return found
    return [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]


def _pieces(versions: list[FileVersion]) -> Iterator[list[FileVersion]]:
    piece: list[FileVersion] = []
    size = 0
    for version in versions:
        weight = _weight(version)
        if piece and size + weight > CHUNK_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(version)
        size += weight
    yield piece


def _weight(version: FileVersion) -> int:
    return version.size * (4 if Path(version.path).suffix.lower() in (*COMPRESSED, ".parquet") else 1)


# --- SQL ---------------------------------------------------------------------------------------------------------

# A line of JSON is read as one text column: DuckDB's JSON reader turns a broken line into a row of NULLs, and loses
# the first line after a byte-order mark. It costs 0.6 s instead of 0.4 s for a million lines.
_LINES = "auto_detect = false, header = false, delim = '\x01', quote = '', escape = '', columns = {'line': 'VARCHAR'}"

# A quote that is not closed swallows the lines that follow: each of them counts as a record that could not be read.
_REJECTED = (
    "(select file_path as _file, line as _row, lower(any_value(error_type)) || ': ' || any_value(error_message) as detail,"
    " unnest(case when any_value(error_type) = 'UNQUOTED VALUE' then string_split(any_value(csv_line), chr(10)) else [''] end)"
    " from tenure_rejects join tenure_scans using (scan_id, file_id) group by file_path, line)"
)


def _paths(paths: Sequence[str]) -> str:
    return "[" + ", ".join(literal(path) for path in paths) + "]"


def _texts(names: Sequence[str]) -> str:
    return "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"


def _objects(relation: str, keys: Sequence[str], *, numbered: bool) -> str:
    """Lines of JSON taken apart into text columns; a blank line is none, one that is no object is `_malformed`."""
    row = "_row, " if numbered else ""
    whole = "case when json_valid(line) and json_type(line) = 'OBJECT' then line end as line"
    shape = literal("{" + ", ".join(_quoted(key) + ': "VARCHAR"' for key in keys) + "}")
    fields = f"json_transform(line, {shape})" if keys else "struct_pack(nothing := null)"
    return (
        f"(select v.*, {row}_file, _malformed from (select {row}_file, {fields} as v, line is null as _malformed"
        f" from (select {row}_file, {whole} from {relation} where line is not null)))"
    )


def _quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _numbered(reader: str, first: int, *, rejected: str | None = None) -> str:
    """The reader's rows with `_row`, their number within their file in reading order, counted from `first`.

    Records that were `rejected` count.
    """
    counted = _counted(reader, first)
    return counted if rejected is None else _recounted(counted, rejected)


def _counted(reader: str, first: int) -> str:
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


def _recounted(relation: str, rejected: str) -> str:
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


def _numbered_by_reader(reader: str) -> str:
    """The rows of Parquet files with `_row`: the reader knows it, and need not read what a filter then leaves out."""
    counting = reader.removesuffix(")") + ", file_row_number = true)"
    return f"(select * exclude (file_row_number), file_row_number + 1 as _row from {counting})"


def _short(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())
