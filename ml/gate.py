"""May this model's scores be used? Rules over numbers; what they said is recorded whichever way it went.

Lives here: the evidence, the rules, the decision in sentences. Must not live here: how the numbers come about
(`ml/evaluate.py`), where the decision is kept (`ml/registry.py`), settings (`core.settings.GateConfig`).

A refusal is a normal result. Floors refuse: no signal, worse than knowing nothing, worse than a plain regression, risks that
cannot be taken at their word, too good to be true. A model above the floors that is worse than the one in use stays a
challenger. All differences in log loss are "this model minus the other": below zero is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.settings import GateConfig
    from ml.evaluate import Difference, Evaluation

TOO_GOOD = 0.99
"""No honest churn model reaches this ROC AUC; a column that knows the outcome does."""

State = Literal["champion", "challenger", "refused"]


@dataclass(frozen=True)
class Check:
    """One rule: its name, whether it holds, and the sentence with the numbers."""

    rule: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Decision:
    """What becomes of a model, and why."""

    promoted: bool
    state: State
    reasons: tuple[str, ...]
    """What stood in the way; when nothing did, what was found."""
    checks: tuple[Check, ...] = ()

    def document(self) -> dict[str, Any]:
        """The decision as plain data."""
        return {
            "promoted": self.promoted,
            "state": self.state,
            "reasons": list(self.reasons),
            "checks": [{"rule": c.rule, "passed": c.passed, "sentence": c.sentence} for c in self.checks],
        }


@dataclass(frozen=True)
class Gap:
    """A difference in log loss on the same rows with its 95 % interval from a paired bootstrap by account."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, difference: Difference | None) -> Gap | None:
        """From `evaluate.compare(...)["log_loss"]`; None where it is not defined."""
        if difference is None or difference.difference is None or difference.low is None or difference.high is None:
            return None
        return cls(difference.difference, difference.low, difference.high)

    def words(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True)
class Evidence:
    """What is known of a model, forward in time. None: it could not be measured."""

    events: int
    """Departures in the test window."""
    roc_auc: float | None
    roc_auc_low: float | None
    """Lower end of the 95 % interval."""
    log_loss: float | None
    prior_log_loss: float | None
    """Log loss of giving everybody the share that left in training."""
    ece: float | None
    ece_noise: float | None
    """ECE of a perfectly calibrated model of that size."""
    regression: Gap | None = None
    """Against a logistic regression on the same features."""
    recency_roc_auc: float | None = None
    champion: Gap | None = None
    """Against the model in use, on the newest matured window; None when there is none."""
    leak_suspects: tuple[str, ...] = ()
    """Features that nearly decide the label, the most suspect first."""


def evidence(
    evaluation: Evaluation,
    *,
    prior: Evaluation,
    recency: Evaluation | None = None,
    against_regression: Difference | None = None,
    against_champion: Difference | None = None,
    leak_suspects: Sequence[str] = (),
) -> Evidence:
    """The evidence in the words of `ml/evaluate.py`; the differences are those of log loss, this model first."""
    auc, ece = evaluation.metrics["roc_auc"], evaluation.metrics["ece"]
    return Evidence(
        events=evaluation.events,
        roc_auc=auc.value,
        roc_auc_low=auc.low,
        log_loss=evaluation.metrics["log_loss"].value,
        prior_log_loss=prior.metrics["log_loss"].value,
        ece=ece.value,
        ece_noise=evaluation.ece_floor.value,
        regression=Gap.of(against_regression),
        recency_roc_auc=None if recency is None else recency.metrics["roc_auc"].value,
        champion=Gap.of(against_champion),
        leak_suspects=tuple(leak_suspects),
    )


def judge(found: Evidence, config: GateConfig) -> Decision:
    """Apply every rule. Never raises: what could not be measured does not pass."""
    floors = [
        check
        for check in (
            _measured(found),
            _ranks(found, config),
            _believable(found),
            _knows_more_than_the_share(found, config),
            _honest(found, config),
            _beats_regression(found),
            _beats_recency(found),
        )
        if check is not None
    ]
    against_champion = _not_worse_than_champion(found)
    checks = (*floors, *([against_champion] if against_champion else []))
    failed = tuple(check.sentence for check in checks if not check.passed)
    if not all(check.passed for check in floors):
        return Decision(False, "refused", failed, checks)
    if failed:
        return Decision(False, "challenger", failed, checks)
    return Decision(True, "champion", tuple(check.sentence for check in checks), checks)


