"""Area under the ROC curve (Mann-Whitney) with DeLong's variance: one sample, by strata, and differences.

Sources: DeLong, DeLong & Clarke-Pearson 1988 (variance from placement values); Sun & Xu 2014 (the same by
midranks, O((n+m) log(n+m)) instead of O(nm)); van Elteren 1960 (weights over strata); Newcombe 2006, method 5
(interval by inverting a score test; used where DeLong's variance is zero); Zou & Donner 2008 (MOVER, interval
of a difference).

Scale of the interval: the logit, se_logit = se / (AUC (1 - AUC)). Measured over normal, exponential and
unequal-spread scores: at AUC 0.5 to 0.9 its coverage is 0.93-0.97 with equal sizes of 15 to 200 a side (0.90
at worst with 20 against 100), where the plain normal interval has 0.82-0.95, leaves [0, 1] and is a point at
AUC 1. Both are too short for AUC >= 0.97 with a handful of discordant pairs (0.80-0.93 against 0.30-0.90):
there the ends are indicative.

Where we differ: at zero variance (perfect separation, or all scores tied) the score interval is returned
instead of the point [1, 1]: 20 against 20 records that separate completely do not prove an AUC of 1.

Positive = member (forget set), negative = non-member (holdout set); higher score = more member-like.
AUC = P(positive > negative) + P(tie)/2.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit

from nablatau.statistics.checks import FloatArray, finite_vector, same_length
from nablatau.statistics.interval import Interval, normal_quantile

_EDGE = 1e-12


@dataclass(frozen=True)
class AucEstimate:
    """An AUC and its standard error, before any interval; what tests and intervals are made from."""

    value: float  # AUC in [0, 1]
    standard_error: float  # DeLong; 0 under perfect separation or when everything is tied
    positives: int
    negatives: int
    parts: tuple[tuple[float, int, int], ...]  # per stratum: weight, positives, negatives


@dataclass(frozen=True)
class StratifiedAuc:
    """An AUC within strata (classes), averaged; with what went in and what was left out."""

    interval: Interval
    estimate: AucEstimate  # for `auc_equivalence` and the minimum detectable effect
    strata: tuple[Hashable, ...]  # those present on both sides, sorted
    auc: tuple[float, ...]  # per stratum
    weight: tuple[float, ...]  # per stratum, summing to 1
    left_out: tuple[Hashable, ...]  # strata present on one side only
    positives_left_out: int
    negatives_left_out: int


def placements(positives: FloatArray, negatives: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each positive's share of negatives below it, and each negative's share of positives above it.

    Ties count half. Both have mean AUC. Source: DeLong 1988; by sorting, as Sun & Xu 2014.
    """
    return _beaten(positives, negatives), 1 - _beaten(negatives, positives)


def _beaten(values: FloatArray, others: FloatArray) -> FloatArray:
    """Each value's share of the others below it; ties count half."""
    ordered = np.sort(others)
    below, not_above = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    shares: FloatArray = (below + not_above) / 2 / len(others)
    return shares


def _delong_variance(below: FloatArray, above: FloatArray) -> float:
    n, m = len(below), len(above)
    if min(n, m) < 2:  # no spread to estimate from: the variance of an AUC of 0.5 without ties
        return (n + m + 1) / (12 * n * m)
    return float(below.var(ddof=1) / n + above.var(ddof=1) / m)


def auc_estimate(positives: ArrayLike, negatives: ArrayLike) -> AucEstimate:
    """Return the Mann-Whitney AUC and its DeLong standard error.

    Arguments: `positives` (n,), `negatives` (m,), scores of members and non-members. With a single record on
    a side the variance of the null, (n+m+1)/(12nm), is used. Raises ValueError on empty or non-finite scores.
    """
    positive, negative = finite_vector(positives, "positives"), finite_vector(negatives, "negatives")
    below, above = placements(positive, negative)
    n, m = len(positive), len(negative)
    return AucEstimate(float(below.mean()), math.sqrt(_delong_variance(below, above)), n, m, ((1.0, n, m),))


def model_variance(auc: float, estimate: AucEstimate) -> float:
    """Return the variance that AUC estimates of these sample sizes would have if the true AUC were `auc`.

    Source: Newcombe 2006, method 5 (Hanley & McNeil 1982 with the size-averaged correction).
    """
    total = 0.0
    for weight, n, m in estimate.parts:
        size = (n + m) / 2 - 1
        spread = 1 + size * (1 - auc) / (2 - auc) + size * auc / (1 + auc)
        total += weight**2 * auc * (1 - auc) * spread / (n * m)
    return total


