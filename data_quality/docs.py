"""Data Docs: the results as a static site.

Lives here: building the site from the results that the judge kept, and how long they are kept. Must not live here:
checking anything, or what a page looks like (`pages.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from data_quality import engine, pages

KEPT_RUNS = 5
"""How many runs the site shows; older results stay in `quality.checks`."""

SITE = "data_docs"


def build(store: Path, site: Path) -> Path:
    """Write the site for the results in `store`; pages that are there already are left alone. Returns the index page.

    A run has one page for each part of a table: its rows or columns, its loads, streams, days, sums.
    """
    _forget_old_runs(store)
    context = engine.context(store)
    context.add_data_docs_site(
        SITE,
        {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "site_section_builders": {"expectations": "None", "profiling": "None"},
        },
    )
    keys = context.validation_results_store.list_keys()
    missing = [key for key in keys if not _page(site, key).exists()]
    context.build_data_docs(site_names=[SITE], resource_identifiers=missing or None)
    pages.detach(site)
    return pages.write_index(site, [pages.read_result(_stored(store, key), _page(site, key)) for key in keys])


def _page(site: Path, key: Any) -> Path:
    *folders, name = key.to_tuple()
    return site.joinpath("validations", *folders, f"{name}.html")


def _stored(store: Path, key: Any) -> Path:
    *folders, name = key.to_tuple()
    return store.joinpath(*folders, f"{name}.json")


def _forget_old_runs(store: Path) -> None:
    by_run: dict[str, list[Path]] = {}
    for folder in store.glob("*/*"):
        by_run.setdefault(folder.name, []).append(folder)
    newest = sorted(by_run, key=lambda run: max(path.stat().st_mtime for path in by_run[run]), reverse=True)
    for run in newest[KEPT_RUNS:]:
        for folder in by_run[run]:
            shutil.rmtree(folder, ignore_errors=True)
