"""Comparison of two shares: of the same records under two models (paired), or of two sets of records.

Sources: McNemar 1947 in its exact form (binomial on the discordant pairs); Newcombe 1998b, method 10, for the
paired difference, and Newcombe 1998a, method 10, for the unpaired one: both join Wilson limits by squares,
keep their coverage at shares near 0 and 1, where a normal interval does not, and never leave [-1, 1].
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from nablatau.statistics.binomial import wilson
from nablatau.statistics.checks import BoolArray, boolean_vector, same_length
from nablatau.statistics.interval import HypothesisTest, Interval


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[BoolArray, BoolArray]:
    a, b = boolean_vector(first, "first"), boolean_vector(second, "second")
    same_length(first=a, second=b)
    return a, b


def mcnemar(before: ArrayLike, after: ArrayLike) -> HypothesisTest:
    """Return the exact test that as many records turn from right to wrong as from wrong to right.

    Arguments: two 0/1 vectors (n,) of the same records in the same order. Returns mean(after) - mean(before)
    as the statistic; p is 1 when no record changes. Source: McNemar 1947, exact two-sided binomial on
    discordant pairs.
    """
    first, second = _pairs(before, after)
    gained, lost = int(np.sum(~first & second)), int(np.sum(first & ~second))
    p = 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)
    return HypothesisTest((gained - lost) / len(first), p, len(first), "McNemar, exact")


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Correlation of the two 0/1 variables, with Newcombe's continuity correction where it is positive."""
    n = both + only_first + only_second + neither
    product = float(both * neither - only_first * only_second)
    if product > 0:
        product = max(product - n / 2, 0.0)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    return product / math.sqrt(margins) if margins else 0.0


def _join(first: Interval, second: Interval, phi: float) -> tuple[float, float]:
    """Limits of first - second from the limits of each (squares, with the correlation `phi`)."""

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    difference = first.value - second.value
    low = difference - reach(first.value - first.low, second.high - second.value)
    high = difference + reach(first.high - first.value, second.value - second.low)
    return max(low, -1.0), min(high, 1.0)


def paired_change(before: ArrayLike, after: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the change of a share, mean(after) - mean(before), over the same records.

    Arguments: two 0/1 vectors (n,) in the same order; `confidence` in (0, 1). Raises ValueError on unequal
    lengths or values other than 0 and 1. Source: Newcombe 1998b, method 10.
    """
    first, second = _pairs(before, after)
    both, neither = int(np.sum(first & second)), int(np.sum(~first & ~second))
    lost, gained = int(np.sum(first & ~second)), int(np.sum(~first & second))
    old, new = wilson(both + lost, len(first), confidence), wilson(both + gained, len(first), confidence)
    low, high = _join(new, old, _phi(both, gained, lost, neither))
    return Interval(new.value - old.value, low, high, len(first), "Newcombe paired", confidence=confidence)


def unpaired_change(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return mean(first) - mean(second) of 0/1 vectors of two different sets of records.

    Arguments: 0/1 vectors (n,) and (m,). Source: Newcombe 1998a, method 10.
    """
    a, b = boolean_vector(first, "first"), boolean_vector(second, "second")
    one, other = wilson(int(a.sum()), len(a), confidence), wilson(int(b.sum()), len(b), confidence)
    low, high = _join(one, other, 0.0)
    return Interval(one.value - other.value, low, high, len(a), "Newcombe", len(b), confidence)


def difference_of_changes(first: Interval, second: Interval) -> Interval:
    """Return first - second for two independent estimates in [-2, 2] (a contrast of changes), limits joined
    by squares.

    Arguments: intervals at one confidence from disjoint records. Raises ValueError if the confidences differ.
    Source: Zou & Donner 2008 (MOVER).
    """
    if first.confidence != second.confidence:
        raise ValueError(
            f"Confidences differ ({first.confidence} and {second.confidence}): the joined limits would "
            "have neither. Compute both at one confidence."
        )
    difference = first.value - second.value
    low = difference - math.hypot(first.value - first.low, second.high - second.value)
    high = difference + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(difference, low, high, first.n, f"MOVER of {first.method}", second.n, first.confidence)
