"""Data Docs, built from what the judge kept."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from data_quality.docs import KEPT_RUNS
from data_quality.run import build_docs


def small(companies: Any) -> Any:
    company = companies.empty(streams={"crm": ("accounts",), "product": ("usage_events",)})
    company.deliver("crm", "accounts", [{"account_id": "a1", "created_at": None, "name": "Secret"}])
    return company


def pages(site: Path, run: str) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if run in path.parts)


def test_the_site_shows_what_failed_where_and_no_personal_data(companies: Any) -> None:
    company = small(companies)
    company.check_raw("run1")
    index = build_docs(company.tenure)
    assert index == company.home / "data_docs" / "index.html"
    assert "raw_files-accounts-rows" in index.read_text(encoding="utf-8")
    rows = next(page for page in pages(index.parent, "run1") if "raw_files-accounts-rows" in page.name)
    text = rows.read_text(encoding="utf-8")
    assert "created_at is filled" in text
    assert "Failed" in text
    assert "Secret" not in "".join(page.read_text(encoding="utf-8") for page in pages(index.parent, "run1"))


def test_the_pages_need_no_network_and_no_script(companies: Any) -> None:
    company = small(companies)
    company.check_raw("run1")
    build_docs(company.tenure)
    site = build_docs(company.tenure).parent
    found = sorted(site.rglob("*.html"))
    assert len(found) > 2
    for page in found:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script|<style|<img|@import|url\(|(src|href)=[\"']?https?:|newsletter", text), page
        (style,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', text)
        assert (page.parent / style).resolve() == site / "tenure.css"
        for link in re.findall(r'href="([^"#]+)"', text):
            assert (page.parent / link).exists(), (page, link)


def test_the_index_says_what_passed_and_what_failed_the_failures_first(companies: Any) -> None:
    company = small(companies)
    company.check_raw("run1")
    text = build_docs(company.tenure).read_text(encoding="utf-8")
    statuses = re.findall(r'<td class="(failed|passed)">', text)
    assert set(statuses) == {"failed", "passed"}
    assert statuses == sorted(statuses)
    assert re.search(r'class="failed">✗ failed</td><td><a href="[^"]+">raw_files-accounts-rows</a>', text)


def test_the_site_keeps_the_last_runs_and_forgets_older_ones(companies: Any) -> None:
    company = small(companies)
    runs = [f"run{n}" for n in range(KEPT_RUNS + 2)]
    for n, run in enumerate(runs):
        company.check_raw(run, now=companies.NOW + timedelta(days=n))
        build_docs(company.tenure)
    site = company.home / "data_docs"
    assert [run for run in runs if pages(site, run)] == runs[-KEPT_RUNS:]


def test_checking_a_run_again_replaces_its_pages(companies: Any) -> None:
    company = small(companies)
    company.check_raw("run1")
    build_docs(company.tenure)
    before = pages(company.home / "data_docs", "run1")
    company.check_raw("run1", now=companies.NOW + timedelta(hours=1))
    build_docs(company.tenure)
    after = pages(company.home / "data_docs", "run1")
    assert len(after) == len(before) > 0
    assert not set(after) & set(before)
