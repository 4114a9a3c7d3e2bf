"""Every model keeps the project's conventions, read from dbt's manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from core.contract import ENTITIES, LOADING_ONLY
from orchestration.dbt import published_tables

ROOT = Path(__file__).parents[2]
PORTABILITY = ROOT / "dbt_project" / "macros" / "portability.sql"

Node = dict[str, Any]


@pytest.fixture(scope="module")
def models(built: Any) -> dict[str, Node]:
    nodes = built.manifest()["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "model"}


def step(node: Node) -> str:
    return str(node["fqn"][1])


def test_names_say_the_step(models: dict[str, Node]) -> None:
    shapes = {
        "staging": r"stg_[a-z]+__[a-z_]+s",
        "intermediate": r"int_[a-z]+(_[a-z]+)*_(\w+ed|by_[a-z]+_[a-z]+s)",
        "marts": r"[a-z]+(_[a-z]+)*(s|_freshness|_timeline)",
        "activation": r"customer_scores(_history)?|sync_[a-z]+_[a-z]+s",
        "metrics": r"met_[a-z]+(_[a-z]+)*",
        "features": r"ftr_[a-z]+(_[a-z]+)*(s|_people|_training|_scoring)",
    }
    wrong = [name for name, node in models.items() if not re.fullmatch(shapes[step(node)], name)]
    assert wrong == []


def test_each_step_has_its_schema_and_its_folder(models: dict[str, Node]) -> None:
    assert {(step(node), node["schema"], node["config"]["group"]) for node in models.values()} == {
        ("staging", "staging", "staging"),
        ("intermediate", "intermediate", "intermediate"),
        ("metrics", "metrics", "metrics"),
        ("marts", "marts", "marts"),
        ("features", "features", "features"),
        ("activation", "reverse_etl", "activation"),
    }


def test_only_staging_reads_sources_and_reads_nothing_else(models: dict[str, Node]) -> None:
    for name, node in models.items():
        kinds = {dependency.split(".")[0] for dependency in node["depends_on"]["nodes"]}
        assert kinds - {"snapshot"} == ({"source"} if step(node) == "staging" else {"model"}), name


def test_staging_is_two_ctes_without_a_join(models: dict[str, Node]) -> None:
    for name, node in models.items():
        if step(node) == "staging":
            assert re.findall(r"^(\w+) as \($", node["raw_code"], re.M) == ["source", "renamed"], name
            assert not re.search(r"\b(join|union|group by|where)\b", node["raw_code"]), name


def test_no_model_reads_a_later_step(models: dict[str, Node]) -> None:
    order = {"staging": 0, "intermediate": 1, "metrics": 2, "marts": 3, "features": 4, "activation": 5}
    upward = {
        (name, read)
        for name, node in models.items()
        for kind, _, read in (dependency.split(".", 2) for dependency in node["depends_on"]["nodes"])
        if kind == "model" and order[step(models[read])] > order[step(node)]
    }
    assert upward == set()


def test_the_first_sentence_of_a_description_is_the_grain(models: dict[str, Node]) -> None:
    wrong = [name for name, node in models.items() if not node["description"].startswith("One row per ")]
    assert wrong == []


def test_every_column_is_described_and_exists(models: dict[str, Node], built: Any) -> None:
    found = built.records(
        "select table_schema as s, table_name as t, list(column_name order by ordinal_position) as columns"
        " from information_schema.columns group by all"
    )
    columns = {(row["s"], row["t"]): row["columns"] for row in found}
    for name, node in models.items():
        assert list(node["columns"]) == columns[node["schema"], name], name
        assert [c for c, spec in node["columns"].items() if not spec["description"]] == [], name


def test_marts_and_features_enforce_their_contract_in_portable_types(models: dict[str, Node]) -> None:
    portable = {"string", "bigint", "double", "boolean", "date", "timestamp", "decimal(18,2)", "decimal(18,8)"}
    for name, node in models.items():
        if step(node) in ("metrics", "marts", "features", "activation"):
            assert node["config"]["contract"]["enforced"], name
            assert {spec["data_type"] for spec in node["columns"].values()} <= portable, name


def test_every_metric_says_what_it_is(models: dict[str, Node]) -> None:
    """The other columns are keys, and what is measured of an account at all."""
    others = {"account_id", "as_of_date", "is_sampled", "is_scoring_date", "known_from_date", "coverage_pct"}
    others |= {f"has_{entity}" for entity in ENTITIES}
    wanted = {"label", "unit", "family", "needs", "direction"}
    columns = models["met_accounts"]["columns"]
    missing = {name: wanted - set(c["config"]["meta"]) for name, c in columns.items() if name not in others}
    assert len(missing) > 90
    assert {name: left for name, left in missing.items() if left} == {}


def test_a_metric_has_one_description_wherever_it_stands(models: dict[str, Node]) -> None:
    catalogue = models["met_accounts"]["columns"]
    differing = {
        (name, column)
        for name, node in models.items()
        if step(node) not in ("staging", "intermediate") and {"account_id", "as_of_date"} <= set(node["columns"])
        for column, spec in node["columns"].items()
        if column in catalogue.keys() - {"account_id", "as_of_date"}
        and (spec["description"], spec["data_type"])
        != (catalogue[column]["description"], catalogue[column]["data_type"])
    }
    assert differing == set()


def test_a_metric_is_computed_among_the_metrics_only(models: dict[str, Node]) -> None:
    computed = {
        (name, column)
        for name, node in models.items()
        if step(node) not in ("staging", "intermediate", "metrics")
        and {"account_id", "as_of_date"} <= set(node["columns"])
        for column in models["met_accounts"]["columns"].keys() - {"account_id", "as_of_date"}
        if column in node["columns"] and re.search(rf"\bas {column}\b", node["raw_code"])
    }
    assert computed == set()


def test_staging_has_the_columns_of_the_contract(models: dict[str, Node]) -> None:
    for name, node in models.items():
        entity = ENTITIES.get(name.split("__")[-1])
        if step(node) == "staging" and entity is not None:
            given = ["source_account_id" if c == "account_id" else c for c in entity.column_names]
            rate = ["exchange_rate"] if entity.has_currency else []
            assert list(node["columns"]) == ["source", "stream", "account_source", *given, *rate, "loaded_at"], name


def test_an_entity_that_nobody_delivers_has_the_columns_and_types_of_the_contract() -> None:
    types = {"text": "string", "id": "string", "integer": "bigint", "money": "decimal(18,2)"}
    macro = (ROOT / "dbt_project" / "macros" / "contract.sql").read_text(encoding="utf-8")
    for entity in ENTITIES.values():
        (block,) = re.findall(rf'"{entity.name}": \[(.*?)\n        \],', macro, re.S)
        assert re.findall(r'\["(\w+)", "([\w(),]+)"\]', block) == [
            (c.name, types.get(c.type, c.type)) for c in entity.columns
        ]


def test_the_models_compare_the_words_of_the_contract_without_case() -> None:
    macro = (ROOT / "dbt_project" / "macros" / "contract.sql").read_text(encoding="utf-8")
    (block,) = re.findall(r"macro words\(entity\) -%}(.*?)endmacro", macro, re.S)
    found = {entity: tuple(re.findall(r'"(\w+)"', words)) for entity, words in re.findall(r'"(\w+)": \[(.*?)\]', block)}
    assert found == {entity.name: entity.words for entity in ENTITIES.values() if entity.words}


def test_models_say_nothing_that_only_one_engine_understands() -> None:
    """What differs between DuckDB and Spark belongs into macros/portability.sql."""
    dialect = re.compile(
        r"::|\b(qualify|list_\w+|struct_\w+|unnest|generate_series|date_diff|datediff|dateadd|date_add|epoch\w*|strftime|strptime"
        r"|try_cast|ilike|any_value|arg_max|arg_min|max_by|min_by|string_agg|listagg|regexp_\w+|filter\s*\(|exclude|pivot|asof"
        r"|group by all|using sample|interval|date_trunc|now\(\)|current_\w+)",
        re.I,
    )
    for path in [*(ROOT / "models").rglob("*.sql"), *(ROOT / "dbt_project" / "tests").rglob("*.sql")]:
        sql = re.sub(r"--.*|\{#.*?#\}", "", path.read_text(encoding="utf-8"))
        assert dialect.search(sql) is None, (path.name, dialect.search(sql))
    assert "unnest" in PORTABILITY.read_text(encoding="utf-8")


def test_every_mart_is_tested_for_its_grain_or_by_an_accounting_identity(built: Any, models: dict[str, Node]) -> None:
    manifest = built.manifest()
    tested = {
        dependency.split(".")[-1]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
        for dependency in node["depends_on"]["nodes"]
    }
    # Testing these two anew in every run would read millions of rows; the tests beside this one prove them on small companies.
    proved_here = {"account_days", "account_timeline"}
    assert {name for name, node in models.items() if step(node) == "marts"} - proved_here <= tested


def test_the_published_file_is_an_exposure_of_everything_in_it(built: Any) -> None:
    exposures = {e["name"]: e for e in built.manifest()["exposures"].values()}
    read = {
        dependency.split(".")[-1]
        for name in exposures
        if name.startswith(("published_", "synced_"))
        for dependency in exposures[name]["depends_on"]["nodes"]
    }
    assert read == {table.partition(".")[2] for table in published_tables(built.manifest())}


def test_sources_know_when_they_are_stale(built: Any) -> None:
    sources = [s for s in built.manifest()["sources"].values() if s["source_name"].startswith("raw_")]
    assert {source["name"] for source in sources} == set(ENTITIES) - set(LOADING_ONLY)
    for source in sources:
        assert source["loaded_at_field"] == "_loaded_at"
        assert source["freshness"]["error_after"]["count"]
