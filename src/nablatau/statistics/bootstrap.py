"""Percentile bootstrap: of any vectorised statistic (scipy.stats.bootstrap), and, in linear time, of
functions of means.

Sources: Efron & Tibshirani 1993, ch. 13 and 16. `bootstrap_means` resamples a matrix of per-example columns
of which the statistic needs only the means (RMSE, R2, F1). Above 2,500 examples it
resamples 2,500 random groups of examples instead of the examples: the variance of a mean over independent
groups is that over examples, and the cost falls from resamples x examples to examples + resamples x 2,500.

A percentile interval is wrong, however many resamples are drawn, for maxima, for order statistics at the edge
and for sums of absolute values near zero (calibration error, total variation): resampling adds the noise a
second time, and the interval leaves out zero even where zero is true. For sums of absolute means there is
`bootstrap_absolute_sum`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

from nablatau.statistics.checks import (
    FloatArray,
    count,
    finite_matrix,
    finite_vector,
    positive,
    probability,
    same_length,
)
from nablatau.statistics.interval import Interval

TwoSampleStatistic = Callable[..., FloatArray]  # statistic(first, second, axis) -> reduced along axis
MeansStatistic = Callable[[FloatArray], FloatArray]  # (..., K) column means -> (...) values

_GROUPS = 2500
_CELLS = 4_000_000  # numbers held at once


def mean_difference(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """Return mean(first) - mean(second) along `axis`: the default statistic of the two-sample bootstraps."""
    return np.asarray(first.mean(axis=axis) - second.mean(axis=axis))


def _scipy_interval(
    first: FloatArray,
    second: FloatArray,
    statistic: TwoSampleStatistic,
    paired: bool,
    seed: int,
    resamples: int,
    confidence: float,
) -> Interval:
    batch = max(1, _CELLS // (len(first) + len(second)))
    result = bootstrap(
        (first, second),
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=count(resamples, "resamples", minimum=100),
        batch=batch,
        confidence_level=probability(confidence, "confidence", open_ends=True),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    value, limits = float(statistic(first, second, axis=-1)), result.confidence_interval
    kind = "paired" if paired else "unpaired"
    method = f"{kind} percentile bootstrap, {resamples} resamples, seed {seed}"
    return Interval(value, float(limits.low), float(limits.high), len(first), method, len(second), confidence)


def bootstrap_paired(
    first: ArrayLike,
    second: ArrayLike,
    statistic: TwoSampleStatistic = mean_difference,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return statistic(first, second) of the same records under two models; records are resampled as pairs.

    Arguments: vectors (n,), n >= 2, in one order; `statistic` called as statistic(first, second, axis) on
    arrays whose last axis is the record; `seed` makes the result repeatable; `resamples` >= 100; `confidence`
    in (0, 1). Raises ValueError on unequal lengths. Source: Efron & Tibshirani 1993, ch. 13;
    scipy.stats.bootstrap.
    """
    a, b = finite_vector(first, "first", minimum=2), finite_vector(second, "second", minimum=2)
    same_length(first=a, second=b)
    return _scipy_interval(a, b, statistic, True, seed, resamples, confidence)


def bootstrap_unpaired(
    first: ArrayLike,
    second: ArrayLike,
    statistic: TwoSampleStatistic = mean_difference,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return statistic(first, second) of two sets of records, each resampled on its own.

    Arguments as in `bootstrap_paired`; lengths may differ.
    """
    a, b = finite_vector(first, "first", minimum=2), finite_vector(second, "second", minimum=2)
    return _scipy_interval(a, b, statistic, False, seed, resamples, confidence)


def _grouped(columns: FloatArray, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Sums and sizes of random groups of rows; one row a group when there are few rows."""
    n = len(columns)
    if n <= _GROUPS:
        return columns, np.ones(n)
    shuffled = columns[generator.permutation(n)]
    starts = np.linspace(0, n, _GROUPS, endpoint=False).astype(np.intp)
    return np.add.reduceat(shuffled, starts, axis=0), np.diff(np.append(starts, n)).astype(float)


def _resampled_means(columns: FloatArray, resamples: int, generator: np.random.Generator) -> FloatArray:
    sums, sizes = _grouped(columns, generator)
    groups, means = len(sums), np.empty((resamples, columns.shape[1]))
    step = max(1, _CELLS // groups)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(float)
        means[start : start + rows] = times @ sums / (times @ sizes)[:, None]
    return means


def bootstrap_means(
    columns: ArrayLike,
    statistic: MeansStatistic,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return statistic(column means) with a percentile interval, in time linear in the number of examples.

    Arguments: `columns` (N, K), N >= 2 examples; `statistic` maps means (..., K) to values (...), NaN where a
    resample leaves it undefined (those are left out); `seed`; `resamples` >= 100; `confidence` in (0, 1).
    Raises ValueError if the statistic is undefined on the data or on more than half of the resamples. Source:
    Efron & Tibshirani 1993, ch. 13; see the head of this file.
    """
    matrix = finite_matrix(columns, "columns", rows=2)
    tail = (1 - probability(confidence, "confidence", open_ends=True)) / 2
    value = float(statistic(matrix.mean(axis=0)))
    drawn = statistic(_resampled_means(matrix, count(resamples, "resamples", minimum=100), np.random.default_rng(seed)))
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) < resamples / 2:
        raise ValueError(
            "The statistic is undefined on these examples or on most resamples of them (no variance, or a "
            "label without examples). Score more examples or leave this number out."
        )
    low, high = np.quantile(drawn, [tail, 1 - tail])
    method = f"percentile bootstrap, {resamples} resamples, seed {seed}"
    return Interval(value, float(low), float(high), len(matrix), method, confidence=confidence)


def bootstrap_absolute_sum(
    columns: ArrayLike,
    *,
    scale: float = 1.0,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return scale * sum over columns of |mean|, with limits that also hold where the true sum is zero.

    Arguments: `columns` (N, K), N >= 2 examples; `scale` > 0; others as in `bootstrap_means`. By the triangle
    inequality |sum of |a| - sum of |b|| <= sum of |a - b|; the right side's quantile, from resampled means
    around the observed ones, is the radius. Coverage is at least nominal; far from zero the interval is wider
    than needed.
    """
    matrix, width = finite_matrix(columns, "columns", rows=2), positive(scale, "scale")
    drawn = _resampled_means(matrix, count(resamples, "resamples", minimum=100), np.random.default_rng(seed))
    observed = matrix.mean(axis=0)
    distances = np.abs(drawn - observed).sum(axis=1) * width
    radius = float(np.quantile(distances, probability(confidence, "confidence", open_ends=True)))
    value = float(np.abs(observed).sum() * width)
    method = f"bootstrap radius, {resamples} resamples, seed {seed}"
    return Interval(value, max(0.0, value - radius), value + radius, len(matrix), method, confidence=confidence)
