"""Per-example quantities from logits: log-probabilities, entropy, cross-entropy, margin, Jensen-Shannon
divergence.

Everything starts from logits (float32 or wider, computed here in float64) and stays in log space. The
logarithm of a softmax that has saturated at 0 or 1 loses exactly the confident records that membership shows
in: in float32 all margins above about 17 become one value.

Shapes: logits_NC, N examples by C classes; results (N,). Unit: nats.
Sources: Carlini et al. 2022 (2112.03570) for the margin; Lin 1991 for the divergence.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from nablatau.statistics.checks import (
    FloatArray,
    IntArray,
    finite_matrix,
    labels_in_range,
    same_length,
    same_shape,
)

LN_2 = math.log(2)


def logits_matrix(logits: ArrayLike, name: str = "logits") -> FloatArray:
    """Return `logits` (N, C), C >= 2, in float64; raise ValueError on half precision or on probabilities."""
    if np.asarray(logits).dtype == np.float16:
        raise ValueError(
            f"{name} is float16: its margins are rounded to 3 digits and its ties are rounding. "
            "Cast the model's output to float32 before it leaves the device."
        )
    matrix = finite_matrix(logits, name, columns=2)
    if matrix.min() >= 0 and np.allclose(matrix.sum(axis=1), 1, atol=1e-5):
        raise ValueError(
            f"{name} are probabilities (every row is non-negative and sums to 1). Their softmax would be "
            "nearly uniform. Pass the logits, or the logarithms of these probabilities."
        )
    return matrix


def _log_sum(matrix: FloatArray) -> FloatArray:
    """log of the sum of exponentials along the last axis, kept as a column."""
    return np.asarray(logsumexp(matrix, axis=1, keepdims=True), dtype=np.float64)


def log_softmax(logits: ArrayLike, name: str = "logits") -> FloatArray:
    """Return log-probabilities (N, C) of `logits` (N, C). Raises ValueError on probabilities or float16."""
    matrix = logits_matrix(logits, name)
    return matrix - _log_sum(matrix)


def _with_labels(logits: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    matrix = logits_matrix(logits)
    known = labels_in_range(labels, matrix.shape[1])
    same_length(logits=matrix, labels=known)
    return matrix, known


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Return -log p(label) per example in nats, from `logits` (N, C) and integer `labels` (N,)."""
    matrix, known = _with_labels(logits, labels)
    return _log_sum(matrix)[:, 0] - matrix[np.arange(len(known)), known]


def margin(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Return z_y - logsumexp of the other logits per example: log p_y - log(1 - p_y), without cancellation.

    Arguments: `logits` (N, C), integer `labels` (N,). Source: Carlini et al. 2022.
    """
    matrix, known = _with_labels(logits, labels)
    rows = np.arange(len(known))
    others = matrix.copy()
    others[rows, known] = -np.inf
    return matrix[rows, known] - _log_sum(others)[:, 0]


def entropy(logits: ArrayLike) -> FloatArray:
    """Return the entropy of softmax(logits) per example, in nats, 0 to log C."""
    log_p = log_softmax(logits)
    return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1), dtype=np.float64)


def jensen_shannon(first_logits: ArrayLike, second_logits: ArrayLike, *, normalised: bool = False) -> FloatArray:
    """Return the Jensen-Shannon divergence of two models' outputs per example.

    JS = KL(p || m)/2 + KL(q || m)/2 with m = (p + q)/2; 0 to log 2 nats, or 0 to 1 with `normalised` (divided
    by log 2). Arguments: logits (N, C) of both models on the same examples. Raises ValueError on unequal
    shapes. Source: Lin 1991. Where others differ: `kl_div(log p, m)` is KL(m || p); its mean over classes is
    no divergence of p and q, has no upper bound and depends on the number of classes.
    """
    log_p, log_q = log_softmax(first_logits, "first_logits"), log_softmax(second_logits, "second_logits")
    same_shape(first_logits=log_p, second_logits=log_q)
    log_m = np.logaddexp(log_p, log_q) - LN_2
    halves = np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m)
    divergence = np.clip(halves.sum(axis=1) / 2, 0, LN_2)  # rounding leaves -1e-17
    return np.asarray(divergence / LN_2 if normalised else divergence, dtype=np.float64)
