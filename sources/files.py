"""The files connector: folders of CSV, JSON lines, Parquet or Excel workbooks, plain or compressed, read by DuckDB's own reader.

Lives here: which files are new or changed, and which are read together. Must not live here: where files lie and how they come here
(`places.py`, `bucket.py`), copies of what DuckDB cannot read (`copies.py`), the SQL that reads them (`readers.py`), what a row means
(`mapping.py`), where it goes (`load.py`), what one file looks like inside (`file_checks.py`).

A file is looked at when its size or modification time (of an object: its e-tag) differs from the ledger's, and read when no file is known
that held the same (`contents.py`). A file that is gone takes nothing with it: what it gave stays loaded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from core import scratch
from core.errors import Fatal, TenureError, in_short
from core.source_settings import CsvOptions, FilesSource, SourceConfig, StreamConfig
from core.warehouse import Connection, Error, identifier, literal, rows, scalar
from sources import ledger, numbers, readers
from sources.base import Chunk, FileVersion, Progress, StreamId
from sources.contents import Contents
from sources.copies import Copies
from sources.file_checks import COMPRESSED, Format, check_complete, content_hash, csv_header, head, unique
from sources.mapping import effective_columns
from sources.names import wanted
from sources.places import Found, Here, Place, open_place
from sources.readers import Shape

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
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "excel"),
}


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> FilesStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, FilesSource)
    scratch.clear(temp_directory)
    place = open_place(source, temp_directory=temp_directory)
    return FilesStream(stream, source.streams[stream.stream], place=place, now=now, temp_directory=temp_directory)


class FilesStream:
    """A stream that reads every new or changed file that its globs match."""

    def __init__(
        self, stream: StreamId, config: StreamConfig, *, place: Place, now: datetime, temp_directory: Path
    ) -> None:
        self.id = stream
        self.config = config
        self.place = place
        self.now = now
        self._temp_directory = temp_directory
        self._here = Here()
        self._wanted: frozenset[str] | None = None
        self._contents = Contents({}, (), may_return=False)
        self._is_partial = False
        self._with_comma = numbers.with_comma(stream.entity, config)

    def progress(self) -> Progress:
        """The files that are known by now: read, touched but the same, moved, or copies."""
        known = self._contents
        return Progress(
            files=tuple(known.files.values()),
            moves=tuple(known.moves),
            is_partial=self._is_partial,
            warnings=known.warnings,
        )

    def find(self, *, may_be_none: bool = False) -> list[Found]:
        """All files that the stream's globs match, in the order of their names. Raises as `Place.find`."""
        return self.place.find(self.config.files, label=self.id.label, may_be_none=may_be_none)

    def chunks(
        self, connection: Connection, *, full: bool, sample_rows: int | None = None
    ) -> Generator[Chunk, None, None]:
        """New and changed files, those with the same columns together, in the order of their names.

        Raises `Fatal` for a place or file that is missing, empty, cut off or not of its format; `Retriable` for a file that is
        still being written, or that changes while it is read.
        """
        known = {} if full else ledger.known_files(connection, self.id)
        found = self.find(may_be_none=bool(known))
        if sample_rows is not None:
            whole, found = len(found), _spread(found, most_bytes=CHUNK_BYTES if self.place.is_far else math.inf)
            self._is_partial = len(found) < whole
        self._contents = Contents(known, (file.path for file in found), may_return=self._may_return)
        changed = [file.unread() for file in found if not _is_same(self._contents.before(file.path), file)]
        if not changed:
            return
        self._open_lookups(connection)
        self._wanted = wanted(connection, self.config)
        for batch in self._batches(changed):
            with (
                self.place.here(batch, label=self.id.label) as self._here,
                Copies(self._here, self._temp_directory) as copies,
            ):
                to_read = self._contents.settle([self._looked_into(file) for file in batch])
                yield from self._read(connection, to_read, known, sample_rows, copies)

    @property
    def _may_return(self) -> bool:
        """Whether what a file holds may be a state that is told again: rows with keys that last, and do not tell their version."""
        has_key = self.id.entity.key in effective_columns(self.id.entity, self.config)
        return has_key and "updated_at" in self.id.entity.column_names and "updated_at" not in self.config.columns

    def _looked_into(self, file: FileVersion) -> FileVersion:
        """A file with the hash of what it holds. Raises as `check_complete`."""
        here, format_ = self._here.path(file.path), self._format(file.path)
        # An object is there when its upload is complete, however young it is.
        age = math.inf if self.place.is_far else self.now.replace(tzinfo=UTC).timestamp() - file.mtime_ns / 1e9
        content = content_hash(here, format_)
        check_complete(here, file.size, format_, age_seconds=age, name=file.path, is_cut=content is None)
        return replace(file, content=content or "")

    def _read(
        self,
        connection: Connection,
        batch: list[FileVersion],
        known: dict[str, FileVersion],
        sample_rows: int | None,
        copies: Copies,
    ) -> Iterator[Chunk]:
        """Files that are here."""
        for shape, versions in self._shapes(connection, batch, known, copies).items():
            # A first delivery in Parquet goes straight into its table. Read in one piece, all its repeated keys are known
            # before, and no row is taken out again: for 10 million events a commit of 0.1 s instead of 22 s.
            at_once = shape.format == "parquet" and not known
            for piece in [versions] if at_once else _pieces(versions):
                yield self._chunk(connection, shape, piece, sample_rows)
                self._check_read(connection, shape, piece)
                if sample_rows is not None:
                    connection.execute("drop table temp.tenure_sample")

    def _batches(self, changed: list[FileVersion]) -> list[list[FileVersion]]:
        """What is here at the same time: all that is here anyway, or as much of a bucket as is read in one piece.

        Of a bucket the newest come first: they have the keys of JSON that came up in the meantime, which older ones may lack.
        """
        return list(_pieces(changed))[::-1] if self.place.is_far else [changed]

    # --- which files ---------------------------------------------------------------------------------------------

    def _format(self, path: str) -> Format:
        return self.config.format or format_of(path)

    def _shapes(
        self, connection: Connection, changed: list[FileVersion], known: dict[str, FileVersion], copies: Copies
    ) -> dict[Shape, list[FileVersion]]:
        alike: dict[Shape, list[FileVersion]] = defaultdict(list)
        lines: dict[Shape, list[FileVersion]] = defaultdict(list)
        for version in changed:
            try:
                shape, is_lines = self._shape(connection, version.path, copies)
            except TenureError:
                raise
            except Exception as error:
                told = self._here.told(in_short(error))
                raise Fatal(f"{self.id.label}: {version.path} cannot be read: {told}") from error
            (lines if is_lines else alike)[shape].append(version)
        if lines:
            # A key that is missing from a line, a file or a whole day is NULL; one that no file ever had is a mistake, unless
            # it is among the `fields` that the stream may have.
            found = {shape: self._json_keys(connection, shape, versions) for shape, versions in lines.items()}
            keys = tuple(sorted(set().union(*(keys for keys, _ in found.values()))))
            earlier = {
                name for version in (*known.values(), *self._contents.files.values()) for name in version.columns
            }
            seen = tuple(sorted({*keys, *self.config.fields, *earlier}))
            for shape, versions in lines.items():
                whole = replace(shape, columns=seen, has_repeated_keys=found[shape][1])
                alike[whole] = [replace(version, columns=keys) for version in versions]
        return alike

    def _shape(self, connection: Connection, name: str, copies: Copies) -> tuple[Shape, bool]:
        """What a file looks like inside, and whether it holds lines of JSON, whose keys are yet to be found."""
        format_ = self._format(name)
        copied = copies.of(name, format_, self.config)
        shape = Shape(format_, copied or self._here, is_copy=copied is not None)
        if format_ == "parquet":
            return self._parquet(connection, shape, name), False
        if format_ == "jsonl":
            self._check_lines(shape, name)
            return shape, True
        return self._text(shape, name), False

    def _text(self, shape: Shape, name: str) -> Shape:
        given = self.config.csv if shape.format == "csv" else CsvOptions(delimiter=",")
        if shape.is_copy:
            given = given.model_copy(update={"encoding": given.encoding if given.encoding == "latin-1" else "utf-8"})
        header = csv_header(shape.here.path(name), given, name=name, is_copy=shape.is_copy)
        options = given.model_copy(update={"delimiter": header.delimiter})
        return replace(shape, columns=header.columns, repeated=header.repeated, csv=options, skip=header.skip)

    def _parquet(self, connection: Connection, shape: Shape, name: str) -> Shape:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            path = self._here.path(name)
            described = rows(connection, f"describe select * from read_parquet([{literal(str(path))}])")
            columns, repeated = unique(pq.read_schema(path).names)
        except (Error, pa.ArrowInvalid) as error:
            told = self._here.told(_short(error))
            raise Fatal(f"{self.id.label}: {name} is not a readable Parquet file: {told}") from error
        read_as = tuple((str(row["column_name"]), str(row["column_type"])) for row in described)
        return replace(shape, columns=columns, repeated=repeated, read_as=read_as)

    def _check_lines(self, shape: Shape, name: str) -> None:
        if head(shape.here.path(name), is_copy=shape.is_copy).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            raise Fatal(
                f"{self.id.label}: {name} holds one JSON array, not one object a line.",
                hint="Convert it, for example with `jq -c '.[]'`.",
            )

    def _json_keys(
        self, connection: Connection, shape: Shape, versions: list[FileVersion]
    ) -> tuple[frozenset[str], bool]:
        """The keys of all objects, and whether one stands twice in any."""
        lines = f"read_csv({readers.paths(shape.here, [v.path for v in versions])}, {readers.line_options(shape)}, ignore_errors = true)"
        kinds = f"select distinct json_keys(case when json_valid(line) then line end) as keys from {lines}"
        found = rows(
            connection,
            f"select list_distinct(flatten(list(keys))) as keys, bool_or(len(keys) <> list_unique(keys)) as any_twice from ({kinds})",
        )[0]
        return frozenset(found["keys"] or ()), bool(found["any_twice"])

    # --- how they are read ---------------------------------------------------------------------------------------

    def _chunk(
        self, connection: Connection, shape: Shape, versions: list[FileVersion], sample_rows: int | None
    ) -> Chunk:
        self._contents.read(versions)
        paths = [version.path for version in versions]
        if shape.format != "parquet":
            connection.execute("drop table if exists tenure_rejects; drop table if exists tenure_scans")
        whole = (
            self._reader(shape, paths) if sample_rows is None else self._sample(connection, shape, paths, sample_rows)
        )
        is_json, is_parquet = shape.format == "jsonl", shape.format == "parquet"
        first = 1 if is_json else 2 + shape.skip
        rejected = readers.rejected(shape.here)
        self._check_repeated(shape, paths)

        def objects(lines: str, *, numbered: bool) -> str:
            return readers.objects(
                lines,
                self._selected(shape),
                numbered=numbered,
                has_repeated_keys=shape.has_repeated_keys,
                with_comma=self._with_comma,
            )

        def quoted(name: str) -> bool:
            keys = [literal(readers.path_of(key)) for key, sql in shape.names.items() if sql == name]
            texts = " or ".join(f"json_type(line, {key}) = 'VARCHAR'" for key in keys) or "false"
            return scalar(connection, f"select 1 from {whole} where json_valid(line) and ({texts}) limit 1") is not None

        def numbered(files: Sequence[str]) -> str:
            if sample_rows is not None:
                again = f"(select * from {whole} where _file in ({', '.join(literal(path) for path in files)}))"
            else:
                again = self._reader(shape, files, first_time=False, is_numbered=is_parquet)
            if is_parquet:
                return readers.from_one(again) if sample_rows is None else readers.numbered(again, 1)
            counted = readers.numbered(again, first, rejected=rejected)
            return objects(counted, numbered=True) if is_json else counted

        def recounted(relation: str) -> str:
            return relation if is_parquet else readers.recounted(relation, rejected)

        counted = None
        if sample_rows is None and is_parquet:
            counted = readers.from_one(self._reader(shape, paths, is_numbered=True))
        elif sample_rows is None and sum(map(_weight, versions)) <= SMALL_BYTES:
            in_order = readers.counted(whole, first)
            counted = objects(in_order, numbered=True) if is_json else in_order
        return Chunk(
            objects(whole, numbered=False) if is_json else whole,
            numbered,
            is_text=not is_parquet,
            has_malformed=is_json,
            files=tuple(versions),
            rejects=None if is_parquet else rejected,
            counted=counted,
            recounted=recounted,
            told=shape.here.told,
            names=shape.names,
            quoted=quoted if is_json else None,
            has_unreadable=is_parquet and bool(readers.bytes_in(shape, self._selected(shape))),
        )

    def _selected(self, shape: Shape) -> dict[str, str]:
        """The columns that the mapping reads, with what they are called in SQL."""
        return {name: sql for name, sql in shape.names.items() if self._wanted is None or name in self._wanted}

    def _check_repeated(self, shape: Shape, paths: Sequence[str]) -> None:
        meant = sorted({*shape.repeated} & (self._wanted or frozenset()))
        if meant:
            raise Fatal(
                f"{self.id.label}: {paths[0]} has more than one column called {meant[0]}, which the mapping reads.",
                hint=f"Rename one of them in the file, or write `{meant[0]} (1)` for the first, `{meant[0]} (2)` for the second.",
            )

    def _reader(self, shape: Shape, paths: Sequence[str], *, first_time: bool = True, is_numbered: bool = False) -> str:
        return readers.reader(shape, paths, self._selected(shape), first_time=first_time, is_numbered=is_numbered)

    def _sample(self, connection: Connection, shape: Shape, paths: list[str], sample_rows: int) -> str:
        each = max(1, sample_rows // len(paths))
        parts = [f"(select * from {self._reader(shape, [path])} limit {each})" for path in paths]
        connection.execute("create or replace temp table tenure_sample as " + " union all ".join(parts))
        fullest = "select max(n) from (select count(*) as n from tenure_sample group by _file)"
        if scalar(connection, fullest) == each:
            self._is_partial = True
        return "(select * from tenure_sample order by rowid)"

    def _check_read(self, connection: Connection, shape: Shape, versions: list[FileVersion]) -> None:
        self.place.check_unchanged(versions, label=self.id.label)
        if shape.format == "parquet":
            return
        lost = rows(
            connection,
            f"select {shape.here.named('s.file_path')} as file, e.line"
            " from tenure_rejects as e join tenure_scans as s using (scan_id, file_id)"
            f" where e.error_type = 'UNQUOTED VALUE' and length(e.csv_line) >= {_LOST_CHARACTERS} limit 1",
        )
        if lost:
            raise Fatal(
                f"{self.id.label}: {lost[0]['file']}, record {lost[0]['line']}: a quote is opened and not closed,"
                " so that what follows cannot be told apart.",
                hint='Mend the quote, or set `csv: {quote: ""}` if the file does not quote.',
            )

    def _open_lookups(self, connection: Connection) -> None:
        for name, pattern in self.config.lookups.items():
            label = f"{self.id.label} lookup {name}"
            found = self.place.find((pattern,), label=label)
            with (
                self.place.here([file.unread() for file in found], label=label) as self._here,
                Copies(self._here, self._temp_directory) as copies,
            ):
                self._open_lookup(connection, name, pattern, [file.path for file in found], copies)

    def _open_lookup(self, connection: Connection, name: str, pattern: str, names: list[str], copies: Copies) -> None:
        format_ = format_of(names[0])
        if format_ == "excel":
            self._here = [copies.of(one, format_, self.config) or self._here for one in names][-1]
        paths = readers.paths(self._here, names)
        csv = self.config.csv
        reader = {
            "parquet": f"read_parquet({paths}, union_by_name = true)",
            "jsonl": f"read_json({paths}, format = 'newline_delimited', union_by_name = true)",
            "csv": f"read_csv({paths}, header = true, all_varchar = true, union_by_name = true,"
            f" quote = {literal(csv.quote)}, escape = {literal(csv.escape)}, encoding = {literal(csv.encoding)})",
            "excel": f"read_csv({paths}, header = true, all_varchar = true, union_by_name = true, delim = ',')",
        }[format_]
        try:
            if self.place.is_far or format_ == "excel":  # Copies are gone when the view is read.
                kept = identifier(f"lookup {name}")
                connection.execute(f"create or replace temp table {kept} as select * from {reader}")
                reader = kept
            connection.execute(f"create or replace temp view {identifier(name)} as select * from {reader}")
        except Error as error:
            told = self._here.told(_short(error))
            raise Fatal(f"{self.id.label}: lookup {name} ({pattern}) cannot be read: {told}") from error


def format_of(path: str) -> Format:
    """The format by the file's ending, below a compression's ending.

    Raises `Fatal` for an ending that says nothing.
    """
    endings = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    suffixes = [suffix for suffix in endings if suffix not in COMPRESSED]
    found = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise Fatal(
            f"{path}: the name does not tell its format.",
            hint="Set `format: csv`, `jsonl`, `parquet` or `excel` on the stream.",
        )
    return found


def _is_same(before: FileVersion | None, file: Found) -> bool:
    """Whether a file is surely the one that was read. A place that tells versions apart need not guess."""
    if before is None or (before.size, before.mtime_ns) != (file.size, file.mtime_ns):
        return False
    return file.version in (None, before.version)


def _spread(found: list[Found], most_bytes: float) -> list[Found]:
    """At most `SAMPLE_FILES`, evenly from the first to the last; fewer where these would weigh more than `most_bytes`."""
    most = min(SAMPLE_FILES, len(found))
    while most > 1:
        chosen = [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]
        if sum(map(_weight, chosen)) <= most_bytes:
            return chosen
        most -= 1
    return found[-1:]


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


def _weight(version: FileVersion | Found) -> int:
    return version.size * (4 if PurePosixPath(version.path).suffix.lower() in (*COMPRESSED, ".parquet") else 1)


def _short(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())
