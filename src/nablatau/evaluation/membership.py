"""Can forgotten records be told from unseen ones? A family of tests on one signal, plain or calibrated by a reference.

The plain signal is the margin (minus the loss where there are no classes). It assumes that forgotten and unseen records
come from one distribution: where the forget set is not a random draw, even perfectly retrained models are flagged. The
calibrated signal, log p_model − log p_reference of a record's label, compares each record with itself under a model
that never saw it (RMIA with one OUT model, Zarifzadeh et al. 2312.03262: its score is monotone in this difference),
and keeps its level for any forget set.

The family is two-sided where over-forgetting can show; its p-values are adjusted by Holm's method, so that the whole
family raises a false alarm in at most 5 % of cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from nablatau.evidence import Evidence
from nablatau.scoring import Array
from nablatau.statistics import (
    AucEstimate,
    Interval,
    StratifiedAuc,
    auc_estimate,
    auc_interval,
    auc_stratified,
    holm,
    ks_test,
    minimum_negatives,
    tail_test,
    tpr_at_fpr,
)
from nablatau.statistics.auc import model_variance

ALPHA = 0.05
FEWEST_UNSEEN = 30
"""Unseen records below which no verdict on membership is given."""
FALSE_POSITIVE_RATES = (0.1, 0.01)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One signal of forgotten and of unseen records; higher = better remembered.

    Attributes:
        forget: (n,) of the forgotten records.
        unseen: (m,) of the unseen records to compare with.
        forget_strata, unseen_strata: (n,) and (m,) classes, where the comparison is within classes.
        calibrated: whether each record is compared with itself under a reference model.
    """

    forget: Array
    unseen: Array
    forget_strata: Array | None = None
    unseen_strata: Array | None = None
    calibrated: bool = False


@dataclass(frozen=True, kw_only=True)
class MembershipTest:
    """One test of the family.

    Attributes:
        name: what is tested.
        number: its statistic with interval.
        p_value: two-sided, or one-sided where only a leak can show.
        remembered: whether the deviation, if any, is towards remembering (else towards over-forgetting).
    """

    name: str
    number: Interval
    p_value: float
    remembered: bool


def plain_sides(evidence: Evidence, model: str) -> Sides:
    """The margins (minus the losses where there are none) of forgotten and unseen records under one model."""
    if "margin" in evidence.scores[model]["forget"]:
        forget, unseen = evidence.pair(model, "margin")
    else:
        forget, unseen = (-losses for losses in evidence.pair(model, "loss"))
    strata = _strata(evidence, model)
    return Sides(forget=forget, unseen=unseen, forget_strata=strata[0], unseen_strata=strata[1])


def calibrated_sides(evidence: Evidence, model: str) -> Sides:
    """log p_model − log p_reference of forgotten and unseen records, where "retrained" is the reference."""
    ours, reference = evidence.pair(model, "loss"), evidence.pair("retrained", "loss")
    return Sides(forget=reference[0] - ours[0], unseen=reference[1] - ours[1], calibrated=True)


def _strata(evidence: Evidence, model: str) -> tuple[Array | None, Array | None]:
    """Classes of both sides for a comparison within classes; None where it would leave records out."""
    if evidence.kind != "single-label":
        return None, None
    forget, unseen = evidence.pair(model, "target")
    return (forget, unseen) if set(np.unique(forget)) <= set(np.unique(unseen)) else (None, None)


def estimate_auc(sides: Sides) -> AucEstimate:
    """The chance that a forgotten record's signal is the higher, within strata where there are any."""
    if sides.forget_strata is None or sides.unseen_strata is None:
        return auc_estimate(sides.forget, sides.unseen)
    found: StratifiedAuc = auc_stratified(sides.forget, sides.unseen, sides.forget_strata, sides.unseen_strata)
    return found.estimate


def auc_p_value(estimate: AucEstimate) -> float:
    """Two-sided p-value of an AUC against 0.5, by the variance it would have there."""
    return float(2 * norm.sf(abs(estimate.value - 0.5) / model_variance(0.5, estimate) ** 0.5))


def family(sides: Sides) -> list[MembershipTest]:
    """The tests of one signal.

    Args:
        sides: at least 1 forgotten and `FEWEST_UNSEEN` unseen records.
    """
    estimate = estimate_auc(sides)
    remembered = estimate.value > 0.5
    tests = [
        MembershipTest(name="AUC", number=auc_interval(estimate), p_value=auc_p_value(estimate), remembered=remembered)
    ]
    distance = ks_test(sides.forget, sides.unseen)
    shown = Interval(distance.statistic, 0.0, 1.0, distance.n, "Kolmogorov-Smirnov, no interval", distance.m)
    tests.append(MembershipTest(name="KS distance", number=shown, p_value=distance.p_value, remembered=remembered))
    tail = tail_test(-sides.forget, -sides.unseen)
    fewer = tail.share.value < tail.expected
    tests.append(
        MembershipTest(
            name="share beyond the unseen records' 95th percentile",
            number=tail.share,
            p_value=tail.p_value,
            remembered=fewer,
        )
    )
    for rate in usable_rates(len(sides.unseen)):
        found = tpr_at_fpr(sides.forget, sides.unseen, rate)
        name = f"TPR at {rate:.0%} FPR"
        tests.append(MembershipTest(name=name, number=found.tpr, p_value=found.p_value, remembered=True))
    return tests


def usable_rates(unseen: int) -> list[float]:
    """The false positive rates that so many unseen records can bound."""
    return [rate for rate in FALSE_POSITIVE_RATES if unseen >= minimum_negatives(rate)]


def flagged(tests: Sequence[MembershipTest]) -> list[MembershipTest]:
    """The tests that deviate significantly, Holm-adjusted, the most significant first."""
    adjusted = holm([test.p_value for test in tests])
    hits = [(p, test) for p, test in zip(adjusted, tests, strict=True) if p <= ALPHA]
    return [test for _, test in sorted(hits, key=lambda hit: (hit[0], hit[1].p_value))]


def false_alarms(sides: Sides, *, draws: int = 200, seed: int = 0) -> tuple[int, int]:
    """Negative control: how often random subsets of the unseen records, posing as forgotten, are flagged.

    Args:
        sides: of any model; only the unseen side is used.
        draws: number of subsets.
        seed: of the draws.

    Returns:
        (flagged, draws). Subsets have as many records as the forget set, at most half of the unseen ones.
    """
    generator = np.random.default_rng(seed)
    unseen = sides.unseen[: 2 * MOST_IN_CONTROL]
    size = min(len(sides.forget), len(unseen) // 2)
    return sum(_control_flagged(generator.permutation(unseen), size) for _ in range(draws)), draws


MOST_IN_CONTROL = 2000
"""Records a side in the negative control: more would only cost time."""


def _control_flagged(shuffled: npt.NDArray[np.float64], size: int) -> bool:
    return auc_p_value(auc_estimate(shuffled[:size], shuffled[size:])) <= ALPHA
