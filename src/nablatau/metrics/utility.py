"""Utility: how well the unlearned model still works, in accuracy.

Sources: accuracy with Wilson's interval; negative flips, Yan et al. 2021 (2011.09161); average gap, Fan et
al. 2024 (SalUn, 2310.12508); tug of war (ToW), Zhao et al. 2024 (2406.01257). Where we differ: every number
carries an interval. That of the average gap and of ToW is the observed value plus and minus the 95 % quantile
of sum se_k |Z_k|, with se_k from the paired changes: a bootstrap of a mean of absolute values would exclude
zero even for two equal models.

Shapes: predictions and labels are integer vectors (N,).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval, paired_change, wilson
from nablatau.statistics.checks import (
    BoolArray,
    FloatArray,
    boolean_vector,
    integer_vector,
    probability,
    same_length,
)
from nablatau.statistics.interval import normal_quantile

_DRAWS = 20_000  # of the noise of the gaps; fixed seed, so that results repeat


def _correct(predictions: ArrayLike, labels: ArrayLike, name: str = "predictions") -> BoolArray:
    predicted, known = integer_vector(predictions, name), integer_vector(labels, "labels")
    same_length(**{name: predicted, "labels": known})
    return np.asarray(predicted == known)


def accuracy(predictions: ArrayLike, labels: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the share of predictions equal to the label, with Wilson's interval.

    Arguments: predicted classes (N,), labels (N,). Raises ValueError on unequal lengths or probabilities in
    place of classes.
    """
    correct = _correct(predictions, labels)
    return wilson(int(correct.sum()), len(correct), confidence)


def class_accuracies(predictions: ArrayLike, labels: ArrayLike, confidence: float = 0.95) -> dict[int, Interval]:
    """Return the accuracy of each class that has examples, with limits that hold for all classes at once.

    Arguments as in `accuracy`. Bonferroni: each of the C intervals is at 1 - (1 - confidence) / C.
    """
    correct, known = _correct(predictions, labels), integer_vector(labels, "labels")
    classes, index = np.unique(known, return_inverse=True)
    each = 1 - (1 - probability(confidence, "confidence", open_ends=True)) / len(classes)
    hits, totals = np.bincount(index, correct), np.bincount(index)
    return {int(c): wilson(int(h), int(t), each) for c, h, t in zip(classes, hits, totals, strict=True)}


def worst_class_accuracy(predictions: ArrayLike, labels: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the accuracy of the worst class; n counts that class's examples.

    Arguments as in `accuracy`. The limits are the smallest of the classes' simultaneous limits, so they cover
    the accuracy of the class that is truly worst, not only of the one that looks so by luck.
    """
    classes = class_accuracies(predictions, labels, confidence)
    name = min(classes, key=lambda c: classes[c].value)
    low, high = min(i.low for i in classes.values()), min(i.high for i in classes.values())
    method = f"worst class {name} of {len(classes)}, simultaneous Wilson"
    return Interval(classes[name].value, low, high, classes[name].n, method, confidence=confidence)


def accuracy_change(
    original_predictions: ArrayLike,
    unlearned_predictions: ArrayLike,
    labels: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return accuracy(unlearned) - accuracy(original) over the same examples, with Newcombe's paired
    interval.

    Arguments: predicted classes of both models (N,), labels (N,).
    """
    before = _correct(original_predictions, labels, "original_predictions")
    return paired_change(before, _correct(unlearned_predictions, labels, "unlearned_predictions"), confidence)


def negative_flips(
    original_predictions: ArrayLike,
    unlearned_predictions: ArrayLike,
    labels: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return the share of all examples that the original model had right and the unlearned one has wrong.

    Arguments as in `accuracy_change`. Source: Yan et al. 2021.
    """
    before = _correct(original_predictions, labels, "original_predictions")
    lost = before & ~_correct(unlearned_predictions, labels, "unlearned_predictions")
    return wilson(int(lost.sum()), len(lost), confidence)


def _gaps(
    unlearned: Sequence[ArrayLike], reference: Sequence[ArrayLike], confidence: float
) -> tuple[FloatArray, float, int]:
    """|share under the unlearned model - share under the reference| of each part, the radius of their sum,
    all n."""
    if not unlearned or len(unlearned) != len(reference):
        raise ValueError(
            f"{len(unlearned)} parts of the unlearned model and {len(reference)} of the reference: give "
            "one 0/1 vector per part (forget, retain, test, attack) for both, in one order."
        )
    changes = [
        paired_change(boolean_vector(theirs, "reference_correct"), boolean_vector(ours, "unlearned_correct"))
        for ours, theirs in zip(unlearned, reference, strict=True)
    ]
    half = np.array([max(c.value - c.low, c.high - c.value) for c in changes]) / normal_quantile(0.95)
    noise = np.abs(np.random.default_rng(0).standard_normal((_DRAWS, len(changes)))) @ half
    radius = float(np.quantile(noise, probability(confidence, "confidence", open_ends=True)))
    return np.array([abs(c.value) for c in changes]), radius, sum(c.n for c in changes)


def average_gap(
    unlearned_correct: Sequence[ArrayLike], reference_correct: Sequence[ArrayLike], confidence: float = 0.95
) -> Interval:
    """Return the mean over parts of |share under the unlearned model - share under the reference|.

    Arguments: for each part (retain, forget, test accuracy; attack success) a 0/1 vector of its examples,
    under both models in one order. n counts all examples. Source: Fan et al. 2024, with RA, FA, TA and MIA as
    parts.
    """
    gaps, radius, n = _gaps(unlearned_correct, reference_correct, confidence)
    value, width = float(gaps.mean()), radius / len(gaps)
    low, high = max(0.0, value - width), min(1.0, value + width)
    return Interval(value, low, high, n, f"mean of {len(gaps)} gaps", confidence=confidence)


def tug_of_war(
    unlearned_correct: Sequence[ArrayLike], reference_correct: Sequence[ArrayLike], confidence: float = 0.95
) -> Interval:
    """Return ToW, the product over parts of 1 - |share under the unlearned model - share under the
    reference|.

    Arguments as in `average_gap`; the paper's parts are forget, retain and test accuracy. Source: Zhao et al.
    2024.
    """
    gaps, radius, n = _gaps(unlearned_correct, reference_correct, confidence)
    value = float(np.prod(1 - gaps))
    low, high = max(0.0, value - radius), min(1.0, value + radius)
    return Interval(value, low, high, n, f"product of {len(gaps)} gaps", confidence=confidence)
