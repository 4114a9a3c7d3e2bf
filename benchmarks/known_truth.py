"""How close does the churn model come to the truth that the sandbox company keeps hidden?

`python -m benchmarks.known_truth [--accounts 2000] [--months 24] [--seed 7] [--home DIR]` lives through the ordinary job (or
reads a home that has) and prints JSON. Lives here: the oracle, and the comparison of scores and reasons with the hidden truth.
Must not live here: anything that the pipeline reads.

The oracle ranks by the generator's own hazard of the month in which the as-of date lies, without the noise that no data show.
That hazard is made from what was visible at the beginning of the month, so it is a few weeks old at the end of it: an oracle
"from what is visible at the as-of date" would be a little better within the month. Both orders of magnitude are printed: all
dates of the test window, and the dates within a week of a month's beginning alone. For the same reason the driver of a
departure is looked for in the reasons of accounts that left within a month, and, beside it, within the whole horizon: what drives
an account away in the third month need not be there yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core import settings, telemetry
from core.warehouse import scratch, warehouse
from ml import evaluate, reasons, registry, source, split
from ml.features import catalogue
from ml.judge import TEST_DATES
from sandbox.hazard import DRIVERS

if TYPE_CHECKING:
    from ml.dataset import Dataset
    from ml.model import ChurnModel

SAYS: dict[str, tuple[str, ...]] = {
    "falling_usage": (
        *("events_7d", "events_28d", "events_per_user_28d", "active_days_7d", "active_days_28d"),
        *("events_trend_7d_pct", "events_trend_28d_pct", "events_trend_112d_pct"),
        *("active_days_trend_112d_pct", "user_days_trend_112d_pct", "days_since_last_seen", "silence_ratio"),
    ),
    "failed_payments": (
        *("failed_payments_45d", "failed_payments_90d", "overdue_amount", "overdue_days", "unpaid_days"),
        "late_days_avg_365d",
    ),
    "unresolved_tickets": ("tickets_open", "tickets_unsolved_120d", "oldest_open_ticket_days"),
    "lost_champion": ("has_champion", "champions_left_180d", "contacts_left_90d"),
    "low_seat_use": ("seat_use_28d_pct", "active_users_28d", "seats"),
    "short_tenure": (
        *("tenure_days", "account_age_days", "purchases_ever", "days_since_contract_change"),
        "purchase_gap_avg_days",
    ),
    "bad_nps": ("nps_last_score", "nps_change"),
    "renewal_due": ("days_to_renewal", "billing_interval", "days_since_contract_change"),
}
"""Which features measure a driver of the hidden hazard."""
MEANINGLESS = (
    *("country", "industry", "unsubscribed_pct", "days_since_last_touch", "touches_90d", "inbound_90d", "meetings_90d"),
    *("features_new_28d", "top_user_share_28d_pct", "first_response_avg_90d_hours"),
)
"""Features on which nothing in the generator's hazard depends, directly or by way of a driver."""


def main() -> int:
    arguments = _arguments()
    telemetry.switch_off()
    if arguments.home is not None:
        found = measure(arguments.home)
    else:
        with tempfile.TemporaryDirectory(prefix="tenure-truth-") as folder:
            home = live(Path(folder), arguments.accounts, arguments.months, arguments.seed)
            found = measure(home)
    sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
    return 0


def live(folder: Path, accounts: int, months: int, seed: int) -> Path:
    """Found a company in `folder` and let `tenure run` live through its history; returns its home."""
    text = settings.DEFAULT_CONFIG.read_text(encoding="utf-8")
    config = folder / "tenure.yml"
    config.write_text(
        text.replace(
            "sandbox: {accounts: 2000, months: 24, seed: 7}",
            f"sandbox: {{accounts: {accounts}, months: {months}, seed: {seed}}}",
        ),
        encoding="utf-8",
    )
    home = folder / "var"
    command = [sys.executable, "-m", "orchestration", "--config", str(config), "run"]
    subprocess.run(
        command,
        env={**os.environ, "TENURE_HOME": str(home)},
        stdout=sys.stderr,
        cwd=settings.PROJECT_ROOT,
        check=True,
    )
    return home


def measure(home: Path) -> dict[str, Any]:
    """The newest model of `home` against the truth: its test window, and the reasons it gives."""
    store = registry.connect(home, None)
    version = store.version("latest")
    tested = store.load_tested(version)
    with warehouse(home / "warehouse.duckdb", read_only=True) as connection:
        data = source.training_data(connection, catalogue(), max_rows=200_000)
        matched = connection.execute(
            "select source_account_id as crm_id, account_id from intermediate.int_accounts_matched where source = 'crm'"
        ).df()
    hazards, departures = truth(home, matched)
    _, newest = split.forward_test(data, embargo_days=settings.ChurnConfig().window_days, test_dates=TEST_DATES["week"])
    test = data.where(newest)
    rows = pd.DataFrame(
        {"account_id": test.entity, "as_of": pd.Series(test.as_of, dtype="datetime64[ns]"), "label": test.labels}
    )
    rows["month"] = rows["as_of"].dt.to_period("M").dt.to_timestamp()
    rows["model"] = tested.probability(test.features)
    rows = rows.merge(hazards, on=["account_id", "month"], how="left")
    known = rows["visible"].notna()
    rows = rows[known].reset_index(drop=True)
    place = np.flatnonzero(known.to_numpy())
    early = rows["as_of"].dt.day <= 7
    return {
        "version": version.number,
        "rows": len(rows),
        "rows_without_hazard": int((~known).sum()),
        "events": int(rows["label"].sum()),
        "all_dates": _against_oracle(rows),
        "first_week_of_a_month": _against_oracle(rows[early]) if early.any() else None,
        "ece": _calibration(rows, test.where(place)),
        "reasons": _reasons(_told(tested, test.where(place).features), rows, departures),
    }


