"""The pages of Data Docs, readable without a network.

Lives here: what is taken out of the pages that Great Expectations writes (scripts and styles that a browser would load from
elsewhere), the stylesheet that they get instead, and the index. Must not live here: building the pages (`docs.py`).

Great Expectations fills the table of its index by a script from elsewhere, so the index is written here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

STYLESHEET = "tenure.css"
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 70rem; margin: 0 auto; padding: 1rem; }
a { color: #0b5cad; }
h1 { font-size: 1.5rem; }
h2, h4, h5 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h6, .h6 { font-size: 1rem; font-weight: 600; margin: 1rem 0 .25rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #d9e0e6; overflow-wrap: anywhere; }
th { background: #f1f4f7; }
ol.breadcrumb { list-style: none; padding: 0; display: flex; gap: 1rem; }
.collapse { display: none; }
.collapse:target { display: block; }
.card, .alert { margin: .5rem 0; }
.navbar-brand { display: none; }
.failed, .text-danger { color: #b3261e; font-weight: 600; }
.passed, .text-success { color: #1b7f3b; }
.text-warning { color: #8a5a00; }
.fa-check-circle, .fa-times, .fa-exclamation-triangle { font-style: normal; }
.fa-check-circle::before { content: "✓ passed"; }
.fa-times::before { content: "✗ failed"; }
.fa-exclamation-triangle::before { content: "! not judged"; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e7eb; background: #16191d; }
  a { color: #7cb7ff; }
  th { background: #262b31; }
  th, td { border-color: #3a424b; }
  .failed, .text-danger { color: #ff8a80; }
  .passed, .text-success { color: #7bd88f; }
}
"""

_OUTSIDE = re.compile(
    r"<script\b.*?</script\s*>|<style\b.*?</style\s*>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer\s*>", re.S | re.I
)
_ACTIONS = re.compile(r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions</strong>\s*</div>')
_SUITE = re.compile(r'<a href="[^"]*/expectations/[^"]*"\s*>(.*?)</a>', re.S)


@dataclass(frozen=True)
class Result:
    """A page of the site: the expectations of one part of a table in one run."""

    run_id: str
    run_at: datetime
    name: str
    page: Path
    evaluated: int
    failed: int


def read_result(path: Path, page: Path) -> Result:
    """What the index says of the stored result at `path`."""
    document = json.loads(path.read_text(encoding="utf-8"))
    run, counts = document["meta"]["run_id"], document["statistics"]
    return Result(
        run_id=run["run_name"],
        run_at=datetime.fromisoformat(run["run_time"]),
        name=document["suite_name"],
        page=page,
        evaluated=counts["evaluated_expectations"],
        failed=counts["unsuccessful_expectations"],
    )


def detach(site: Path) -> None:
    """Give every page of `site` the site's own stylesheet and take out what loads from elsewhere."""
    (site / STYLESHEET).write_text(STYLE, encoding="utf-8")
    shutil.rmtree(site / "static", ignore_errors=True)  # fonts and pictures, 4 MB
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if STYLESHEET not in text:
            page.write_text(detached(text, os.path.relpath(site, page.parent)), encoding="utf-8")


def detached(text: str, root: str) -> str:
    """The page `text` without scripts, foreign styles and pictures; `root` is the relative path to the site's folder."""
    text = _SUITE.sub(r"\1", _OUTSIDE.sub("", text))
    # The filter of the results is a script; the page is short enough without.
    text = _ACTIONS.sub("<div hidden>", text)
    return text.replace("</head>", f"{_link(root)}</head>", 1)


def write_index(site: Path, results: Iterable[Result]) -> Path:
    """The index of `results`, the newest run first, what failed before the rest."""
    by_run: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda r: (-r.run_at.timestamp(), r.failed == 0, r.name)):
        by_run.setdefault(result.run_id, []).append(result)
    sections = "\n".join(_section(site, run_id, members) for run_id, members in by_run.items())
    index = site / "index.html"
    index.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Data Docs</title>'
        f"{_link('.')}</head>\n<body>\n<h1>Data Docs</h1>\n"
        "<p>What the quality gates measured in the last runs. Older results: table quality.checks.</p>\n"
        f"{sections}\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return index


def _link(root: str) -> str:
    return f'<link rel="stylesheet" href="{root}/{STYLESHEET}">'


def _section(site: Path, run_id: str, results: list[Result]) -> str:
    at = max(result.run_at for result in results)
    rows = "\n".join(_row(site, result) for result in results)
    return (
        f"<h2>{at:%Y-%m-%d %H:%M} UTC, run {escape(run_id)}</h2>\n<table>\n"
        f"<tr><th>Result</th><th>Part</th><th>Expectations</th><th>Failed</th></tr>\n{rows}\n</table>"
    )


def _row(site: Path, result: Result) -> str:
    href = escape(result.page.relative_to(site).as_posix())
    status = '<td class="failed">✗ failed</td>' if result.failed else '<td class="passed">✓ passed</td>'
    link = f'<a href="{href}">{escape(result.name)}</a>'
    return f"<tr>{status}<td>{link}</td><td>{result.evaluated}</td><td>{result.failed}</td></tr>"
