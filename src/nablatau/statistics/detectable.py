"""Minimum detectable effects: what a test could have seen. "Not detected" means nothing without this number.

Sources: Cohen 1988 for shares; for the AUC the null variance of Mann and Whitney 1947 and, under the
alternative, the variance of Newcombe 2006, method 5. The effect is the one found with probability `power` by
a two-sided test at `alpha`. Infinity says that even the largest possible effect would be missed.
"""

import math
from collections.abc import Callable

from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

from nablatau.statistics.auc import AucEstimate, model_variance
from nablatau.statistics.checks import count, probability

_TINY = 1e-12


def _quantiles(power: float, alpha: float) -> tuple[float, float]:
    reject = norm.ppf(1 - probability(alpha, "alpha", open_ends=True) / 2)
    return float(reject), float(norm.ppf(probability(power, "power", open_ends=True)))


def _smallest(excess: Callable[[float], float], largest: float) -> float:
    """Root of `excess` in (0, largest]; infinite where the largest effect is still too small."""
    if excess(_TINY) >= 0:
        return 0.0
    if excess(largest) < 0:
        return math.inf
    return float(brentq(excess, _TINY, largest, xtol=1e-10))


def auc_minimum_detectable_effect_of(estimate: AucEstimate, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest |AUC - 0.5| that the records behind `estimate` (stratified or not) would reveal.

    Arguments: an estimate, of which only the sample sizes and weights are used; `power`, `alpha` in (0, 1).
    Returns a number in (0, 0.5], or infinity. Source: head of this file.
    """
    z_alpha, z_power = _quantiles(power, alpha)
    null = sum(weight**2 * (n + m + 1) / (12 * n * m) for weight, n, m in estimate.parts)

    def excess(effect: float) -> float:
        alternative = model_variance(min(0.5 + effect, 1.0), estimate)
        return effect - z_alpha * math.sqrt(null) - z_power * math.sqrt(alternative)

    return _smallest(excess, 0.5)


def auc_minimum_detectable_effect(n: int, m: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest |AUC - 0.5| that n positives against m negatives would reveal.

    Arguments: `n`, `m` >= 1 records; `power`, `alpha` in (0, 1). Returns a number in (0, 0.5], or infinity.
    """
    n, m = count(n, "n", minimum=1), count(m, "m", minimum=1)
    return auc_minimum_detectable_effect_of(AucEstimate(0.5, 0.0, n, m, ((1.0, n, m),)), power, alpha)


def _exact_rise(n: int, baseline: float, power: float, alpha: float) -> float:
    """One sample: the first count that rejects, and the chance under which it is reached with `power`."""
    critical = int(binom.isf(alpha / 2, n, baseline)) + 1  # smallest c with P(X >= c) <= alpha / 2
    if critical > n:
        return math.inf
    return float(beta.ppf(power, critical, n - critical + 1)) - baseline


def proportion_minimum_detectable_effect(
    n: int, baseline: float, m: int | None = None, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest rise above `baseline` that a share of n records would reveal.

    Arguments: `n` >= 1; `baseline` in [0, 1], a chance known beforehand (`m` None: exact binomial test) or
    the expected share of a comparison group of `m` records; for a fall, pass 1 - baseline. Returns a
    difference of shares, or infinity. Source: two groups by Cohen 1988, ch. 6: arcsine of the square root,
    which stays sensible at 0 and 1.
    """
    n, start = count(n, "n", minimum=1), probability(baseline, "baseline")
    z_alpha, z_power = _quantiles(power, alpha)
    if m is None:
        return _exact_rise(n, start, power, alpha)
    step = (z_alpha + z_power) * math.sqrt(1 / n + 1 / count(m, "m", minimum=1))
    angle = math.asin(math.sqrt(start)) + step / 2
    return math.inf if angle > math.pi / 2 else math.sin(angle) ** 2 - start
