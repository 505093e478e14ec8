"""Tests that two samples come from one distribution: Kolmogorov-Smirnov, and the share beyond an order
statistic.

Sources: scipy.stats.ks_2samp; Wilks 1942 and Nelson 1963 (exceedances).

The tail test asks whether more, or fewer, than 5 % of the forget set lies above the holdout set's 95th loss
percentile. That percentile is itself estimated from m holdout records. A binomial test with p = 0.05 takes it
as known and rejects true null hypotheses in 15 % of cases instead of 5 % when n = m = 500, and in 43 % when n
= 1,000 and m = 200 (the test file simulates it). If both samples come from one continuous distribution, the
number K of n values above the j-th largest of m others is beta-binomial(n, j, m - j + 1), exactly, whatever
the distribution: that is the test used here.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import betabinom, ks_2samp, kstwobign

from nablatau.statistics.binomial import clopper_pearson
from nablatau.statistics.checks import FloatArray, count, finite_vector, probability
from nablatau.statistics.interval import Alternative, HypothesisTest, Interval

_EXACT_LIMIT = 1000  # below it scipy's exact p-value takes milliseconds, above it the asymptotic one agrees


@dataclass(frozen=True)
class TailTest:
    """Share of one sample above a quantile of another, with the test that it is what the quantile
    promises."""

    share: Interval  # Clopper-Pearson, given the threshold
    expected: float  # share under the null: j / (m + 1)
    threshold: float  # the order statistic, in the unit of the values
    p_value: float


def ks_test(first: ArrayLike, second: ArrayLike) -> HypothesisTest:
    """Return the Kolmogorov-Smirnov distance of two samples and its two-sided p-value.

    Arguments: vectors (n,), (m,). A large p is no evidence of equality, least of all at small n (see
    `auc_equivalence` and the minimum detectable effects). Source: scipy.stats.ks_2samp, exact up to 1,000 a
    side.
    """
    a, b = finite_vector(first, "first"), finite_vector(second, "second")
    method = "exact" if max(len(a), len(b)) <= _EXACT_LIMIT else "asymp"
    result = ks_2samp(a, b, method=method)
    p = min(float(result.pvalue), 1.0)
    return HypothesisTest(float(result.statistic), p, len(a), f"Kolmogorov-Smirnov, {method}", len(b))


def ks_critical_distance(n: int, m: int, alpha: float = 0.05) -> float:
    """Return the smallest Kolmogorov-Smirnov distance that is significant: what the test can see at best.

    Arguments: sample sizes `n`, `m` >= 1; `alpha` in (0, 1). Returns sqrt(-log(alpha / 2) (1/n + 1/m) / 2),
    at most 1. Source: Smirnov 1939 (asymptotic).
    """
    share = 1 / count(n, "n", minimum=1) + 1 / count(m, "m", minimum=1)
    return min(1.0, math.sqrt(-math.log(probability(alpha, "alpha", open_ends=True) / 2) * share / 2))


def ks_null_median(n: int, m: int) -> float:
    """Return the Kolmogorov-Smirnov distance that half of all samples of one distribution exceed.

    Arguments: sample sizes `n`, `m` >= 1. Returns 0.828 sqrt(1/n + 1/m), at most 1. Source: Smirnov 1939 (asymptotic).
    """
    share = 1 / count(n, "n", minimum=1) + 1 / count(m, "m", minimum=1)
    return min(1.0, float(kstwobign.median()) * math.sqrt(share))


def exceedance_limits(n: int, m: int, share: float, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return expectation and central limits of the share of n values above a quantile that m others estimate.

    Arguments: sample sizes `n`, `m` >= 1; `share` in (0, 1), expected beyond the quantile, with floor(share (m + 1))
    >= 1; `confidence` in (0, 1). Exact where both samples come from one continuous distribution: beta-binomial(n, j,
    m - j + 1) with j = floor(share (m + 1)). Source: Wilks 1942; Nelson 1963.
    """
    size, others = count(n, "n", minimum=1), count(m, "m", minimum=1)
    rank = math.floor(probability(share, "share", open_ends=True) * (others + 1) + 1e-9)
    if not 1 <= rank <= others:
        raise ValueError(f"{others} values cannot hold a tail of {share:g}. Use more of them, or a larger share.")
    tail = (1 - probability(confidence, "confidence", open_ends=True)) / 2
    null = betabinom(size, rank, others - rank + 1)
    return rank / (others + 1), float(null.ppf(tail)) / size, float(null.ppf(1 - tail)) / size


def order_threshold(values: FloatArray, rank: int) -> float:
    """Return the `rank`-th largest of `values` (1 = the largest), in linear time."""
    return float(np.partition(values, len(values) - rank)[len(values) - rank])


def exceedance_p_value(strict: int, weak: int, n: int, m: int, rank: int, alternative: Alternative) -> float:
    """Return the p-value of how many of n values exceed the `rank`-th largest of m others.

    Arguments: `strict`, the number above it, and `weak`, the number at or above it: with ties the truth lies
    between, and each tail takes the less convincing of the two. Source: Wilks 1942; beta-binomial(n, rank, m
    - rank + 1).
    """
    null = (n, rank, m - rank + 1)
    if alternative == "greater":
        return min(float(betabinom.sf(strict - 1, *null)), 1.0)
    if alternative == "less":
        return min(float(betabinom.cdf(weak, *null)), 1.0)
    return min(1.0, 2 * min(float(betabinom.sf(strict - 1, *null)), float(betabinom.cdf(weak, *null))))


def exceedance_test(
    values: ArrayLike,
    others: ArrayLike,
    share: float,
    alternative: Alternative = "two-sided",
    confidence: float = 0.95,
) -> TailTest:
    """Return the test that `share` of `values` lies above the 1 - `share` quantile of `others`.

    Arguments: `values` (n,); `others` (m,), with m large enough that share * (m + 1) >= 1; `share` in (0, 1);
    "greater" asks whether too many lie above. The level holds for every continuous distribution and every n
    and m, and from above under ties. Raises ValueError where m is too small. Source: Wilks 1942; Nelson 1963.
    """
    ours, theirs = finite_vector(values, "values"), finite_vector(others, "others")
    n, m = len(ours), len(theirs)
    rank = math.floor(probability(share, "share", open_ends=True) * (m + 1) + 1e-9)
    if not 1 <= rank <= m:
        raise ValueError(
            f"{m} values cannot hold a tail of {share:g}: no order statistic of so few has it beyond. "
            f"Use at least {math.ceil(1 / min(share, 1 - share)) - 1} holdout records or a larger share."
        )
    threshold = order_threshold(theirs, rank)
    strict, weak = int(np.sum(ours > threshold)), int(np.sum(ours >= threshold))
    p = exceedance_p_value(strict, weak, n, m, rank, alternative)
    return TailTest(clopper_pearson(strict, n, confidence), rank / (m + 1), threshold, p)


def tail_test(forget_losses: ArrayLike, holdout_losses: ArrayLike, quantile: float = 0.95) -> TailTest:
    """Return the two-sided test of the share of forget losses above the holdout losses' `quantile`.

    Arguments: losses (n,) and (m,) in nats; `quantile` in (0, 1). More than 1 - quantile above it: some
    records were pushed beyond unseen ones (over-forgetting); fewer: they are still remembered. Source: an
    exceedance test, see the head of this file.
    """
    return exceedance_test(forget_losses, holdout_losses, 1 - probability(quantile, "quantile", open_ends=True))
