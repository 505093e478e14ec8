"""The numbers that attacks look at, from the logits of a single-label classifier, without saturation.

    margin            phi  = z_y - logsumexp_{c != y} z_c = log p_y - log(1 - p_y)   (Carlini et al.,
    2112.03570) loss              l    = -log p_y                    = log(1 + exp(-phi))
    confidence        p_y                                = 1 / (1 + exp(-phi))
    entropy           H    = -sum_c p_c log p_c
    modified entropy  M    = -(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i)      (Song and Mittal,
    2003.10595)

A softmax in float32 is exactly 1 from a margin of about 17 on, and log p_y and log(1 - p_y) are then 0 and
-inf: the most memorised records, the ones an attack lives on, would all tie. Here the margin of every class
comes from the logits, and each signal comes from the margins; a loss of 1e-22 is still told apart from one
of 1e-23.

Where public code differs: the modified entropy of Unlearn-Sparse (2304.04934) and RUM writes p_y for every
column that is the label of *any* record of the batch, so it ignores the label. Ours is per record, and a
test holds it so. Letters in shapes: N records, C classes. Tasks without classes use margins_from_losses: phi
= -l.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nablatau.attacks.checks import FloatArray, IntArray, column, integers, some_of

NUMBERS_AT_ONCE = 2**21  # logits turned to float64 at a time, so that memory does not grow with N


def margins(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Give the margin of each record: how many nats its label is ahead of all other classes together.

    Arguments:
        logits: shape (N, C), C at least 2, raw outputs before any softmax, float32 or float64.
        labels: shape (N,), class numbers from 0 to C - 1.
    Returns: shape (N,), nats, unbounded on both sides; high where the model is sure of the label.
    Raises: ValueError for probabilities in place of logits, non-finite logits, one class, or unknown labels.
    Source: Carlini et al., 2112.03570, the logit-scaled confidence.
    """
    logits_NC, labels_N = _logits_and_labels(logits, labels)
    return _per_record(_label_margins, logits_NC, labels_N)


