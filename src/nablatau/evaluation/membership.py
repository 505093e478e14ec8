"""Can forgotten records be told from unseen ones? A family of tests on one signal, plain or calibrated by a reference.

The plain signal is the margin (minus the loss where there are no classes). It assumes that forgotten and unseen records
come from one distribution: where the forget set is not a random draw, even perfectly retrained models are flagged. The
calibrated signal, the record's plain signal under the model less that under the reference, compares each record with
itself under a model that never saw it (difficulty calibration, Watson et al. 2111.08440; RMIA with one OUT model,
Zarifzadeh et al. 2312.03262, is its form in log p).

Two retrained models agree closely on easy records and loosely on hard ones, so the difference alone is narrower where
the forget set is the easier one, and tests that look at more than its middle (KS, tail, TPR) would flag a perfect
unlearning: by the losses in 90 % and more of cases. Each difference is therefore taken in units of its usual size among
the unseen records nearest in the mean of both models' signals. Of two models that are exchangeable the mean says
nothing about the sign of the difference. The limit: a forget set harder than any unseen record leaves nothing to
measure by, and its tests at low FPR then flag too often where the signal is a squared error.

The family is two-sided where over-forgetting can show; its p-values are adjusted by Holm's method, so that the whole
family raises a false alarm in at most 5 % of cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata

from nablatau.evidence import Evidence
from nablatau.scoring import Array, Scores
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
FEWEST_NEAR = 20
"""Unseen records from which the usual size of a calibrated difference is taken, at least."""
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
    forget, unseen = _signal(evidence, model)
    strata = _strata(evidence, model)
    return Sides(forget=forget, unseen=unseen, forget_strata=strata[0], unseen_strata=strata[1])


def calibrated_sides(evidence: Evidence, model: str) -> Sides:
    """Signal less that under "retrained", of forgotten and unseen records, in units of its usual size."""
    ours, reference = _signal(evidence, model), _signal(evidence, "retrained")
    forget, unseen = (mine - other for mine, other in zip(ours, reference, strict=True))
    near = [(mine + other) / 2 for mine, other in zip(ours, reference, strict=True)]
    forget_size, unseen_size = _usual_sizes(np.abs(unseen), near[1], near[0])
    return Sides(forget=forget / forget_size, unseen=unseen / unseen_size, calibrated=True)


def plain_signal(scores: Scores) -> Array:
    """(n,) margins, or minus the losses where there are none."""
    signal: Array = scores["margin"] if "margin" in scores else -scores["loss"]
    return signal


def _signal(evidence: Evidence, model: str) -> tuple[Array, Array]:
    forget, unseen = (plain_signal(evidence.scores[model][split]) for split in ("forget", "unseen"))
    return forget, unseen[evidence.comparable]


def _usual_sizes(sizes: Array, places: Array, asked: Array) -> tuple[Array, Array]:
    """Mean of `sizes` (m,) over the tenth (20 at least) of `places` (m,) around each of `asked` (n,) and of `places`.

    A place does not count itself, so that both sides are measured alike. Never 0.
    """
    count = len(places)
    width = min(count, max(FEWEST_NEAR, count // 10))
    order = np.argsort(places, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(sizes[order])])
    floor = max(float(sizes.mean()) * 1e-9, 1e-100)

    def around(ranks: Array, wide: int) -> Array:
        low = np.clip(ranks - wide // 2, 0, count - wide)
        total: Array = sums[low + wide] - sums[low]
        return total

    others = max(width - 1, 1)
    within = np.empty(count)
    within[order] = around(np.arange(count), width)
    beside = around(np.searchsorted(places[order], asked), others)
    return np.maximum(beside / others, floor), np.maximum((within - sizes) / others, floor)


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
    return float(2 * ndtr(-abs(estimate.value - 0.5) / model_variance(0.5, estimate) ** 0.5))


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
    ranks = rankdata(sides.unseen[: 2 * MOST_IN_CONTROL])
    size = min(len(sides.forget), len(ranks) // 2)
    sums = np.array([generator.permutation(ranks)[:size].sum() for _ in range(draws)])
    rest = len(ranks) - size
    values = (sums - size * (size + 1) / 2) / (size * rest)
    estimates = [AucEstimate(float(value), 0.0, size, rest, ((1.0, size, rest),)) for value in values]
    return sum(auc_p_value(estimate) <= ALPHA for estimate in estimates), draws


MOST_IN_CONTROL = 2000
"""Records a side in the negative control: more would only cost time."""
