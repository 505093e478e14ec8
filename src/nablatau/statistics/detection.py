"""True positive rate at a low false positive rate, read at the proper order statistic.

Source: Carlini et al. 2022 (2112.03570) for the metric. Where we differ from public code, which reads the ROC
curve at the point nearest to the target (or interpolates it) and so reports "TPR at 1 %" at a false positive
rate of 1.6 %: the threshold is the j-th largest negative with j = floor(FPR (m + 1)) and only scores strictly
above it count. Then the false positive rate on these negatives is below the target, and its expectation on
new ones, j / (m + 1), is at most it.

The interval is Clopper and Pearson's, given the threshold. The p-value does not take the threshold as given:
it is that of the exceedance test, which holds its level for every sample size.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics.binomial import clopper_pearson
from nablatau.statistics.checks import finite_vector, probability
from nablatau.statistics.interval import Interval
from nablatau.statistics.two_sample import exceedance_p_value, order_threshold


@dataclass(frozen=True)
class DetectionRate:
    """True positive rate at a false positive rate that is not exceeded."""

    tpr: Interval  # share of positives above the threshold
    fpr: Interval  # share of negatives above the threshold: below the target
    target: float  # the false positive rate asked for
    threshold: float  # in the unit of the scores
    p_value: float  # one-sided: more positives above it than a non-leaking attack would put there


def minimum_negatives(fpr: float, confidence: float = 0.95) -> int:
    """Return the fewest negatives with which a false positive rate can be bounded by `fpr` at all.

    With m negatives and none above the threshold, the rate is bounded at `confidence` if (1 - fpr)^m <= 1 -
    confidence: 29, 299 and 2,995 negatives for 10 %, 1 % and 0.1 %.
    """
    rate = probability(fpr, "fpr", open_ends=True)
    return math.ceil(math.log1p(-probability(confidence, "confidence", open_ends=True)) / math.log1p(-rate))


def tpr_at_fpr(positives: ArrayLike, negatives: ArrayLike, fpr: float, confidence: float = 0.95) -> DetectionRate:
    """Return the true positive rate at a false positive rate of at most `fpr`, with Clopper-Pearson
    intervals.

    Arguments: scores (n,) and (m,), higher = more member-like; `fpr` in (0, 1); `confidence` in (0, 1).
    Raises ValueError if there are fewer than `minimum_negatives(fpr)` negatives. Source: see the head of this
    file.
    """
    ours, theirs = finite_vector(positives, "positives"), finite_vector(negatives, "negatives")
    n, m, needed = len(ours), len(theirs), minimum_negatives(fpr)
    if m < needed:
        raise ValueError(
            f"{m} negatives cannot show a false positive rate of {fpr:g}: at least {needed} are needed, or "
            "the threshold is decided by one or two records. Use a larger holdout set or a larger rate."
        )
    rank = math.floor(fpr * (m + 1) + 1e-9)
    threshold = order_threshold(theirs, rank)
    hits, weak = int(np.sum(ours > threshold)), int(np.sum(ours >= threshold))
    return DetectionRate(
        tpr=clopper_pearson(hits, n, confidence),
        fpr=clopper_pearson(int(np.sum(theirs > threshold)), m, confidence),
        target=fpr,
        threshold=threshold,
        p_value=exceedance_p_value(hits, weak, n, m, rank, "greater"),
    )
