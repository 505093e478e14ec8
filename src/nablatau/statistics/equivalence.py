"""Equivalence tests (TOST): evidence that two things are the same within a margin, not merely "not detected".

Sources: Schuirmann 1987 (two one-sided tests); Welch 1947. For the AUC the two one-sided tests use DeLong's
standard error on the logit scale, so that p < alpha exactly when the 1 - 2 alpha interval of `auc_delong`
lies inside (0.5 - margin, 0.5 + margin).

Sample size: with no leak, var(AUC) = (n + m + 1) / (12 n m), about 1 / (6 n) for n = m, and the power of the
two tests together is 2 Phi(margin / se - z_alpha) - 1. Hence n = (z_{1-alpha} + z_{(1+power)/2})^2 / (6
margin^2): 571 a side for a margin of 0.05 and 143 for 0.10, at 80 % power and alpha = 0.05. (The "+1" of the
exact variance would add one.)
"""

import math

from numpy.typing import ArrayLike
from scipy.special import logit
from scipy.stats import norm, ttest_ind_from_stats
from scipy.stats import t as student_t

from nablatau.statistics.auc import AucEstimate, auc_estimate, model_variance
from nablatau.statistics.checks import count, finite_vector, positive, probability, same_length
from nablatau.statistics.interval import HypothesisTest


def tost_welch(first: ArrayLike, second: ArrayLike, margin: float) -> HypothesisTest:
    """Return the test that two means differ by less than `margin`; small p = shown to be equivalent.

    Arguments: vectors (n,), (m,), each of at least 2 values that are not all equal in both; `margin` > 0 in
    their unit. Returns the difference of means and the larger of the two one-sided p-values. Source:
    Schuirmann 1987; Welch 1947.
    """
    a, b = finite_vector(first, "first", minimum=2), finite_vector(second, "second", minimum=2)
    width = _margin(margin)
    if a.var() + b.var() == 0:
        raise ValueError(
            "All values of both samples are equal, so their spread cannot be estimated and no margin can "
            "be tested. A constant model needs a utility test, not an equivalence test."
        )
    one, other = (a.std(ddof=1), len(a)), (b.mean(), b.std(ddof=1), len(b))
    above = ttest_ind_from_stats(a.mean() + width, *one, *other, equal_var=False, alternative="greater").pvalue
    below = ttest_ind_from_stats(a.mean() - width, *one, *other, equal_var=False, alternative="less").pvalue
    return HypothesisTest(float(a.mean() - b.mean()), float(max(above, below)), len(a), "Welch TOST", len(b))


def tost_paired(first: ArrayLike, second: ArrayLike, margin: float) -> HypothesisTest:
    """Return the test that the mean of first - second, over the same records, is smaller than `margin`.

    Arguments and result as in `tost_welch`, with vectors of one length in one order.
    """
    a, b = finite_vector(first, "first", minimum=2), finite_vector(second, "second", minimum=2)
    same_length(first=a, second=b)
    width, difference = _margin(margin), float((a - b).mean())
    error = float((a - b).std(ddof=1)) / math.sqrt(len(a))
    if error <= 1e-12 * (abs(difference) + width):  # the same shift for every record: the shift itself decides
        return HypothesisTest(difference, float(abs(difference) >= width), len(a), "paired TOST, no spread")
    p = student_t.sf((width - abs(difference)) / error, len(a) - 1)
    return HypothesisTest(difference, float(p), len(a), "paired TOST")


def _margin(margin: float, largest: float = math.inf) -> float:
    width = positive(margin, "margin")
    if width >= largest:
        raise ValueError(
            f"margin is {margin}; it must be below {largest}, or every model would be equivalent. "
            "Usual margins for an AUC are 0.05 and 0.10."
        )
    return width


def _distance(estimate: AucEstimate, bound: float) -> float:
    """Standard errors between the estimate and `bound`, on the scale of the estimate's interval."""
    value, error = estimate.value, estimate.standard_error
    if error < 1e-12 or not 0 < value < 1:
        return (value - bound) / math.sqrt(model_variance(bound, estimate))
    return float(logit(value) - logit(bound)) / (error / (value * (1 - value)))


def auc_equivalence(estimate: AucEstimate, margin: float = 0.05) -> HypothesisTest:
    """Return the test that an AUC lies within 0.5 +- `margin`; small p = shown to be equivalent to no leak.

    Arguments: an estimate from `auc_estimate` or of `auc_stratified(...).estimate`; `margin` in (0, 0.5), in
    AUC. Returns the AUC and the larger of the two one-sided p-values. Source: see the head of this file.
    """
    width = _margin(margin, 0.5)
    above = norm.sf(_distance(estimate, 0.5 - width))
    below = norm.cdf(_distance(estimate, 0.5 + width))
    p = float(max(above, below))
    return HypothesisTest(estimate.value, p, estimate.positives, f"AUC within 0.5 +- {width:g}", estimate.negatives)


def auc_equivalence_of(positives: ArrayLike, negatives: ArrayLike, margin: float = 0.05) -> HypothesisTest:
    """Return `auc_equivalence` of scores: `positives` (n,) against `negatives` (m,)."""
    return auc_equivalence(auc_estimate(positives, negatives), margin)


def auc_equivalence_power(n: int, m: int, margin: float, alpha: float = 0.05) -> float:
    """Return the chance that `auc_equivalence` finds p < alpha when nothing leaks, with n and m records.

    Arguments: `n`, `m` >= 1; `margin` in (0, 0.5); `alpha` in (0, 1). Returns a share in [0, 1].
    Source: head of this file, with var(AUC) = (1/n + 1/m) / 12.
    """
    spread = math.sqrt((1 / count(n, "n", minimum=1) + 1 / count(m, "m", minimum=1)) / 12)
    z = norm.ppf(1 - probability(alpha, "alpha", open_ends=True))
    return max(0.0, float(2 * norm.cdf(_margin(margin, 0.5) / spread - z) - 1))


def auc_equivalence_sample_size(margin: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the records needed on each side to show an AUC equivalent to 0.5 within `margin`.

    Arguments: `margin` in (0, 0.5); `power`, `alpha` in (0, 1). 571 for 0.05 and 143 for 0.10 at the
    defaults. Source: head of this file.
    """
    z_alpha = float(norm.ppf(1 - probability(alpha, "alpha", open_ends=True)))
    z_power = float(norm.ppf((1 + probability(power, "power", open_ends=True)) / 2))
    return math.ceil((z_alpha + z_power) ** 2 / (6 * _margin(margin, 0.5) ** 2))
