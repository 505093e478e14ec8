"""Forgetting seen in many models: KLoM and the forgetting score of the NeurIPS 2023 challenge.

Both compare, example by example, the margins of K unlearned models with those of L retrained ones.

KLoM, Georgiev et al. 2024 (2410.23232): KL(unlearned || retrained) of the two samples of margins, by
histograms of 20 bins over their common range, empty bins of the retrained models floored at 1e-5; and a
Gaussian variant. Where we differ: the published code drops the largest value (it falls outside the last bin);
here it counts. Both numbers are far from zero for a perfect unlearning: `klom_null_floor` and
`klom_gaussian_null_floor` say how far (histogram 3.9 / 0.35 / 0.15 and Gaussian 0.15 / 0.02 / 0.01 at 16 /
100 / 200 models each).

Forgetting score, Triantafillou et al. 2024 (2406.09073): for each example the largest epsilon that a
threshold, or a window (for the narrower of the two samples), reaches in telling the models apart at delta =
1e-5; epsilon below 0.5 earns 1 point, below 1 half a point, and so on to log(K - 1). Where we differ:
thresholds and windows are optimised exactly instead of on a grid of step 0.01, and a rule with no false
positives counts if its false negatives are not zero (the challenge discards it). A perfect unlearning scores
about 0.18, not 1: the best of many rules always finds something.

Shapes: margins_KN, K models by N examples. Intervals are Student t over examples and ignore that all examples
share the same models: read them beside the floor, not as a test.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from nablatau.statistics import Interval, mean_interval
from nablatau.statistics.checks import FloatArray, IntArray, count, finite_matrix, positive, probability

_BINS, _EMPTY, _LIMIT = 20, 1e-5, 100.0
_COLUMNS = 4096  # examples at a time, to bound memory


def _pair(unlearned: ArrayLike, reference: ArrayLike) -> tuple[FloatArray, FloatArray]:
    ours = finite_matrix(unlearned, "unlearned_margins", rows=3, columns=2)
    theirs = finite_matrix(reference, "reference_margins", rows=3, columns=2)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"{ours.shape[1]} examples under the unlearned models and {theirs.shape[1]} under the retrained "
            "ones: rows are models, columns are the same examples in one order. Transpose or select."
        )
    return ours, theirs


def _histogram(values: FloatArray, low: FloatArray, width: FloatArray) -> FloatArray:
    """Shares (bins, N) of each column's values in equal bins from `low`, `width` wide; the last bin is
    closed."""
    index = np.clip(((values - low) / width).astype(np.int64), 0, _BINS - 1)
    columns = values.shape[1]
    flat = (index * columns + np.arange(columns)).ravel()
    return np.bincount(flat, minlength=_BINS * columns).reshape(_BINS, columns) / len(values)


def _klom_block(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    ours, theirs = np.clip(ours, -_LIMIT, _LIMIT), np.clip(theirs, -_LIMIT, _LIMIT)
    low = np.minimum(ours.min(axis=0), theirs.min(axis=0))
    spread = np.maximum(ours.max(axis=0), theirs.max(axis=0)) - low
    width = np.where(spread > 0, spread, 1.0) / _BINS
    p, q = _histogram(ours, low, width), np.maximum(_histogram(theirs, low, width), _EMPTY)
    return np.asarray(np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / q), 0).sum(axis=0))


def klom_per_example(unlearned_margins: ArrayLike, reference_margins: ArrayLike) -> FloatArray:
    """Return the histogram KL(unlearned || retrained) of each example's margins, (N,), in nats.

    Arguments: margins (K, N) and (L, N), K, L >= 3, as from `nablatau.statistics.margin`. Source: head of
    this file.
    """
    ours, theirs = _pair(unlearned_margins, reference_margins)
    starts = range(0, ours.shape[1], _COLUMNS)
    blocks = [_klom_block(ours[:, i : i + _COLUMNS], theirs[:, i : i + _COLUMNS]) for i in starts]
    return np.concatenate(blocks)


def klom_histogram(unlearned_margins: ArrayLike, reference_margins: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return KLoM: the mean over examples of `klom_per_example`, in nats. Arguments as there; N >= 2."""
    return mean_interval(klom_per_example(unlearned_margins, reference_margins), confidence)


