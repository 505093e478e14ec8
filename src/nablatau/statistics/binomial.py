"""Intervals and tests for a share of successes: Wilson, Clopper-Pearson, exact binomial.

Sources: Wilson 1927; Clopper & Pearson 1934; scipy.stats.binomtest for the exact test. Wilson for accuracies
(its coverage is right on average and it is short); Clopper-Pearson where a bound is claimed (TPR at low FPR,
epsilon), because its coverage is never below the nominal one.
"""

import math

from scipy.special import betaincinv
from scipy.stats import binomtest

from nablatau.statistics.checks import count, probability
from nablatau.statistics.interval import Alternative, HypothesisTest, Interval, normal_quantile


def _counts(successes: int, n: int) -> tuple[int, int]:
    total, hits = count(n, "n", minimum=1), count(successes, "successes")
    if hits > total:
        raise ValueError(f"successes is {hits} of n = {total}: more than all. The two arguments may be swapped.")
    return hits, total


def wilson_share(share: float, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's interval of a `share` in [0, 1] of n records, for shares in which ties count half.

    With halves the variance is below the binomial's, so the interval is at least as wide as needed.
    """
    value, total = probability(share, "share"), count(n, "n", minimum=1)
    z2 = normal_quantile(confidence) ** 2
    centre = (value + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2 * (value * (1 - value) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    low = 0.0 if value == 0 else centre - half  # rounding would leave 1e-17
    high = 1.0 if value == 1 else centre + half
    return Interval(value, low, high, total, "Wilson", confidence=confidence)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the share successes / n with Wilson's score interval.

    Arguments: `successes` in 0..n, `n` >= 1 trials, `confidence` in (0, 1). Raises ValueError outside these
    ranges. Source: Wilson 1927.
    """
    hits, total = _counts(successes, n)
    return wilson_share(hits / total, total, confidence)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the share successes / n with Clopper and Pearson's exact interval: coverage never below
    `confidence`.

    Arguments as in `wilson`. Source: Clopper & Pearson 1934, by quantiles of the beta distribution.
    """
    hits, total = _counts(successes, n)
    tail = (1 - probability(confidence, "confidence", open_ends=True)) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, total - hits + 1, tail))
    high = 1.0 if hits == total else float(betaincinv(hits + 1, total - hits, 1 - tail))
    return Interval(hits / total, low, high, total, "Clopper-Pearson", confidence=confidence)


def binomial_test(successes: int, n: int, p: float, alternative: Alternative = "two-sided") -> HypothesisTest:
    """Return the exact test that the chance of success is `p` (for a `p` known beforehand, not estimated).

    Arguments: `successes` in 0..n; `n` >= 1; `p` in [0, 1]; `alternative`: "greater" asks whether the chance
    is above p. Returns the share and its p-value. Where p is a quantile estimated from another sample use
    `exceedance_test`: this test would then reject too often. Source: scipy.stats.binomtest.
    """
    hits, total = _counts(successes, n)
    result = binomtest(hits, total, probability(p, "p"), alternative)
    return HypothesisTest(hits / total, float(result.pvalue), total, "exact binomial")