def auc_null_limits(estimate: AucEstimate, confidence: float = 0.95) -> tuple[float, float]:
    """Return the limits around 0.5 between which the AUC lies where there is nothing to find, at these sample sizes."""
    half = normal_quantile(confidence) * math.sqrt(model_variance(0.5, estimate))
    return max(0.0, 0.5 - half), min(1.0, 0.5 + half)


def _score_limits(estimate: AucEstimate, z: float) -> tuple[float, float]:
    def excess(auc: float) -> float:
        return (estimate.value - auc) ** 2 - z * z * model_variance(auc, estimate)

    value = estimate.value
    low = 0.0 if value <= _EDGE else float(brentq(excess, _EDGE, min(value, 1 - _EDGE)))
    high = 1.0 if value >= 1 - _EDGE else float(brentq(excess, max(value, _EDGE), 1 - _EDGE))
    return low, high


def auc_limits(estimate: AucEstimate, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided limits of an AUC: logit scale, or the score interval where the variance is
    zero."""
    z = normal_quantile(confidence)
    value, error = estimate.value, estimate.standard_error
    if error < _EDGE or not _EDGE < value < 1 - _EDGE:
        return _score_limits(estimate, z)
    half = z * error / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def auc_interval(estimate: AucEstimate, confidence: float = 0.95) -> Interval:
    """Return the estimate with its interval; n counts positives, m negatives."""
    low, high = auc_limits(estimate, confidence)
    method = "DeLong, logit scale" if estimate.standard_error >= _EDGE else "score (no spread for DeLong)"
    return Interval(estimate.value, low, high, estimate.positives, method, estimate.negatives, confidence)


def auc_delong(positives: ArrayLike, negatives: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the AUC of positives against negatives, ties counted half, with a DeLong interval on the logit
    scale.

    Arguments: `positives` (n,) and `negatives` (m,), finite scores, higher = more member-like; `confidence`
    in (0, 1). Raises ValueError on empty or non-finite input. Source: DeLong 1988; Sun & Xu 2014; see the
    head of this file.
    """
    return auc_interval(auc_estimate(positives, negatives), confidence)


def _members(keys: Sequence[Hashable]) -> dict[Hashable, FloatArray]:
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return {key: np.asarray(indices) for key, indices in groups.items()}


def _split(values: ArrayLike, strata: ArrayLike, name: str) -> dict[Hashable, FloatArray]:
    vector, keys = finite_vector(values, name), np.asarray(strata)
    same_length(**{name: vector, f"{name[:-1]}_strata": keys})
    return {key: vector[indices] for key, indices in _members(keys.tolist()).items()}


def _order(keys: set[Hashable]) -> list[Hashable]:
    return sorted(keys, key=lambda key: (str(type(key)), key if isinstance(key, int | float) else 0, str(key)))


def _stratified(
    positives: ArrayLike, negatives: ArrayLike, positive_strata: ArrayLike, negative_strata: ArrayLike
) -> tuple[AucEstimate, list[Hashable], list[AucEstimate], list[Hashable]]:
    """Return the weighted estimate, the strata used, each one's estimate, and the strata left out."""
    ours = _split(positives, positive_strata, "positives")
    theirs = _split(negatives, negative_strata, "negatives")
    used, left_out = _order(set(ours) & set(theirs)), _order(set(ours) ^ set(theirs))
    if not used:
        raise ValueError(
            "No stratum occurs on both sides, so no positive can be compared with a negative of its own "
            f"class (left out: {left_out[:8]}). Use a holdout set that contains the forget set's classes."
        )
    each = [auc_estimate(ours[key], theirs[key]) for key in used]
    raw = np.array([e.positives * e.negatives / (e.positives + e.negatives + 1) for e in each])
    weights = raw / raw.sum()
    value = float(np.clip(weights @ [e.value for e in each], 0, 1))
    error = math.sqrt(float(weights**2 @ [e.standard_error**2 for e in each]))
    parts = tuple((float(w), e.positives, e.negatives) for w, e in zip(weights, each, strict=True))
    n, m = sum(e.positives for e in each), sum(e.negatives for e in each)
    return AucEstimate(value, error, n, m, parts), used, each, left_out


def auc_stratified(
    positives: ArrayLike,
    negatives: ArrayLike,
    positive_strata: ArrayLike,
    negative_strata: ArrayLike,
    confidence: float = 0.95,
) -> StratifiedAuc:
    """Return the AUC within strata (each positive against negatives of its own class), averaged over strata.

    Weights: van Elteren's n m / (n + m + 1), which give the smallest variance when no stratum leaks, depend
    on counts only (weights from estimated variances favour the strata that look certain by luck) and fade out
    a stratum with few records on either side. Where forget and holdout sets have the same class mix they
    equal the class shares nearly. Variance: sum of squared weight times DeLong's variance; a stratum with one
    record on a side uses the null's variance. Strata present on one side only are left out and reported.
    Arguments: scores (n,), (m,) and their strata (n,), (m,), any hashable labels; `confidence` in (0, 1).
    Raises ValueError when no stratum is on both sides, on unequal lengths and non-finite scores.
    """
    total, used, each, left_out = _stratified(positives, negatives, positive_strata, negative_strata)
    return StratifiedAuc(
        interval=auc_interval(total, confidence),
        estimate=total,
        strata=tuple(used),
        auc=tuple(e.value for e in each),
        weight=tuple(weight for weight, _, _ in total.parts),
        left_out=tuple(left_out),
        positives_left_out=len(np.asarray(positives)) - total.positives,
        negatives_left_out=len(np.asarray(negatives)) - total.negatives,
    )


def _difference(first: AucEstimate, second: AucEstimate, correlation: float, confidence: float) -> Interval:
    """MOVER (Zou & Donner 2008): each limit borrows the nearer limits of the two single
    intervals."""
    (low1, high1), (low2, high2) = auc_limits(first, confidence), auc_limits(second, confidence)

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))

    value = first.value - second.value
    low = value - reach(first.value - low1, high2 - second.value)
    high = value + reach(high1 - first.value, second.value - low2)
    method = f"DeLong, MOVER, correlation {correlation:.2f}"
    return Interval(value, max(low, -1.0), min(high, 1.0), first.positives, method, first.negatives, confidence)