def _measured(found: Evidence) -> Check | None:
    if found.roc_auc is not None and found.log_loss is not None:
        return None
    return Check(
        "measured",
        False,
        f"With {counted(found.events, 'departure')} in the test window nothing could be measured forward in time.",
    )


def _ranks(found: Evidence, config: GateConfig) -> Check | None:
    if found.roc_auc is None:
        return None
    low = "" if found.roc_auc_low is None else f" (at least {found.roc_auc_low:.3f} with 97.5 % confidence)"
    if found.roc_auc < config.min_roc_auc:
        sentence = (
            f"ROC AUC {found.roc_auc:.3f}{low} is below the floor of {config.min_roc_auc:.2f}; guessing has 0.50."
        )
        return Check("ranks", False, sentence)
    if found.roc_auc_low is not None and found.roc_auc_low <= 0.5:
        sentence = (
            f"ROC AUC {found.roc_auc:.3f} may be luck: with {counted(found.events, 'departure')} its interval "
            f"reaches down to {found.roc_auc_low:.3f}, and guessing has 0.50."
        )
        return Check("ranks", False, sentence)
    return Check("ranks", True, f"ROC AUC {found.roc_auc:.3f}{low} forward in time, above {config.min_roc_auc:.2f}.")


def _believable(found: Evidence) -> Check | None:
    if found.roc_auc is None or found.roc_auc <= TOO_GOOD:
        return None
    named = ", ".join(found.leak_suspects[:3])
    suspect = f"look first at {named}" if named else "look at the features that weigh most"
    sentence = (
        f"ROC AUC {found.roc_auc:.4f} is too good to be true: a column seems to know who has already left; {suspect}."
    )
    return Check("believable", False, sentence)


def _knows_more_than_the_share(found: Evidence, config: GateConfig) -> Check | None:
    if found.log_loss is None or found.prior_log_loss is None:
        return None
    gain = found.prior_log_loss - found.log_loss
    numbers = f"log loss {found.log_loss:.4f} against {found.prior_log_loss:.4f} for giving everybody the same risk"
    if gain > 0 and gain >= config.min_log_loss_gain:
        return Check("beats_prior", True, f"It knows more than the overall share: {numbers}.")
    wanted = f"; a gain of {config.min_log_loss_gain:.4f} is asked for" if config.min_log_loss_gain else ""
    return Check("beats_prior", False, f"It knows no more than the overall share: {numbers}{wanted}.")


def _honest(found: Evidence, config: GateConfig) -> Check | None:
    if found.ece is None:
        return None
    noise = found.ece_noise or 0.0
    above = found.ece - noise
    numbers = f"ECE {found.ece:.4f}, {max(above, 0):.4f} above the {noise:.4f} that luck alone makes"
    if above <= config.max_ece_above_noise:
        return Check("calibrated", True, f"Its risks can be taken at their word: {numbers}.")
    limit = f"{config.max_ece_above_noise:.4f} above is allowed"
    return Check("calibrated", False, f"Its risks cannot be taken at their word: {numbers}; {limit}.")


def _beats_regression(found: Evidence) -> Check | None:
    gap = found.regression
    if gap is None:
        return None
    numbers = f"log loss {gap.words()} against a logistic regression on the same features"
    if gap.value < 0:
        return Check("beats_regression", True, f"It beats a plain model: {numbers}.")
    return Check("beats_regression", False, f"It does not beat a plain model forward in time: {numbers}.")


def _beats_recency(found: Evidence) -> Check | None:
    if found.recency_roc_auc is None or found.roc_auc is None:
        return None
    numbers = f"ROC AUC {found.roc_auc:.3f} against {found.recency_roc_auc:.3f} for ranking by the time since last seen"
    if found.roc_auc > found.recency_roc_auc:
        return Check("beats_recency", True, f"It ranks better than the simplest rule: {numbers}.")
    return Check("beats_recency", False, f"It ranks no better than the simplest rule: {numbers}.")


def _not_worse_than_champion(found: Evidence) -> Check | None:
    gap = found.champion
    if gap is None:
        return None
    numbers = f"log loss {gap.words()} against the champion on the same newest matured window"
    if gap.low > 0:
        return Check("not_worse_than_champion", False, f"Worse than the model in use: {numbers}.")
    return Check("not_worse_than_champion", True, f"Not worse than the model in use: {numbers}.")