def klom_gaussian(
    unlearned_margins: ArrayLike,
    reference_margins: ArrayLike,
    *,
    variance_floor: float = 1e-6,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean over examples of KL between normal distributions fitted to the margins, in nats.

    Arguments: margins (K, N) and (L, N), K, L >= 3; `variance_floor` > 0 in squared units of the margin:
    models without any spread (a constant output) give a large number instead of infinity.
    """
    ours, theirs = _pair(unlearned_margins, reference_margins)
    floor = positive(variance_floor, "variance_floor")
    u, r = np.maximum(ours.var(axis=0, ddof=1), floor), np.maximum(theirs.var(axis=0, ddof=1), floor)
    shift = (ours.mean(axis=0) - theirs.mean(axis=0)) ** 2
    return mean_interval((np.log(r / u) + (u + shift) / r - 1) / 2, confidence)


def klom_null_floor(unlearned_models: int, reference_models: int, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Return the histogram KLoM expected of a perfect unlearning, by simulation with normal margins.

    Arguments: numbers of models, each >= 3; `draws` simulated examples; `seed`. Scale and position of the
    margins do not matter; their shape does at few models (3.9 for normal, 2.9 for exponential margins at 16
    each), hardly at 100.
    """
    generator, examples = np.random.default_rng(seed), count(draws, "draws", minimum=2)
    ours = generator.standard_normal((count(unlearned_models, "unlearned_models", minimum=3), examples))
    theirs = generator.standard_normal((count(reference_models, "reference_models", minimum=3), examples))
    return klom_histogram(ours, theirs)


def klom_gaussian_null_floor(unlearned_models: int, reference_models: int) -> float:
    """Return the Gaussian KLoM expected of a perfect unlearning with normal margins, exactly.

    From E log chi2_v = digamma(v/2) + log 2 and E 1/chi2_v = 1/(v - 2), with v = models - 1 degrees of
    freedom. Arguments: numbers of models, the reference's >= 4 (with fewer the expectation is infinite).
    """
    k = count(unlearned_models, "unlearned_models", minimum=2)
    freedom = count(reference_models, "reference_models", minimum=4) - 1
    if freedom == 2:
        return math.inf
    logs = digamma(freedom / 2) - math.log(freedom / 2) - digamma((k - 1) / 2) + math.log((k - 1) / 2)
    return float((logs + (1 + 1 / k + 1 / (freedom + 1)) * freedom / (freedom - 2) - 1) / 2)


def _below(anchors: FloatArray, others: FloatArray) -> FloatArray:
    """For the i-th smallest anchor of each column (i = 0..K-1): how many of `others` lie strictly below
    it."""
    merged = np.concatenate([np.sort(anchors, axis=0), others])
    order = np.argsort(merged, axis=0, kind="stable")
    before = np.cumsum(order >= len(anchors), axis=0)
    places = np.argsort(order, axis=0, kind="stable")[: len(anchors)]
    return np.take_along_axis(before, places, axis=0).astype(np.float64)


def _at(rows: FloatArray, index: IntArray) -> FloatArray:
    return np.asarray(np.take_along_axis(rows, index[None], axis=0)[0])


def _single_threshold(high: FloatArray, low: FloatArray, slack: float) -> FloatArray:
    """Best ratio (others below - slack) / (own below), over thresholds, seen from both sides."""
    best = np.ones(high.shape[1])
    own = np.arange(len(high))[:, None]
    for below in (_below(high, low), _below(-low, -high)):
        best = np.maximum(best, ((below - slack)[1:] / own[1:]).max(axis=0))
        best[below[0] == len(low)] = np.inf  # complete separation
    return best


def _window(narrow: FloatArray, wide: FloatArray, slack: float) -> FloatArray:
    """Best ratio (wide outside - slack) / (narrow outside) over windows around the narrow sample's median.

    The two ends are chosen apart for a trial ratio and the ratio is updated until it stays (Dinkelbach 1967).
    """
    half = max(len(narrow) // 2, 2)
    left, right, own = _below(narrow, wide)[:half], _below(-narrow, -wide)[:half], np.arange(half)[:, None]
    ratio, settled = np.ones(narrow.shape[1]), False
    while not settled:
        a, b, previous = left - ratio * own, right - ratio * own, ratio
        for i, j in ((a[1:].argmax(0) + 1, b.argmax(0)), (a.argmax(0), b[1:].argmax(0) + 1)):
            ratio = np.maximum(ratio, (_at(left, i) + _at(right, j) - slack) / (i + j))
        settled = bool((ratio == previous).all())
    ratio[left[0] + right[0] == len(wide)] = np.inf
    return ratio


def _epsilon_block(ours: FloatArray, theirs: FloatArray, delta: float) -> FloatArray:
    slack = delta * len(ours)
    swap = np.median(theirs, axis=0) > np.median(ours, axis=0)
    single = _single_threshold(np.where(swap, theirs, ours), np.where(swap, ours, theirs), slack)
    range_ours, range_theirs = np.ptp(ours, axis=0), np.ptp(theirs, axis=0)
    flip = range_theirs < range_ours
    window = _window(np.where(flip, theirs, ours), np.where(flip, ours, theirs), slack)
    best = np.maximum(single, window)
    degenerate = np.minimum(range_ours, range_theirs) < 0.01 * np.maximum(range_ours, range_theirs)
    return np.log(np.where(degenerate, np.inf, best))


def epsilon_per_example(
    unlearned_margins: ArrayLike, reference_margins: ArrayLike, *, delta: float = 1e-5
) -> FloatArray:
    """Return for each example the largest epsilon at which a threshold or window tells the models apart,
    (N,).

    Arguments: margins (K, N) of as many unlearned as retrained models; `delta` in [0, 1). Infinity: told
    apart without error. An estimate that is biased upwards, not a bound: for a bound see
    `epsilon_lower_bound`.
    """
    ours, theirs = _pair(unlearned_margins, reference_margins)
    if ours.shape[0] != theirs.shape[0]:
        raise ValueError(
            f"{ours.shape[0]} unlearned and {theirs.shape[0]} retrained models: the score is defined for  "
            "equal numbers. Use the first of the larger set."
        )
    probability(delta, "delta")
    starts = range(0, ours.shape[1], _COLUMNS)
    return np.concatenate(
        [_epsilon_block(ours[:, i : i + _COLUMNS], theirs[:, i : i + _COLUMNS], delta) for i in starts]
    )


def forgetting_score(
    unlearned_margins: ArrayLike,
    reference_margins: ArrayLike,
    *,
    delta: float = 1e-5,
    confidence: float = 0.95,
) -> Interval:
    """Return the challenge's forgetting score F: the mean over examples of 2^-floor(epsilon / 0.5), 0 from
    log(K - 1).

    Arguments as in `epsilon_per_example`; N >= 2. 0 to 1, but 1 is out of reach: see
    `forgetting_score_null_floor`. The challenge's final score multiplies F with two accuracy ratios. Source:
    Triantafillou et al. 2024.
    """
    epsilon = epsilon_per_example(unlearned_margins, reference_margins, delta=delta)
    buckets = int(math.ceil(math.log(len(np.asarray(unlearned_margins)) - 1)) / 0.5)
    bucket = np.floor(np.minimum(epsilon, 1000.0) / 0.5)
    return mean_interval(np.where(bucket < buckets, 0.5**bucket, 0.0), confidence)


def forgetting_score_null_floor(models: int, *, draws: int = 1000, seed: int = 0, delta: float = 1e-5) -> Interval:
    """Return the forgetting score of a perfect unlearning with `models` models of each kind, by simulation.

    Arguments: `models` >= 3; `draws` simulated examples; `seed`. Distribution-free: only ranks enter, but for
    the choice of the narrower sample. About 0.18 at any number of models.
    """
    generator, size = (
        np.random.default_rng(seed),
        (count(models, "models", minimum=3), count(draws, "draws", minimum=2)),
    )
    return forgetting_score(generator.standard_normal(size), generator.standard_normal(size), delta=delta)
