"""The new-files sensor on a source whose files lie in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from core import settings, warehouse
from orchestration import triggers

STREAM = {
    "files": "*.csv",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}


def publish_as_read(tenure: settings.Tenure, found: list[Any]) -> None:
    """What a publication says of files that a run has read."""
    with warehouse.warehouse(tenure.serving_path) as connection:
        connection.execute("create schema quality")
        connection.execute(
            "create table quality.files (source varchar, stream varchar, path varchar, size bigint, mtime_ns bigint)"
        )
        for file in found:
            row = ["product", "usage_events", file.path, file.size, file.mtime_ns]
            connection.execute("insert into quality.files values (?, ?, ?, ?, ?)", row)


def test_the_sensor_sees_objects_that_the_last_publication_had_not_read(tmp_path: Path, s3: Any) -> None:
    source = {
        "connector": "files",
        "path": f"s3://{s3.bucket}/exports",
        "bucket": s3.reached(),
        "streams": {"usage_events": STREAM},
    }
    document = {"company": "Test", "identity": {"derive_accounts": True}, "sources": {"product": source}}
    config = tmp_path / "tenure.yml"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    tenure = settings.load(config, home=tmp_path / "home")
    tenure.home.mkdir()
    assert triggers.unread_files(tenure, settings.utc_now()) == []
    first = s3.put("exports/1.csv", b"account,event,at\n")
    unread = triggers.unread_files(tenure, settings.utc_now())
    assert [file.path for file in unread] == [first], "an object is whole at once: nothing has to settle"
    publish_as_read(tenure, unread)
    assert triggers.unread_files(tenure, settings.utc_now()) == []
    s3.put("exports/1.csv", b"account,event,at\n1,login,2024-02-01\n")
    second = s3.put("exports/2.csv", b"account,event,at\n")
    assert [file.path for file in triggers.unread_files(tenure, settings.utc_now())] == [first, second]
    document["sources"]["product"]["bucket"]["endpoint"] = "http://127.0.0.1:9"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    unreachable = settings.load(config, home=tmp_path / "home")
    assert triggers.unread_files(unreachable, settings.utc_now()) == [], "that it does not answer is told by the run"
