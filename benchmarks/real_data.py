"""`python -m benchmarks.real_data [telco|online_retail|oulad …] [--data DIR]`: the recipe on data that nobody here made.

Lives here: simple features in SQL, the published protocol of each data set, the numbers beside baselines. Must not live
here: any setting of the recipe; it is one for all. One JSON document on standard output, a table on standard error.

- telco: 5-fold stratified twice (seeds 100 and 101), mean over the ten folds.
- online_retail: no order in 90 days, customers active in the last 180; monthly as-of dates from 2011-03-01; tests 2011-08-01
  and 2011-09-01, each trained on the dates whose windows close by then; mean of the two.
- oulad: unregisters within 30 days; as-of every 30 days of a course; tests are the presentations 2014B and 2014J, trained on
  rows of earlier presentations whose windows close by the start of the test presentation; mean of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core import warehouse
from ml import evaluate, recipe, trees
from ml.dataset import Dataset, assemble
from ml.split import never_seen

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 7
REPORTED = ("roc_auc", "pr_auc", "log_loss", "brier", "ece", "lift_top_decile")
SMALL: dict[str, Any] = {**trees.SMALL, "rounds": trees.SMALL_ROUNDS}
DEFAULTS: dict[str, Any] = {"rounds": 100}


@dataclass(frozen=True)
class Case:
    """One data set under its protocol: pairs of training and test rows."""

    name: str
    data: Dataset
    pairs: tuple[tuple[Dataset, Dataset], ...]
    embargo_days: int
    recency: str | None
    target: dict[str, float]
    """What has to be reached or passed."""


def telco(folder: Path) -> Case:
    """IBM's sample: one flat file, no time."""
    from sklearn.model_selection import StratifiedKFold

    with warehouse.scratch() as connection:
        frame = connection.execute(
            f"""
            select
                * exclude (TotalCharges, Churn, SeniorCitizen),
                try_cast(TotalCharges as double) as TotalCharges,
                SeniorCitizen::int as SeniorCitizen,
                (Churn = 'Yes' or Churn = 'true')::int as churned
            from read_csv({warehouse.literal(str(folder / "telco" / "*.csv"))})
            """
        ).df()
    data = assemble(frame, entity="customerID", label="churned")
    pairs = [
        (data.where(train), data.where(test))
        for seed in (100, 101)
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(data.features, data.labels)
    ]
    target = {"roc_auc": 0.850, "log_loss": 0.411, "ece": 0.029}
    return Case("telco", data, tuple(pairs), 0, None, target)


