"""What nobody can foresee must not be foreseen: much more than a coin's luck would mean that the answer leaks into the question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.warehouse import scratch
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow
DATA = PROJECT.parent / "shared" / "data" / "ravenstack"
FLAT = """
    with subscriptions as (
        select
            account_id, count(*) as subscriptions, avg(cast(mrr_amount as double)) as mrr_avg,
            sum(cast(seats as int)) as seats, count(*) filter (upgrade_flag = 'TRUE') as upgrades,
            count(*) filter (billing_frequency = 'annual') as annual
        from read_csv('{data}/ravenstack_subscriptions.csv', all_varchar = true)
        group by account_id
    ),

    usage as (
        select s.account_id, sum(cast(usage_count as int)) as uses, sum(cast(error_count as int)) as errors
        from read_csv('{data}/ravenstack_feature_usage.csv', all_varchar = true) as u
        join read_csv('{data}/ravenstack_subscriptions.csv', all_varchar = true) as s using (subscription_id)
        group by s.account_id
    ),

    tickets as (
        select
            account_id, count(*) as tickets, avg(cast(satisfaction_score as double)) as satisfaction,
            avg(cast(resolution_time_hours as double)) as solution_hours, count(*) filter (escalation_flag = 'TRUE') as escalations
        from read_csv('{data}/ravenstack_supports_ticket.csv', all_varchar = true)
        group by account_id
    )

    select
        a.account_id, a.industry, a.country, a.referral_source, a.plan_tier, a.is_trial, s.* exclude (account_id),
        u.* exclude (account_id), t.* exclude (account_id), a.churn_flag as churned
    from read_csv('{data}/ravenstack_accounts.csv', all_varchar = true) as a
    left join subscriptions as s using (account_id)
    left join usage as u using (account_id)
    left join tickets as t using (account_id)
"""


def test_whom_ravenstack_calls_churned_was_drawn_by_lot_and_the_gate_says_so(tmp_path: Path) -> None:
    table = tmp_path / "accounts.parquet"
    with scratch() as connection:
        connection.execute(f"copy ({FLAT.replace('{data}', str(DATA))}) to '{table}'")
    command = ("train", "--table", str(table), "--label", "churned", "--id", "account_id", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "orchestration", *command],
        env={**os.environ, "TENURE_HOME": str(tmp_path / "home")},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert 0.45 <= answer["test"]["metrics"]["roc_auc"]["value"] <= 0.55
    assert answer["decision"]["state"] == "refused"
    assert "do not act on these scores" in answer["verdict"]
