"""The documentation names what there is."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from core import blocks, settings, source_settings, sync_settings
from core.contract import ENTITIES
from sources import hubspot

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"

VENDORS = ("sources.md", "reading_crm.md", "product_events.md")


def test_every_key_of_the_configuration_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    models: list[type[BaseModel]] = [
        settings.Config,
        source_settings.SourceConfig,
        source_settings.FilesSource,
        source_settings.DatabaseSource,
        source_settings.BucketConfig,
        source_settings.StreamConfig,
        settings.IdentityConfig,
        settings.ChurnConfig,
        settings.QualityConfig,
        settings.PublishConfig,
        settings.AlertConfig,
    ]
    missing = [f"{m.__name__}.{name}" for m in models for name in m.model_fields if name not in text]
    assert missing == []


def test_every_key_of_a_vendor_is_documented() -> None:
    text = "".join((DOCS.parent / name).read_text(encoding="utf-8") for name in VENDORS)
    models = {model for model in source_settings.SOURCE_KINDS.values() if issubclass(model, source_settings.ApiSource)}
    common = source_settings.SourceConfig.model_fields
    missing = [
        f"{m.__name__}.{name}"
        for m in models
        for name in m.model_fields
        if name not in common and f"`{name}`" not in text
    ]
    assert missing == []
    for connector, model in source_settings.SOURCE_KINDS.items():
        if issubclass(model, (source_settings.ApiSource, source_settings.ExportSource)):
            streams = source_settings.default_streams(connector)
            assert [name for name in streams if f"| `{name}` |" not in text] == [], connector


def test_every_column_of_the_contract_is_documented_where_its_entity_is() -> None:
    sections = DOCS.read_text(encoding="utf-8").split("### ")
    for entity in ENTITIES.values():
        (section,) = [s for s in sections if s.startswith(f"{entity.name}\n")]
        missing = [column for column in entity.column_names if f"| `{column}` |" not in section]
        assert missing == [], entity.name


def test_every_key_of_a_destination_is_documented() -> None:
    text = (DOCS.parent / "sync.md").read_text(encoding="utf-8")
    models: list[type[BaseModel]] = [
        *(
            sync_settings.SyncSettings,
            sync_settings.SyncConfig,
            sync_settings.FieldConfig,
            sync_settings.GuardConfig,
            blocks.RetryConfig,
        ),
        *(sync_settings.HubSpotConfig, sync_settings.SalesforceConfig, sync_settings.WebhookConfig),
        *(sync_settings.DatabaseSyncConfig, sync_settings.FilesSyncConfig),
    ]
    names = {(m.__name__, field.alias or name) for m in models for name, field in m.model_fields.items()}
    assert [name for name in sorted(names) if name[1] not in text] == []


def test_every_scope_of_hubspot_is_documented() -> None:
    text = (DOCS.parent / "reading_crm.md").read_text(encoding="utf-8")
    scopes = {part for kept in hubspot.KINDS.values() for part in kept.scope.split(" and ")}
    assert [name for name in sorted(scopes) if f"| `{name}` |" not in text] == []
