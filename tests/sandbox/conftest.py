"""One small company, founded once for all tests of the sandbox, and the same one after twelve more days."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sandbox
from core.warehouse import Connection, scratch

READERS = {
    "csv": "read_csv('{}', header = true, all_varchar = true, filename = '_file')",
    "csv.zst": "read_csv('{}', header = true, all_varchar = true, filename = '_file')",
    "jsonl.gz": "read_json('{}', format = 'newline_delimited', filename = '_file')",
    "parquet": "read_parquet('{}', filename = '_file')",
}


@dataclass(frozen=True)
class World:
    """A home folder and a database with a view for every vendor object and table of the truth."""

    home: Path
    connection: Connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]


def _open(home: Path, connection: Connection) -> World:
    for folder in sorted((home / "sandbox" / "data").glob("*/*")):
        ending = next(folder.iterdir()).name.split(".", 1)[1]
        reader = READERS[ending].format(f"{folder}/*.{ending}")
        connection.execute(
            f"create view {folder.name} as select *, cast(left(parse_filename(_file), 10) as date) as _day,"
            f" '{folder.parent.name}/{folder.name}/' || parse_filename(_file) as _path from {reader}"
        )
    for folder in sorted((home / "sandbox" / "truth").iterdir()):
        connection.execute(f"create view truth_{folder.name} as from read_parquet('{folder}/*.parquet')")
    # What a careful reader keeps: the last version of each row, without the rows that are broken.
    for name, order in {"subscriptions": "updated", "invoices": "updated", "tickets": "updated_at"}.items():
        connection.execute(
            f"create view true_{name} as select * from {name} where id not in (select key from truth_faults"
            f" where object = '{name}' and kind like 'broken%' and key is not null)"
            f" qualify row_number() over (partition by id order by {order} desc) = 1"
        )
    return World(home, connection)


@pytest.fixture(scope="session")
def founded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("founded")
    sandbox.generate(home, accounts=500, months=8, seed=11)
    return home


@pytest.fixture(scope="session")
def founded(founded_home: Path) -> Iterator[World]:
    """The company at the end of its history."""
    with scratch() as connection:
        yield _open(founded_home, connection)


@pytest.fixture(scope="session")
def lived(founded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same company twelve days later."""
    home = tmp_path_factory.mktemp("lived")
    shutil.copytree(founded_home / "sandbox", home / "sandbox")
    sandbox.advance(home, days=12)
    with scratch() as connection:
        yield _open(home, connection)


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """A function that gives the hash of each file of a home's sandbox, by relative path."""

    def of(home: Path) -> dict[str, str]:
        root = home / "sandbox"
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return of