RETAIL = """
with lines as (
    select
        CustomerID::double::bigint::text as account_id,
        InvoiceNo as invoice,
        StockCode as product,
        Country as country,
        InvoiceDate::timestamp as ordered_at,
        Quantity::double as quantity,
        Quantity::double * UnitPrice::double as amount,
        InvoiceNo like 'C%' as is_return
    from read_csv({files}, all_varchar = true)
    where CustomerID is not null
),
orders as (
    select
        account_id,
        invoice,
        min(ordered_at) as ordered_at,
        sum(amount) as amount,
        sum(quantity) as items,
        count(distinct product) as products,
        any_value(country) as country
    from lines
    where not is_return and quantity > 0 and amount > 0
    group by account_id, invoice
),
spaced as (
    select *, date_diff('day', lag(ordered_at) over (partition by account_id order by ordered_at, invoice), ordered_at) as gap
    from orders
),
dates as (
    select unnest(generate_series(timestamp '2011-03-01', timestamp '2011-09-01', interval 1 month)) as as_of
),
history as (
    select
        account_id,
        as_of::date as as_of,
        date_diff('hour', max(ordered_at), as_of) / 24.0 as days_since_order,
        date_diff('day', min(ordered_at), as_of) as days_since_first_order,
        count(*) as orders,
        count(*) filter (where ordered_at >= as_of - interval 30 day) as orders_30d,
        count(*) filter (where ordered_at >= as_of - interval 90 day) as orders_90d,
        count(*) filter (where ordered_at < as_of - interval 90 day) as orders_before_90d,
        count(distinct date_trunc('month', ordered_at)) as months_with_orders,
        sum(amount) as amount,
        sum(amount) filter (where ordered_at >= as_of - interval 90 day) as amount_90d,
        avg(amount) as mean_amount,
        max(amount) as largest_amount,
        arg_max(amount, ordered_at) as last_amount,
        avg(items) as mean_items,
        avg(products) as mean_products,
        arg_max(products, ordered_at) as last_products,
        avg(gap) as mean_gap_days,
        stddev_samp(gap) as gap_spread_days,
        max(gap) as longest_gap_days,
        arg_max(gap, ordered_at) as last_gap_days,
        avg(hour(ordered_at)) as mean_hour,
        any_value(country) as country
    from spaced, dates
    where ordered_at < as_of
    group by account_id, as_of
    having max(ordered_at) >= as_of - interval 180 day
),
bought as (
    select
        account_id,
        as_of::date as as_of,
        count(distinct product) filter (where not is_return) as distinct_products,
        count(distinct invoice) filter (where is_return) as returns,
        -sum(amount) filter (where is_return) as returned_amount
    from lines, dates
    where ordered_at < as_of
    group by account_id, as_of
)
select
    history.*,
    distinct_products,
    returns,
    coalesce(returned_amount, 0) / amount as returned_share,
    days_since_order / nullif(mean_gap_days, 0) as recency_to_gap,
    days_since_order / greatest(days_since_first_order, 1) as recency_to_age,
    orders / greatest(days_since_first_order, 15) as orders_per_day,
    orders_90d / orders as recent_share,
    distinct_products / orders as products_per_order,
    not exists (
        select 1
        from orders
        where orders.account_id = history.account_id
            and orders.ordered_at >= history.as_of
            and orders.ordered_at < history.as_of + interval 90 day
    ) as churned
from history
left join bought using (account_id, as_of)
"""


def online_retail(folder: Path) -> Case:
    """Real orders of a shop; churn is inactivity."""
    files = warehouse.literal(str(folder / "online_retail" / "*.csv.gz"))
    with warehouse.scratch() as connection:
        frame = connection.execute(RETAIL.format(files=files)).df()
    data = assemble(frame, entity="account_id", label="churned", as_of="as_of")
    target = {"roc_auc": 0.754, "log_loss": 0.577, "ece": 0.045}
    pairs = tuple(_forward(data, ("2011-08-01", "2011-09-01"), embargo_days=90))
    return Case("online_retail", data, pairs, 90, "days_since_order", target)


