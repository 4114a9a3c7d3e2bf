"""Accounts that stop being customers between two runs of one date: their scores are withdrawn, and publishing goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Home

CONFIG = """
company: Small Ltd
clock: data
sources:
  crm:
    connector: files
    path: {data}
    streams:
      accounts:
        files: accounts.csv
        columns: {{account_id: id, name: name, created_at: created}}
      subscriptions:
        files: contracts.csv
        columns: {{subscription_id: id, account_id: account, mrr: price, started_at: start}}
      usage_events:
        files: usage.csv
        columns: {{account_id: account, event_name: "'login'", occurred_at: day}}
"""
ACCOUNTS = tuple(str(number) for number in range(1, 7))
LATER = "2027-06-01"


class Company:
    """Six accounts in three files; `starts` says when the contract of each began."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.folder, self.home, self.seconds = folder, home, 0
        self._write("accounts.csv", ["id,name,created", *(f"{n},Customer {n},2025-01-01" for n in ACCOUNTS)])
        days = [f"{n},2026-09-{day:02d}" for n in ACCOUNTS for day in range(1, 29)]
        self._write("usage.csv", ["account,day", *days])

    def contracts(self, **starts: str) -> None:
        begun = {n: starts.get(f"of_{n}", "2025-02-01") for n in ACCOUNTS}
        self._write("contracts.csv", ["id,account,price,start", *(f"v{n},{n},100,{day}" for n, day in begun.items())])

    def _write(self, name: str, lines: list[str]) -> None:
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Each version of a file has its own time, whatever the clock's resolution.
        self.seconds += 1
        os.utime(path, (1_790_000_000 + self.seconds,) * 2)

    def scored(self) -> list[str]:
        return [row["account_id"] for row in self.home.scores()]

    def history(self) -> dict[str, bool]:
        found = self.home.ask("select account_id, is_withdrawn from reverse_etl.customer_scores_history")
        return {row["account_id"]: row["is_withdrawn"] for row in found}

    def run(self) -> list[str]:
        """A run that has to publish; the checks of the scores that did not pass."""
        answer = self.home.run("run", "--json", timeout=900)
        assert answer.code == 0, answer.out + answer.err
        failed = answer.document["published"]["failed_checks"]
        return [check["message"] for check in failed if check["table_name"].startswith(("ml.", "reverse_etl."))]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_who_stops_being_a_customer_within_a_date_loses_the_score_and_the_rest_is_published(tmp_path: Path) -> None:
    config = tmp_path / "tenure.yml"
    config.write_text(CONFIG.format(data=tmp_path), encoding="utf-8")
    company = Company(tmp_path, Home(tmp_path / "var", config))

    company.contracts()
    assert company.run() == []
    assert company.scored() == list(ACCOUNTS)

    # The day is the same: only the start of a contract was corrected.
    company.contracts(of_4=LATER)
    assert company.run() == []
    assert company.scored() == ["1", "2", "3", "5", "6"]
    assert company.history() == {n: n == "4" for n in ACCOUNTS}

    company.contracts(of_2=LATER)
    assert company.run() == []
    assert company.scored() == ["1", "3", "4", "5", "6"], "who is a customer again has a score again"

    config.write_text(config.read_text(encoding="utf-8") + "model: {enabled: false}\n", encoding="utf-8")
    assert company.run() == []
    assert company.scored() == [], "with the model off nobody is scored"
