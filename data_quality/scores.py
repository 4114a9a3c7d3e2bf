"""What scores promise, as data: what the model wrote, and what destinations receive.

Lives here: the columns, limits and sums of the score tables. Must not live here: how a promise is measured (`published.py`).
The features that scores are made of are watched for drift, in `drift.py`.
"""

from __future__ import annotations

from dataclasses import replace

from data_quality.marts import (
    ACCOUNT,
    Mart,
    Sum,
    date_column,
    double_column,
    flag_column,
    money_column,
    text_column,
    time_column,
)
from data_quality.rules import TableRule

TIERS = ("high", "medium", "low", "unknown")
TOLERANCE = 1e-4

_SCORING = "(select * from ml.scorings order by scored_at desc limit 1)"
_IS_CURRENT = "scored_at = (select max(scored_at) from ml.scorings)"
_CURRENT = f"(select * from ml.churn_scores where {_IS_CURRENT})"
"""The scores that count now. A date may be scored several times: what an earlier scoring gave and this one did not is withdrawn."""
_REASONS = tuple(text_column(f"reason_{n}_{part}") for n in (1, 2, 3) for part in ("code", "text"))

SCORED: tuple[Mart, ...] = (
    Mart(
        TableRule(
            "ml",
            "churn_scores",
            (
                replace(ACCOUNT, orphan=None),
                date_column("as_of_date", required=True, past=True),
                double_column("probability", 0, 1),
                double_column("base_probability", 0, 1),
                double_column("percentile", 0, 100),
                text_column("tier", required=True, values=TIERS),
                text_column("model_version", required=True),
                flag_column("is_fallback"),
                double_column("coverage_pct", 0, 100),
                money_column("mrr"),
                time_column("scored_at", required=True),
                text_column("run_id", required=True),
            ),
            ("account_id",),
        ),
        sums=(
            Sum(
                "reasons",
                "the base and the reasons' contributions add up to the probability",
                "select s.account_id as key, s.probability as observed, s.base_probability + r.total as expected"
                f" from {_CURRENT} as s join (select account_id, as_of_date, model_version, sum(contribution) as total"
                " from ml.churn_reasons where kind in ('up', 'down', 'other') group by all) as r"
                " using (account_id, as_of_date, model_version) where not s.is_fallback",
                tolerance=TOLERANCE,
            ),
            Sum(
                "everybody",
                "as many accounts have a score as may leave",
                "select cast(s.as_of_date as varchar) as key, (select count(*) from"
                f" {_CURRENT}) as observed, (select count(*) from features.ftr_churn_scoring) as expected from {_SCORING} as s"
                " where s.model_version <> 'off'"
                " and not exists (select 1 from features.ftr_churn_scoring as f where f.as_of_date <> s.as_of_date)",
            ),
        ),
        boundary="scores",
        current=_IS_CURRENT,
    ),
    Mart(
        TableRule(
            "reverse_etl",
            "customer_scores",
            (
                ACCOUNT,
                text_column("crm_account_id"),
                double_column("churn_probability", 0, 1),
                text_column("churn_tier", required=True, values=TIERS),
                double_column("churn_percentile", 0, 100),
                double_column("churn_probability_change_7d", -1, 1),
                flag_column("is_fallback"),
                *_REASONS,
                text_column("change_reason_code"),
                text_column("change_reason_text"),
                money_column("mrr"),
                money_column("mrr_at_risk"),
                date_column("renewal_date"),
                double_column("score_coverage_pct", 0, 100),
                time_column("data_fresh_at"),
                date_column("as_of_date", required=True),
                text_column("model_version", required=True),
                time_column("scored_at", required=True),
                text_column("row_hash", required=True),
                time_column("changed_at", required=True),
            ),
            ("account_id",),
        ),
        sums=(
            Sum(
                "model",
                "every probability is the model's newest one",
                "select c.account_id as key, c.churn_probability as observed, s.probability as expected from"
                f" reverse_etl.customer_scores as c join {_CURRENT} as s using (account_id)",
                tolerance=TOLERANCE,
            ),
            Sum(
                "withdrawn",
                "the accounts with a score are those that the newest scoring gave one",
                "select account_id as key, count(c.account_id) as observed, count(s.account_id) as expected from"
                f" reverse_etl.customer_scores as c full join {_CURRENT} as s using (account_id) group by account_id",
            ),
            Sum(
                "at_risk",
                "MRR at risk is MRR times probability",
                "select account_id as key, mrr_at_risk as observed, mrr * churn_probability as expected"
                " from reverse_etl.customer_scores",
                tolerance=0.01,
            ),
        ),
        boundary="activation",
    ),
)
