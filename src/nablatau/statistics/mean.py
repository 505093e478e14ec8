"""Intervals for a mean: Student's t, for one sample, a paired and an unpaired difference.

For a mean of many records the t interval and the bootstrap agree; t is exact to compute and has no seed, so
metrics that are means use it, and the bootstrap is kept for numbers that are not (RMSE, F1, calibration
error).
"""

import math

from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from nablatau.statistics.checks import FloatArray, finite_vector, probability, same_length
from nablatau.statistics.interval import Interval


def _t(confidence: float, freedom: float) -> float:
    return float(student_t.ppf(0.5 + probability(confidence, "confidence", open_ends=True) / 2, freedom))


def _squared_error(values: FloatArray) -> float:
    return float(values.var(ddof=1) / len(values))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of `values` (n >= 2) with Student's t interval.

    Raises ValueError on fewer than two or non-finite values. Source: Student 1908.
    """
    vector = finite_vector(values, "values", minimum=2)
    mean, n = float(vector.mean()), len(vector)
    half = _t(confidence, n - 1) * math.sqrt(_squared_error(vector))
    return Interval(mean, mean - half, mean + half, n, "Student t", confidence=confidence)


def paired_mean_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return mean(first - second) of the same records under two models, with Student's t interval.

    Arguments: two vectors of n >= 2 values in the same order. Raises ValueError on unequal lengths.
    """
    a, b = finite_vector(first, "first", minimum=2), finite_vector(second, "second", minimum=2)
    same_length(first=a, second=b)
    return mean_interval(a - b, confidence)


def unpaired_mean_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return mean(first) - mean(second) of two sets of records, with Welch's interval (unequal variances).

    Arguments: vectors of n >= 2 and m >= 2 values. Source: Welch 1947 (Satterthwaite's degrees of freedom).
    """
    a, b = finite_vector(first, "first", minimum=2), finite_vector(second, "second", minimum=2)
    va, vb = _squared_error(a), _squared_error(b)
    difference, half = float(a.mean() - b.mean()), 0.0
    if va + vb > 0:
        freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
        half = _t(confidence, freedom) * math.sqrt(va + vb)
    return Interval(difference, difference - half, difference + half, len(a), "Welch t", len(b), confidence)