def truth(home: Path, matched: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hazards by account and month (`visible`: their log-odds without noise), and departures with their main driver."""
    parts = " + ".join(("base", *DRIVERS))
    with scratch() as connection:
        connection.register("matched", matched)
        hazards = connection.execute(
            f"select account_id, cast(month as timestamp) as month, {parts} as visible, {parts} + noise as everything"
            f" from read_parquet('{home}/sandbox/truth/hazards/*.parquet') as h join matched on h.account_id = crm_id".replace(
                "select account_id", "select matched.account_id"
            )
            + " qualify row_number() over (partition by matched.account_id, month order by visible desc) = 1"
        ).df()
        departures = connection.execute(
            "select matched.account_id, left_at, main_driver"
            f" from read_parquet('{home}/sandbox/truth/departures/*.parquet') as d join matched on d.account_id = crm_id"
            " where is_churn"
        ).df()
    return hazards, departures


def _against_oracle(rows: pd.DataFrame) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    model = roc_auc_score(rows["label"], rows["model"])
    oracle = roc_auc_score(rows["label"], rows["visible"])
    with_noise = roc_auc_score(rows["label"], rows["everything"])
    return {"model_auc": model, "oracle_auc": oracle, "ratio": model / oracle, "auc_with_hidden_noise": with_noise}


def _calibration(rows: pd.DataFrame, test: Dataset) -> dict[str, float]:
    """ECE beside that of a calibrated model: with the windows that rows share, and as if each row stood for itself."""
    label, probability = rows["label"].to_numpy(), rows["model"].to_numpy()
    windows = evaluate.Windows.of(test, settings.ChurnConfig().horizon_days)
    floor = evaluate.noise_floor(probability, seed=7, windows=windows).value or 0.0
    single = evaluate.noise_floor(probability, seed=7).value or 0.0
    found = evaluate.metrics(label.astype(np.float64), probability)["ece"] or 0.0
    return {"ece": found, "noise_floor": floor, "above": found - floor, "above_floor_of_single_rows": found - single}


def _told(model: ChurnModel, features: pd.DataFrame) -> pd.DataFrame:
    """What is told of each row: the features that speak for the reasons that raise its score, by rank."""
    contributions, base = model.contributions(features)
    points = reasons.probability_points(contributions, base, model.feature_names)
    wordings = {feature.name: feature.wording for feature in catalogue()}
    told: pd.DataFrame = reasons.reasons(points, features, wordings).to_pandas()
    return told[told["kind"] == "up"]


def _reasons(told: pd.DataFrame, rows: pd.DataFrame, departures: pd.DataFrame) -> dict[str, Any]:
    everybody = len(rows)
    meaningless = told[told["feature"].isin(MEANINGLESS)]
    by_feature = meaningless.groupby("feature")["row"].nunique() / everybody
    first_three = told[told["rank"] <= 3].groupby("row")["feature"].agg(set)
    found = rows.reset_index().merge(departures, on="account_id")
    left_in = (found["left_at"] - found["as_of"]).dt.days
    found = found[(left_in >= 0) & (left_in < 90) & (found["label"] == 1) & (found["main_driver"] != "noise")]
    found = found.assign(left_in=left_in).drop_duplicates("index")
    pairs = zip(found["index"], found["main_driver"], strict=True)
    found["hit"] = [not first_three.get(row, set()).isdisjoint(SAYS[driver]) for row, driver in pairs]
    soon = found[found["left_in"] <= 31]
    by_driver = soon.groupby("main_driver")["hit"].agg(["mean", "size"])
    return {
        "rows_with_a_meaningless_reason": meaningless["row"].nunique() / everybody,
        "by_meaningless_feature": {str(name): float(share) for name, share in by_feature.items()},
        "reasons_per_row": len(told) / everybody,
        "driver_among_top_three": {
            "left_within_31_days": {"share": float(soon["hit"].mean()), "rows": len(soon)},
            "left_within_90_days": {"share": float(found["hit"].mean()), "rows": len(found)},
        },
        "by_driver_31_days": {
            str(driver): {"share": float(row["mean"]), "rows": int(row["size"])} for driver, row in by_driver.iterrows()
        },
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.known_truth", description="Scores and reasons against the truth."
    )
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--home", type=Path, help="a home that `tenure run` has filled, instead of a new one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
