"""Calibration: negative log-likelihood and expected calibration error, from logits.

Sources: Guo et al. 2017 (1706.04599, eq. 3) for the error, with equal-width bins of the top-label confidence.
Where we differ: its null floor is given. The error of a perfectly calibrated model is not zero, because in
each bin the absolute value of pure noise is added up.

Shapes: logits (N, C), labels (N,).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval, bootstrap_absolute_sum, cross_entropy, log_softmax, mean_interval
from nablatau.statistics.checks import FloatArray, count, labels_in_range, same_length

_BINS = 15  # the paper's number


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of -log p(label) in nats, with Student's t interval.

    Arguments: `logits` (N, C), integer `labels` (N,), N >= 2. Raises ValueError on probabilities in place of
    logits.
    """
    return mean_interval(cross_entropy(logits, labels), confidence)


def _top(logits: ArrayLike, bins: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Confidence of the predicted class, the predicted class, and a one-hot row of its bin."""
    log_p = log_softmax(logits)
    confidences = np.exp(log_p.max(axis=1))
    index = np.clip(np.ceil(confidences * count(bins, "bins", minimum=1)).astype(int) - 1, 0, bins - 1)
    return confidences, log_p.argmax(axis=1).astype(np.float64), np.eye(bins)[index]


def expected_calibration_error(
    logits: ArrayLike, labels: ArrayLike, *, bins: int = _BINS, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return the mean over examples of |accuracy - confidence| of their bin.

    Arguments: `logits` (N, C), `labels` (N,); `bins` of equal width, open on the left; `seed` of the
    bootstrap. Biased upwards, and its interval allows for that: compare with `calibration_null_floor`.
    Source: Guo et al. 2017, eq. 3.
    """
    confidences, predicted, members = _top(logits, bins)
    known = labels_in_range(labels, np.asarray(logits).shape[1])
    same_length(logits=confidences, labels=known)
    gaps = members * ((predicted == known) - confidences)[:, None]
    return bootstrap_absolute_sum(gaps, seed=seed, confidence=confidence)


def calibration_null_floor(logits: ArrayLike, *, bins: int = _BINS) -> float:
    """Return the calibration error expected of a model whose confidences are exactly right, on as many
    examples.

    Arguments as in `expected_calibration_error`. In each bin the gap is nearly normal with variance
    sum p (1 - p) / N^2, and E|Z| = sqrt(2 / pi).
    """
    confidences, _, members = _top(logits, bins)
    spread = np.sqrt(members.T @ (confidences * (1 - confidences)))
    return float(math.sqrt(2 / math.pi) * spread.sum() / len(confidences))
