"""The ledger is about a target, not about a name: what was sent to one is never taken for what another one has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from activation.target import Target, settle, target_of
from core.sync_settings import (
    DatabaseSyncConfig,
    FilesSyncConfig,
    HubSpotConfig,
    SalesforceConfig,
    SyncConfig,
    WebhookConfig,
)

WRITES = "/batch/update"
BLOCKS: dict[type[SyncConfig], dict[str, Any]] = {
    HubSpotConfig: {"connector": "hubspot", "token": "secret-1"},
    SalesforceConfig: {
        "connector": "salesforce",
        "client_id": "secret-1",
        "client_secret": "secret-2",
        "login_url": "https://a.my.salesforce.com",
    },
    WebhookConfig: {
        "connector": "webhook",
        "url": "https://user:secret-1@hooks.example.com/in?key=secret-2",
        "secrets": ["secret-3"],
        "allow_hosts": ["hooks.example.com"],
    },
    DatabaseSyncConfig: {"connector": "database", "url": "postgresql://me:secret-1@db:5432/app", "table": "scores"},
    FilesSyncConfig: {"connector": "files", "path": "/data/out"},
}
OTHERS: list[tuple[type[SyncConfig], dict[str, Any]]] = [
    (HubSpotConfig, {"object_type": "contacts"}),
    (HubSpotConfig, {"id_property": "external_id"}),
    (HubSpotConfig, {"key": "account_id"}),
    (HubSpotConfig, {"stand_in": True}),
    (SalesforceConfig, {"object": "Contact"}),
    (SalesforceConfig, {"external_id": "Tenure__c"}),
    (WebhookConfig, {"url": "https://hooks.example.com/out"}),
    (WebhookConfig, {"url": "https://user:secret-1@hooks.example.com/in?key=another"}),
    (DatabaseSyncConfig, {"url": "postgresql://me:secret-1@db:5432/other"}),
    (DatabaseSyncConfig, {"url": "postgresql://me:secret-1@db:5433/app"}),
    (DatabaseSyncConfig, {"url": "postgresql://me:secret-1@replica:5432/app"}),
    (DatabaseSyncConfig, {"table": "public.scores"}),
    (FilesSyncConfig, {"path": "/data/elsewhere"}),
    (FilesSyncConfig, {"format": "csv"}),
]
SAME: list[tuple[type[SyncConfig], dict[str, Any]]] = [
    (WebhookConfig, {"secrets": ["secret-4", "secret-3"]}),
    (DatabaseSyncConfig, {"url": "postgresql+psycopg://you:other@db:5432/app"}),
    (FilesSyncConfig, {"path": "/data/../data/out"}),
    (FilesSyncConfig, {"batch_rows": 5}),
]


def made(kind: type[SyncConfig], **changes: Any) -> Target:
    return target_of(kind.model_validate({**BLOCKS[kind], **changes}))


def never() -> str | None:
    raise AssertionError("The account is asked for only when the way to it changed.")


@pytest.mark.parametrize(("kind", "changes"), OTHERS)
def test_another_place_is_another_target(kind: type[SyncConfig], changes: dict[str, Any]) -> None:
    bound = Target.parse(made(kind).text)
    assert settle(bound, made(kind, **changes), never) is None


@pytest.mark.parametrize(("kind", "changes"), SAME)
def test_other_credentials_or_spellings_are_the_same_target(kind: type[SyncConfig], changes: dict[str, Any]) -> None:
    bound = made(kind)
    assert settle(Target.parse(bound.text), made(kind, **changes), never) == bound


@pytest.mark.parametrize("kind", BLOCKS)
def test_no_secret_is_kept(kind: type[SyncConfig]) -> None:
    assert "secret" not in made(kind).text
    assert "secret" not in made(kind).words


def test_an_account_is_known_by_its_own_id() -> None:
    first, renewed = made(HubSpotConfig), made(HubSpotConfig, token="secret-9")
    bound = settle(None, first, lambda: "17")
    assert bound is not None
    assert bound.account == "17"
    assert settle(bound, first, never) == bound
    moved = settle(bound, renewed, lambda: "17")
    assert moved is not None
    assert (moved.account, moved.access) == ("17", renewed.access)
    assert settle(bound, renewed, lambda: "18") is None
    assert settle(bound, renewed, lambda: None) is None


@pytest.fixture
def sent(hubspot_stand: Any, kit: Any) -> Any:
    """HubSpot that has eight rows of ours."""
    hubspot_stand.sync.published.put(kit.some_rows(8))
    assert hubspot_stand.sync.run().counts.ok == 8
    return hubspot_stand


def renewed(stand: Any) -> SyncConfig:
    """The configuration with another token of the account that the vendor is now."""
    token = "renewed-token"
    stand.vendor.tokens[token] = next(iter(stand.vendor.tokens.values()))
    config: SyncConfig = stand.sync.config.model_copy(update={"token": SecretStr(token)})
    return config


def test_a_token_of_another_portal_sends_nothing_and_says_which_two_ways_there_are(sent: Any) -> None:
    before = sent.write_calls
    sent.vendor.hub_id = 4711
    sent.sync.config = renewed(sent)
    planned = sent.sync.run(dry_run=True)
    assert "account 4711" in planned.problems[0].what
    report = sent.sync.run()
    assert (report.status, report.exit_code, report.counts.unchanged) == ("guarded", 3, 8)
    assert "account 1," in report.error
    assert "account 4711" in report.error
    assert "rebind shelf --forget" in report.hint
    assert "rebind shelf --keep" in report.hint
    assert sent.sync.run(override=True).status == "guarded"
    assert sent.write_calls == before
    ledger = sent.sync.ledger()
    assert ledger.unbind("shelf") == 8
    ledger.close()
    assert sent.sync.run().counts.ok == 8
    assert sent.sync.run().counts.unchanged == 8


def test_a_renewed_token_of_the_same_portal_changes_nothing(sent: Any) -> None:
    sent.sync.config = renewed(sent)
    calls = len(sent.vendor.store.all("companies"))
    report = sent.sync.run()
    assert (report.status, report.counts.unchanged) == ("done", 8)
    asked = sent.vendor.calls("/access-token-info")
    assert sent.sync.run().status == "done"
    assert sent.vendor.calls("/access-token-info") == asked
    assert len(sent.vendor.store.all("companies")) == calls


def test_a_ledger_from_before_targets_were_kept_is_bound_by_the_next_run(sent: Any) -> None:
    ledger = sent.sync.ledger()
    bound = ledger.target("shelf")
    with ledger._writing() as connection:
        connection.exec_driver_sql("drop table sync_targets")
    ledger.close()
    old = sent.sync.ledger(create=False)
    assert old.target("shelf") is None
    old.close()
    assert sent.sync.run().status == "done"
    ledger = sent.sync.ledger()
    assert ledger.target("shelf") == bound
    ledger.close()


def test_another_folder_gets_nothing_until_it_is_said_to_be_new(tmp_path: Path, new_sync: Any, kit: Any) -> None:
    from activation.connect import open_destination

    def config(folder: str) -> SyncConfig:
        block = {"connector": "files", "model": "scores", "key": "id", "path": tmp_path / folder}
        return FilesSyncConfig.model_validate(block)

    sync = new_sync(tmp_path / "s", open_destination, config("one"))
    sync.published.put(kit.some_rows(3))
    assert sync.run().counts.ok == 3
    sync.config = config("two")
    assert sync.run().status == "guarded"
    assert not (tmp_path / "two").exists()
    sync.config = config("one")
    assert sync.run().status == "done"
