"""Multi-label scores: F1 per label, macro and micro.

Sources: textbook definitions, as in scikit-learn; intervals by the percentile bootstrap over examples. Where
we differ: a label that no example has and no prediction names has no F1; it is left out of the macro mean
instead of counting as 0 (or, with another setting, as 1). An accuracy of the first label only, as in
published code, is not offered.

Shapes: predictions and labels (N, L), 0/1.
"""

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval, bootstrap_means
from nablatau.statistics.checks import FloatArray, boolean_array, same_shape


def _counts(predictions: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Columns: true positives of each label, then predicted + actual of each label."""
    predicted, true = boolean_array(predictions, "predictions"), boolean_array(labels, "labels")
    if predicted.ndim != 2:
        raise ValueError(f"predictions has shape {predicted.shape}; rows are examples, columns labels.")
    same_shape(predictions=predicted, labels=true)
    return np.concatenate([predicted & true, predicted.astype(float) + true], axis=1)


def _f1(means: FloatArray) -> FloatArray:
    """F1 of each label, 2 TP / (predicted + actual); NaN where the label does not occur."""
    hits, total = np.split(means, 2, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 2 * hits / total, np.nan)


def _macro(means: FloatArray) -> FloatArray:
    scores = _f1(means)
    known = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, scores, 0).sum(axis=-1) / known.sum(axis=-1))


def _micro(means: FloatArray) -> FloatArray:
    hits, total = np.split(means, 2, axis=-1)
    return _f1(np.stack([hits.sum(axis=-1), total.sum(axis=-1)], axis=-1))[..., 0]


def f1_macro(predictions: ArrayLike, labels: ArrayLike, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean over labels of their F1, each label of equal weight.

    Arguments: 0/1 matrices (N, L), N >= 2; `seed` of the bootstrap. Raises ValueError if no label occurs at
    all.
    """
    return bootstrap_means(_counts(predictions, labels), _macro, seed=seed, confidence=confidence)


def f1_micro(predictions: ArrayLike, labels: ArrayLike, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the F1 of all decisions together, each decision of equal weight. Arguments as in `f1_macro`."""
    return bootstrap_means(_counts(predictions, labels), _micro, seed=seed, confidence=confidence)


def f1_per_label(
    predictions: ArrayLike, labels: ArrayLike, *, seed: int = 0, confidence: float = 0.95
) -> dict[int, Interval]:
    """Return the F1 of each label that occurs, by column. Arguments as in `f1_macro`; n counts examples."""
    counts = _counts(predictions, labels)
    width = counts.shape[1] // 2
    present = np.flatnonzero(counts[:, width:].sum(axis=0))
    return {
        int(k): bootstrap_means(counts[:, [k, k + width]], lambda m: _f1(m)[..., 0], seed=seed, confidence=confidence)
        for k in present
    }
