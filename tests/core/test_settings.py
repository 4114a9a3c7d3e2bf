"""A configuration that cannot work is refused when it is read, with words that say what, where and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from core import settings
from core.errors import UserError

STREAM = {"files": "accounts.csv", "columns": {"account_id": "id", "name": "name"}}
FACTS = {"files": "subscriptions.csv", "columns": {"subscription_id": "id", "account_id": "account"}}
TABLE = {"table": "subscriptions", "columns": {"subscription_id": "id", "account_id": "account"}}
GOOD: dict[str, Any] = {
    "company": "Example Ltd",
    "sources": {
        "crm": {
            "connector": "files",
            "path": "data",
            "streams": {"accounts": STREAM, "subscriptions": FACTS},
        }
    },
}
HUBSPOT = {"connector": "hubspot", "stand_in": True, "token": "x"}


def load(folder: Path, changes: dict[str, Any]) -> settings.Tenure:
    path = folder / "tenure.yml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}), encoding="utf-8")
    return settings.load(path, home=folder / "home")


def crm(**changes: Any) -> dict[str, Any]:
    return {"sources": {"crm": {**GOOD["sources"]["crm"], **changes}}}


def test_the_good_one_is_read(tmp_path: Path) -> None:
    assert list(load(tmp_path, {}).config.sources) == ["crm"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compny": "Example Ltd"}, "compny"),
        (crm(path=None), "a files source needs `path`"),
        (crm(streams={"accounts": STREAM}), "at least one stream must fill one of"),
        (crm(streams={"subscriptions": FACTS}), "no stream fills accounts"),
        (crm(streams={"customers": FACTS}), "no entity is called 'customers'"),
        (
            crm(streams={"subscriptions": {**FACTS, "columns": {"price": "x"}}}),
            "subscriptions has no column price; it has",
        ),
        (
            crm(streams={"accounts": STREAM, "subscriptions": {**FACTS, "columns": {"subscription_id": False}}}),
            "subscription_id: YAML reads no, off or false as a truth value",
        ),
        (crm(streams={"subscriptions": {**FACTS, "files": "/data/x.csv"}}), "/data/x.csv must be a path or glob below"),
        (
            crm(connector="database", path=None, url="sqlite://", streams={"subscriptions": {**TABLE, "unnest": "x"}}),
            "`unnest` is for files; of a table, name a view",
        ),
        (crm(account_source="erp"), "there is no source 'erp'"),
        (crm(path="ftp://host/x"), "`path` is neither a folder nor a bucket, which begins with s3://"),
        (crm(bucket={"region": "eu-west-1"}), "`bucket` is for a `path` that begins with s3://"),
        (crm(path="gs://b/x", bucket={"anonymous": True}), "`bucket` is for a `path` that begins with s3://"),
        (crm(path="s3://b", bucket={"endpoint": "http://store.example"}), "store.example has to be reached over https"),
        (crm(path="s3://b", bucket={"access_key_id": "x"}), "`access_key_id` and `secret_access_key` go together"),
        (crm(path="s3://b", bucket={"session_token": "x"}), "`session_token` goes with `access_key_id`"),
        (
            crm(path="s3://b", bucket={"access_key_id": "x", "secret_access_key": "y", "anonymous": True}),
            "`anonymous` needs no keys",
        ),
        ({"identity": {"precedence": ["erp"]}}, "identity.precedence names unknown sources: erp"),
        ({"model": {"tiers": {"medium": 0.5, "high": 0.2}}}, "`medium` must be below `high`"),
        ({"sync": {"destinations": {"hubspot": HUBSPOT}}}, "sync.destinations.hubspot has stand_in: true"),
        ({"sync": {"destinations": {"status": HUBSPOT}}}, "`tenure sync status` is a command"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        load(tmp_path, changes)
    told = f"{refused.value.message} {refused.value.hint}"
    assert words in told
    assert "tenure.yml" in told


def test_a_path_is_a_folder_or_the_url_of_a_bucket_as_it_is_written(tmp_path: Path) -> None:
    for given, kind in (
        ("data", Path),
        ("/data/a:b", Path),
        ("s3://bucket//a", str),
        ("abfss://c@a.dfs.core.windows.net/x", str),
    ):
        path = load(tmp_path, crm(path=given)).config.sources["crm"].path
        assert isinstance(path, kind)
        assert str(path) == given


def test_the_keys_of_a_bucket_are_not_shown(tmp_path: Path) -> None:
    keys = {"access_key_id": "canary-id", "secret_access_key": "canary-secret", "session_token": "canary-token"}
    source = load(tmp_path, crm(path="s3://b", bucket=keys)).config.sources["crm"]
    assert "canary" not in f"{source!r} {source.model_dump()}"
    assert sorted(source.secrets) == ["canary-id", "canary-secret", "canary-token"]


def test_a_truth_value_is_a_constant_where_the_contract_has_one(tmp_path: Path) -> None:
    never = {**FACTS, "columns": {**FACTS["columns"], "is_trial": False}}
    streams = load(tmp_path, crm(streams={"accounts": STREAM, "subscriptions": never})).config.sources["crm"].streams
    assert streams["subscriptions"].columns["is_trial"].sql == "False"


def test_a_home_is_one_companys(tmp_path: Path) -> None:
    tenure = load(tmp_path, {})
    settings.note_company(tenure)
    assert load(tmp_path, {}).home == tenure.home
    with pytest.raises(
        UserError, match=r"holds the data of Example Ltd, and .* is the configuration of Other Ltd"
    ) as refused:
        load(tmp_path, {"company": "Other Ltd"})
    assert "TENURE_HOME=FOLDER" in str(refused.value.hint)
    (tmp_path / "home" / settings.COMPANY).unlink()
    assert load(tmp_path, {"company": "Other Ltd"}).config.company == "Other Ltd"
