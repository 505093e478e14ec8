"""Intervals and tests for a share of successes: Wilson, Clopper-Pearson, exact binomial.

Sources: Wilson 1927; Clopper & Pearson 1934; scipy.stats.binomtest for the exact test. Wilson for accuracies
(its coverage is right on average and it is short); Clopper-Pearson where a bound is claimed (TPR at low FPR,
epsilon), because its coverage is never below the nominal one.
"""

import math

from scipy.stats import beta

from nablatau.statistics.checks import count, probability
from nablatau.statistics.interval import Interval, normal_quantile


def _counts(successes: int, n: int) -> tuple[int, int]:
    total, hits = count(n, "n", minimum=1), count(successes, "successes")
    if hits > total:
        raise ValueError(f"successes is {hits} of n = {total}: more than all. The two arguments may be swapped.")
    return hits, total


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the share successes / n with Wilson's score interval.

    Arguments: `successes` in 0..n, `n` >= 1 trials, `confidence` in (0, 1). Raises ValueError outside these
    ranges. Source: Wilson 1927.
    """
    hits, total = _counts(successes, n)
    z2 = normal_quantile(confidence) ** 2
    share = hits / total
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    low = 0.0 if hits == 0 else centre - half  # rounding would leave 1e-17
    high = 1.0 if hits == total else centre + half
    return Interval(share, low, high, total, "Wilson", confidence=confidence)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the share successes / n with Clopper and Pearson's exact interval: coverage never below
    `confidence`.

    Arguments as in `wilson`. Source: Clopper & Pearson 1934, by quantiles of the beta distribution.
    """
    hits, total = _counts(successes, n)
    tail = (1 - probability(confidence, "confidence", open_ends=True)) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(1 - tail, hits + 1, total - hits))
    return Interval(hits / total, low, high, total, "Clopper-Pearson", confidence=confidence)