OULAD = """
with courses as (
    select
        *,
        case code_presentation
            when '2013B' then date '2013-02-01'
            when '2013J' then date '2013-10-01'
            when '2014B' then date '2014-02-01'
            else date '2014-10-01'
        end as started_on
    from read_parquet({folder} || '/course.parquet')
),
registrations as (
    select *
    from read_parquet({folder} || '/student_registration.parquet') as enrolments
    inner join read_parquet({folder} || '/student.parquet') as students using (code_module, code_presentation, id_student)
    inner join courses using (code_module, code_presentation)
),
snapshots as (
    select *, started_on + day::int as as_of
    from registrations, (select unnest(generate_series(0, 270, 30)) as day)
    where day < module_presentation_length
        and coalesce(date_registration, -1000) <= day
        and coalesce(date_unregistration, 1000) > day
),
assessments as (
    select * from read_parquet({folder} || '/assessment.parquet')
),
submissions as (
    select id_student, code_module, code_presentation, date_submitted, score, is_banked, weight, date as due
    from read_parquet({folder} || '/student_assessment.parquet')
    inner join assessments using (id_assessment)
),
submitted as (
    select
        id_student,
        code_module,
        code_presentation,
        day,
        count(*) as submitted,
        count(*) filter (where date_submitted >= day - 30) as submitted_30d,
        avg(score) as mean_score,
        min(score) as lowest_score,
        arg_max(score, date_submitted) as last_score,
        arg_max(score, date_submitted) - avg(score) as last_score_against_mean,
        day - max(date_submitted) as days_since_submission,
        avg(date_submitted - due) as mean_days_late,
        arg_max(date_submitted - due, date_submitted) as last_days_late,
        count(*) filter (where is_banked) as banked,
        sum(weight * score) as points
    from submissions
    inner join snapshots using (id_student, code_module, code_presentation)
    where date_submitted < day
    group by id_student, code_module, code_presentation, day
),
due as (
    select
        code_module,
        code_presentation,
        day,
        count(*) filter (where date < day) as due,
        count(*) filter (where date < day and date >= day - 30) as due_30d,
        sum(weight) filter (where date < day) as due_weight,
        min(date) filter (where date >= day) - day as days_to_next_due,
        count(*) filter (where date >= day and date < day + 30) as due_next_30d,
        sum(weight) filter (where date >= day and date < day + 30) as weight_next_30d
    from assessments, (select unnest(generate_series(0, 270, 30)) as day)
    group by code_module, code_presentation, day
),
elsewhere as (
    select
        snapshots.id_student,
        snapshots.code_module,
        snapshots.code_presentation,
        day,
        count(*) filter (where other.started_on < snapshots.started_on) as earlier_courses,
        count(*) filter (where other.started_on = snapshots.started_on) as parallel_courses,
        count(*) filter (where other.started_on + other.date_unregistration::int < as_of) as courses_left
    from snapshots
    inner join registrations as other
        on snapshots.id_student = other.id_student
            and (snapshots.code_module, snapshots.code_presentation) != (other.code_module, other.code_presentation)
            and other.started_on + coalesce(other.date_registration, -30)::int < as_of
    group by snapshots.id_student, snapshots.code_module, snapshots.code_presentation, day
)
select
    id_student,
    as_of,
    code_presentation,
    coalesce(date_unregistration <= day + 30, false) as churned,
    code_module,
    right(code_presentation, 1) as start_month,
    gender,
    region,
    highest_education,
    imd_band,
    age_band,
    disability,
    num_of_prev_attempts,
    studied_credits,
    date_registration,
    day,
    module_presentation_length - day as days_left,
    coalesce(submitted, 0) as submitted,
    coalesce(submitted_30d, 0) as submitted_30d,
    due - coalesce(submitted, 0) as missed,
    due_30d - coalesce(submitted_30d, 0) as missed_30d,
    coalesce(submitted, 0) / nullif(due, 0) as submitted_share,
    mean_score,
    lowest_score,
    last_score,
    last_score_against_mean,
    days_since_submission,
    mean_days_late,
    last_days_late,
    banked,
    coalesce(points, 0) / nullif(due_weight, 0) as points_per_due_weight,
    due,
    days_to_next_due,
    due_next_30d,
    weight_next_30d,
    coalesce(earlier_courses, 0) as earlier_courses,
    coalesce(parallel_courses, 0) as parallel_courses,
    coalesce(courses_left, 0) as courses_left
from snapshots
left join submitted using (id_student, code_module, code_presentation, day)
left join due using (code_module, code_presentation, day)
left join elsewhere using (id_student, code_module, code_presentation, day)
"""


def oulad(folder: Path) -> Case:
    """Real enrolments; a student who unregisters leaves."""
    with warehouse.scratch() as connection:
        frame = connection.execute(OULAD.format(folder=warehouse.literal(str(folder / "oulad")))).df()
    presentation = frame.pop("code_presentation").to_numpy()
    data = assemble(frame, entity="id_student", label="churned", as_of="as_of")
    as_of = _dates(data)
    pairs = []
    for test in ("2014B", "2014J"):
        here = presentation == test
        earlier = (presentation < test) & (as_of + np.timedelta64(30, "D") <= as_of[here].min())
        pairs.append((data.where(earlier), data.where(here)))
    target = {"roc_auc": 0.753, "log_loss": 0.147, "ece": 0.007}
    return Case("oulad", data, tuple(pairs), 30, None, target)


