"""A lower bound on epsilon from an attack's scores: what leakage is proven, not estimated.

If the unlearned model were (epsilon, delta)-close to a retrained one, every set S of scores would satisfy
P(S) <= exp(epsilon) Q(S) + delta and the reverse, with P for forget and Q for unseen records. A set S on
which the data refute this bounds epsilon from below: epsilon >= log((P(S) - delta) / Q(S)). Sources: Kairouz,
Oh & Viswanath 2015 for the inequality; Jagielski et al. 2020 (2006.07709) for Clopper-Pearson limits.

Where we differ from code that takes the best threshold and bounds it on the same scores: the set (threshold
and side) is chosen on one half of the records and bounded on the other, so the confidence holds despite the
search. Records are taken as independent given the model; for one model this bounds the leakage of an average
record.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from nablatau.statistics import Interval
from nablatau.statistics.checks import FloatArray, IntArray, finite_vector, probability

_CAUTION = 0.01  # the choice uses stricter limits, or the luckiest threshold of a thin tail would win
_LEAST = 10  # records a side and half, below which nothing can be bounded


def _lower(hits: IntArray, n: int, tail: float) -> FloatArray:
    return np.where(hits > 0, beta.ppf(tail, np.maximum(hits, 1), n - np.maximum(hits, 1) + 1), 0.0)


def _upper(hits: IntArray, n: int, tail: float) -> FloatArray:
    return np.where(hits < n, beta.ppf(1 - tail, np.minimum(hits, n - 1) + 1, n - np.minimum(hits, n - 1)), 1.0)


def _bounds(many: IntArray, n: int, few: IntArray, m: int, delta: float, tail: float) -> FloatArray:
    """log((lower limit of many / n - delta) / upper limit of few / m), -inf where the numerator is not
    positive."""
    numerator = np.maximum(_lower(many, n, tail) - delta, 0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(numerator) - np.log(_upper(few, m, tail)))


def _thresholds(scores: FloatArray) -> FloatArray:
    """About 200 candidates: order statistics at ranks that are dense in both tails."""
    ordered, n = np.sort(scores), len(scores)
    ranks = np.unique(np.geomspace(1, max(n / 2, 1), 100).astype(int))
    return np.unique(np.concatenate([ordered[ranks - 1], ordered[n - ranks]]))


def _all_bounds(p: FloatArray, q: FloatArray, thresholds: FloatArray, delta: float, tail: float) -> FloatArray:
    """Bounds of the four statements (S above or below, P over Q or Q over P) at each threshold, (4, T)."""
    n, m = len(p), len(q)
    p_above = n - np.searchsorted(np.sort(p), thresholds, side="right")
    q_above = m - np.searchsorted(np.sort(q), thresholds, side="right")
    return np.stack(
        [
            _bounds(p_above, n, q_above, m, delta, tail),
            _bounds(q_above, m, p_above, n, delta, tail),
            _bounds(n - p_above, n, m - q_above, m, delta, tail),
            _bounds(m - q_above, m, n - p_above, n, delta, tail),
        ]
    )


def _halves(scores: FloatArray, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    shuffled = generator.permutation(np.sort(scores))  # the order given does not matter
    return shuffled[: len(scores) // 2], shuffled[len(scores) // 2 :]


def epsilon_lower_bound(
    forget_scores: ArrayLike,
    holdout_scores: ArrayLike,
    *,
    delta: float = 0.0,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return a lower confidence bound on epsilon; value and low are the bound, high is infinite.

    Arguments: an attack's scores on the forget set (n,) and the holdout set (m,), at least 20 each; `delta`
    in [0, 1); `seed` of the split. 0: nothing proven. Over-forgetting counts as well as leaking. Holds with
    probability >= `confidence`. Raises ValueError on fewer records. Source: head of this file.
    """
    generator, tail = (
        np.random.default_rng(seed),
        (1 - probability(confidence, "confidence", open_ends=True)) / 2,
    )
    probability(delta, "delta")
    p_choose, p_test = _halves(finite_vector(forget_scores, "forget_scores", minimum=2 * _LEAST), generator)
    q_choose, q_test = _halves(finite_vector(holdout_scores, "holdout_scores", minimum=2 * _LEAST), generator)
    thresholds = _thresholds(np.concatenate([p_choose, q_choose]))
    found = _all_bounds(p_choose, q_choose, thresholds, delta, tail * _CAUTION)
    side, place = np.unravel_index(int(found.argmax()), found.shape)
    bound = max(0.0, float(_all_bounds(p_test, q_test, thresholds[[place]], delta, tail)[side, 0]))
    method = f"Clopper-Pearson on a held-out half, seed {seed}"
    return Interval(bound, bound, math.inf, len(p_test), method, len(q_test), confidence)
