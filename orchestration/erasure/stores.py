"""The stores of a home: each can say how much it holds of the subject, and give it up.

Lives here: which stores there are, found in the home and the configuration. Must not live here: how a kind of store is searched or
rewritten (`tables.py`, `files.py`, `destinations.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.settings import COMPANY, Tenure, utc_now
from core.suppression import FOLDER
from orchestration.erasure import files as plain
from orchestration.erasure import tables as duck
from orchestration.erasure.subject import Subject
from orchestration.erasure.texts import Words

SANDBOX = "sandbox"
"""What the sandbox company's vendors hold: a source system, like any other."""
TEMPORARY = "tmp"


@dataclass(frozen=True)
class Work:
    """What every store needs: the home and its configuration, and whom it is about."""

    tenure: Tenure
    subject: Subject
    words: Words

    @property
    def keys(self) -> dict[str, str]:
        """Columns that hold the key of a destination, by table."""
        return {f"reverse_etl.{config.model}": config.key for config in self.tenure.config.sync.destinations.values()}


class Store(Protocol):
    """A place that may hold the subject."""

    def holds(self) -> Mapping[str, int]:
        """Rows or files that name the subject, by name of the place; those without any may be left out."""
        ...

    def remove(self) -> None:
        """Take them out. Safe to repeat, and to be killed in."""
        ...


@dataclass(frozen=True)
class DuckFile:
    """The working warehouse, the published copy or a replay."""

    work: Work
    path: Path
    label: str

    def holds(self) -> Mapping[str, int]:
        if not self.path.exists():
            return {}
        found = duck.counts(self.path, self.work.subject, self.work.words, keys=self.work.keys, database=self.path.stem)
        dead = {f"{self.label}: free pages": 1} if not found and self.work.words.is_in_pages(self.path) else {}
        return {**{f"{self.label}: {table}": count for table, count in found.items()}, **dead}

    def remove(self) -> None:
        if self.holds():
            duck.rewrite(
                self.path,
                self.work.subject,
                self.work.words,
                keys=self.work.keys,
                database=self.path.stem,
                temp_directory=self.work.tenure.temp_directory,
                now=utc_now(),
            )


@dataclass(frozen=True)
class HomeFiles:
    """One entry of the home that is no DuckDB file: Dagster's, dbt's, MLflow's or Great Expectations' folder, logs, others."""

    work: Work
    path: Path

    def holds(self) -> Mapping[str, int]:
        found = sum(plain.holds(path, self.work.words) for path in self._files())
        return {f"files: {self.path.name}": found} if found else {}

    def remove(self) -> None:
        for path in self._files():
            if plain.holds(path, self.work.words):
                plain.rewrite(path, self.work.words)

    def _files(self) -> Iterator[Path]:
        theirs = _source_folders(self.work.tenure)
        for path in plain.files_in(self.path):
            if not any(path.is_relative_to(folder) for folder in theirs):
                yield path


@dataclass(frozen=True)
class Scratch:
    """What killed runs left behind: no run is on, so nothing of it is in use."""

    work: Work

    def holds(self) -> Mapping[str, int]:
        left = sum(1 for _ in self._left())
        return {"files: left by killed runs": left} if left else {}

    def remove(self) -> None:
        for path in self._left():
            path.unlink(missing_ok=True)

    def _left(self) -> Iterator[Path]:
        home = self.work.tenure.home
        if (home / TEMPORARY).is_dir():
            yield from (path for path in (home / TEMPORARY).rglob("*") if path.is_file())
        for folder in (home, home / "replays"):
            yield from folder.glob(".*.duckdb.new*")


def tables(work: Work) -> list[Store]:
    """What models are built from and into, and the copies of it."""
    tenure = work.tenure
    replays = sorted((tenure.home / "replays").glob("*.duckdb"))
    return [
        Scratch(work),
        DuckFile(work, tenure.warehouse_path, "warehouse"),
        DuckFile(work, tenure.serving_path, "published copy"),
        *(DuckFile(work, path, f"replay {path.stem}") for path in replays),
    ]


def files(work: Work) -> list[Store]:
    """What programs wrote beside the tables."""
    entries = sorted(
        path
        for path in work.tenure.home.glob("*")
        if path.name not in (SANDBOX, FOLDER, TEMPORARY, COMPANY, "replays") and ".duckdb" not in path.name
    )
    return [HomeFiles(work, path) for path in entries if path.suffix != ".lock"]


def _source_folders(tenure: Tenure) -> list[Path]:
    """Folders that sources read: they are the source's, and not ours to change."""
    paths = (getattr(source, "path", None) for source in tenure.config.sources.values())
    return [
        Path(path).resolve()
        for path in paths
        if isinstance(path, Path) or (isinstance(path, str) and "://" not in path)
    ]