def _covariance(below1: FloatArray, below2: FloatArray, above1: FloatArray, above2: FloatArray) -> float:
    n, m = len(below1), len(above1)
    if min(n, m) < 2:
        return 0.0
    return float(np.cov(below1, below2)[0, 1] / n + np.cov(above1, above2)[0, 1] / m)


def delong_paired(
    positives_a: ArrayLike,
    negatives_a: ArrayLike,
    positives_b: ArrayLike,
    negatives_b: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return AUC(a) - AUC(b) for two scores of the same records (two models, or two attacks on one model).

    Arguments: scores (n,) and (m,) under a and under b, in the same order of records. The correlation is
    DeLong's; the limits are MOVER's, which keep their coverage near AUC 0 and 1. Identical scores give 0 [0,
    0]. Raises ValueError on unequal lengths, empty or non-finite input. Source: DeLong 1988; Zou & Donner
    2008.
    """
    pos_a, pos_b = finite_vector(positives_a, "positives_a"), finite_vector(positives_b, "positives_b")
    neg_a, neg_b = finite_vector(negatives_a, "negatives_a"), finite_vector(negatives_b, "negatives_b")
    same_length(positives_a=pos_a, positives_b=pos_b)
    same_length(negatives_a=neg_a, negatives_b=neg_b)
    first, second = auc_estimate(pos_a, neg_a), auc_estimate(pos_b, neg_b)
    if np.array_equal(pos_a, pos_b) and np.array_equal(neg_a, neg_b):
        return Interval(0.0, 0.0, 0.0, len(pos_a), "identical scores", len(neg_a), confidence)
    (below_a, above_a), (below_b, above_b) = placements(pos_a, neg_a), placements(pos_b, neg_b)
    scale = first.standard_error * second.standard_error
    covariance = _covariance(below_a, below_b, above_a, above_b)
    correlation = covariance / scale if scale > _EDGE else 0.0
    return _difference(first, second, float(np.clip(correlation, -1, 1)), confidence)


def delong_unpaired(
    positives_a: ArrayLike,
    negatives_a: ArrayLike,
    positives_b: ArrayLike,
    negatives_b: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return AUC(a) - AUC(b) for two independent sets of records.

    Arguments and errors as in `delong_paired`, but lengths may differ between a and b; n and m are those of
    a.
    """
    first, second = auc_estimate(positives_a, negatives_a), auc_estimate(positives_b, negatives_b)
    return _difference(first, second, 0.0, confidence)