CASES: dict[str, Callable[[Path], Case]] = {"telco": telco, "online_retail": online_retail, "oulad": oulad}


def measure(case: Case, threads: int = 2) -> dict[str, Any]:
    """Every model of the comparison, trained and tested on each pair; means over the pairs."""
    scores: dict[str, list[dict[str, float | None]]] = {}
    details = []
    for train, test in case.pairs:
        started = time.perf_counter()
        fitted = recipe.fit(train, embargo_days=case.embargo_days, seed=SEED, threads=threads)
        seconds = time.perf_counter() - started
        probability = fitted.model.probability(test.features)
        scores.setdefault("recipe", []).append(evaluate.metrics(test.labels, probability))
        scores.setdefault("xgboost small", []).append(_trees(train, test, SMALL, threads))
        scores.setdefault("xgboost defaults", []).append(_trees(train, test, DEFAULTS, threads))
        for name, baseline in evaluate.baselines(train, test, recency=case.recency).items():
            numbers = evaluate.metrics(test.labels, baseline.score, ranking_only=not baseline.is_probability)
            scores.setdefault(name.replace("_", " "), []).append(numbers)
        unseen = never_seen(train, test)
        details.append(
            {
                "train_rows": len(train),
                "test_rows": len(test),
                "test_events": test.events,
                "fit_seconds": round(seconds, 2),
                "recipe": scores["recipe"][-1],
                "ece_floor": asdict(
                    evaluate.noise_floor(probability, seed=SEED, windows=evaluate.Windows.of(test, case.embargo_days))
                ),
                "roc_auc_never_seen": evaluate.metrics(test.labels[unseen], probability[unseen])["roc_auc"],
                "selection": fitted.selection,
            }
        )
    means = {name: {key: _mean([one[key] for one in folds]) for key in REPORTED} for name, folds in scores.items()}
    return {"target": case.target, "means": means, "tests": details}


def _trees(train: Dataset, test: Dataset, parameters: dict[str, Any], threads: int) -> dict[str, float | None]:
    model = recipe.fit_trees(train, parameters, seed=SEED, threads=threads)
    return evaluate.metrics(test.labels, model.probability(test.features))


def _forward(data: Dataset, tests: tuple[str, ...], *, embargo_days: int) -> Iterator[tuple[Dataset, Dataset]]:
    as_of = _dates(data)
    for test in tests:
        date = np.datetime64(test)
        yield data.where(as_of + np.timedelta64(embargo_days, "D") <= date), data.where(as_of == date)


def _dates(data: Dataset) -> NDArray[np.datetime64]:
    if data.as_of is None:
        raise ValueError("a forward test needs as-of dates")
    return data.as_of


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 5) if known else None


def _table(results: dict[str, Any]) -> str:
    lines = []
    for name, result in results.items():
        frame = pd.DataFrame(result["means"]).T
        frame.loc["to reach"] = pd.Series(result["target"])
        lines.append(f"{name}\n{frame.to_string(float_format=lambda value: f'{value:.4f}')}\n")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_data", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(CASES)} (default: all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("TENURE_DATA_DIR"), help="the folder of the data")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(CASES))
    if unknown or arguments.data is None:
        sys.stderr.write(f"unknown: {unknown}\n" if unknown else "say where the data are: --data or TENURE_DATA_DIR\n")
        return 2
    results = {
        name: measure(CASES[name](Path(arguments.data)), arguments.threads) for name in arguments.names or list(CASES)
    }
    sys.stderr.write(_table(results))
    sys.stdout.write(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