def losses(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Give the cross-entropy of each record, -log p_y.

    Arguments:
        logits, labels: as for margins.
    Returns: shape (N,), nats, from 0 on.
    Raises: ValueError as margins does.
    Source: the definition; computed as log(1 + exp(-margin)).
    """
    return np.logaddexp(0.0, -margins(logits, labels))


def confidences(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Give the probability p_y that the model puts on each record's label.

    Arguments:
        logits, labels: as for margins.
    Returns: shape (N,), between 0 and 1. It does saturate near 1, as a float must: prefer margins.
    Raises: ValueError as margins does.
    Source: the definition of the softmax.
    """
    return np.exp(-losses(logits, labels))


def entropies(logits: ArrayLike) -> FloatArray:
    """Give the entropy of the model's prediction for each record; the label plays no part.

    Arguments:
        logits: as for margins.
    Returns: shape (N,), nats, from 0 to log C.
    Raises: ValueError as margins does.
    Source: Shannon's definition.
    """
    logits_NC = _logits(logits)
    return _per_record(_entropies, logits_NC, np.zeros(len(logits_NC), dtype=np.int64))


def modified_entropies(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Give the modified entropy of each record: low only where the model is sure and right.

    Arguments:
        logits, labels: as for margins.
    Returns: shape (N,), nats, from 0 on, unbounded where the model is sure and wrong.
    Raises: ValueError as margins does.
    Source: Song and Mittal, 2003.10595, modified prediction entropy.
    """
    logits_NC, labels_N = _logits_and_labels(logits, labels)
    return _per_record(_modified_entropies, logits_NC, labels_N)


def margins_from_losses(losses: ArrayLike) -> FloatArray:
    """Give the stand-in for the margin where a task has no classes: phi = -loss.

    Arguments:
        losses: shape (N,), one loss a record, in the task's unit.
    Returns: shape (N,), the same unit, high where the model fits the record.
    Raises: ValueError for empty or non-finite losses.
    Source: convention, so that one set of attacks serves regression and language models too.
    """
    return -column(losses, "losses")


def _logits(logits: ArrayLike) -> NDArray[np.floating]:
    """Check the logits without copying them to float64 as a whole."""
    array = np.asarray(logits)
    array = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] < 2:
        raise ValueError(
            f"logits has shape {array.shape}, (records, classes) with at least one record and two classes "
            f"needed: a margin sets one class against the others. For one logit a record give columns 0 and "
            f"z; for tasks without classes use margins_from_losses."
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise ValueError(
            f"logits is not finite in row {some_of(bad)}: margin and loss of these records do not exist. "
            f"Score in float32, or find out why the model diverged."
        )
    if (array >= 0).all() and np.allclose(array.sum(axis=1, dtype=np.float64), 1.0, atol=1e-3):
        raise ValueError(
            "logits holds probabilities (no entry negative, every row sums to 1): a softmax has already "
            "rounded the most memorised records to 1, and a second one would flatten the rest. Give the "
            "outputs before it."
        )
    return array


def _logits_and_labels(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating], IntArray]:
    """Check that there is one known label for each row of logits."""
    logits_NC, labels_N = _logits(logits), integers(labels, "labels")
    records, classes = logits_NC.shape
    if labels_N.size != records:
        raise ValueError(
            f"labels has {labels_N.size} entries for {records} rows of logits: records would be scored with "
            f"the labels of others. Give one label a row, in the same order."
        )
    unknown = np.flatnonzero((labels_N < 0) | (labels_N >= classes))
    if unknown.size:
        raise ValueError(
            f"labels is outside 0 to {classes - 1} at index {some_of(unknown)}: the logits have no such "
            f"class. Renumber the classes, or check that the model's head is the right one."
        )
    return logits_NC, labels_N


def _per_record(
    signal: Callable[[FloatArray, IntArray], FloatArray], logits_NC: NDArray[np.floating], labels_N: IntArray
) -> FloatArray:
    """Compute a signal a slice at a time, in float64."""
    return np.concatenate(
        [signal(logits_NC[rows].astype(np.float64), labels_N[rows]) for rows in _slices(*logits_NC.shape)]
    )


def _slices(records: int, classes: int) -> Iterator[slice]:
    """Cut the records into runs of a bounded number of logits."""
    step = max(1, NUMBERS_AT_ONCE // classes)
    for start in range(0, records, step):
        yield slice(start, start + step)


def _label_margins(z_NC: FloatArray, labels_N: IntArray) -> FloatArray:
    """Margin of the label alone; overwrites its own copy of the logits."""
    rows = np.arange(len(z_NC))
    own_N = z_NC[rows, labels_N]
    z_NC[rows, labels_N] = -np.inf
    highest_N = z_NC.max(axis=1)
    margins_N: FloatArray = own_N - highest_N - np.log(np.exp(z_NC - highest_N[:, None]).sum(axis=1))
    return margins_N


def _all_margins(z_NC: FloatArray) -> FloatArray:
    """Margin of every class; the others' sum is a subtraction, but for the top class: it would cancel."""
    top_N = z_NC.argmax(axis=1)
    shifted_NC = z_NC - z_NC.max(axis=1, keepdims=True)
    e_NC = np.exp(shifted_NC)
    others_NC = e_NC.sum(axis=1, keepdims=True) - e_NC
    rows = np.arange(len(z_NC))
    others_NC[rows, top_N] = 1.0  # set below; here only kept away from log 0
    margins_NC: FloatArray = shifted_NC - np.log(others_NC)
    margins_NC[rows, top_N] = _label_margins(z_NC.copy(), top_N)
    return margins_NC


def _entropies(z_NC: FloatArray, _labels_N: IntArray) -> FloatArray:
    """Entropy from the margin of every class."""
    minus_log_p_NC = np.logaddexp(0.0, -_all_margins(z_NC))
    entropies_N: FloatArray = (np.exp(-minus_log_p_NC) * minus_log_p_NC).sum(axis=1)
    return entropies_N


def _modified_entropies(z_NC: FloatArray, labels_N: IntArray) -> FloatArray:
    """Modified entropy from the margin of every class, each record with its own label."""
    margins_NC = _all_margins(z_NC)
    minus_log_p_NC = np.logaddexp(0.0, -margins_NC)
    minus_log_rest_NC = np.logaddexp(0.0, margins_NC)  # -log(1 - p)
    terms_NC = np.exp(-minus_log_p_NC) * minus_log_rest_NC
    rows = np.arange(len(z_NC))
    own_N = np.exp(-minus_log_rest_NC[rows, labels_N]) * minus_log_p_NC[rows, labels_N]
    terms_NC[rows, labels_N] = own_N
    modified_N: FloatArray = terms_NC.sum(axis=1)
    return modified_N
