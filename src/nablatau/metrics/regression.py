"""Regression scores: root mean squared error and R squared, with bootstrap intervals.

Sources: textbook definitions, as in scikit-learn; intervals by the percentile bootstrap over examples
(functions of means, see `nablatau.statistics.bootstrap_means`). Shapes: predictions and targets (N,), in the
unit of the target.
"""

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval, bootstrap_means
from nablatau.statistics.checks import FloatArray, finite_vector, same_length


def _pair(predictions: ArrayLike, targets: ArrayLike) -> tuple[FloatArray, FloatArray]:
    predicted = finite_vector(predictions, "predictions", minimum=2)
    true = finite_vector(targets, "targets", minimum=2)
    same_length(predictions=predicted, targets=true)
    return predicted, true


def root_mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return the square root of the mean squared error, in the unit of the target.

    Arguments: `predictions` (N,), `targets` (N,), N >= 2; `seed` of the bootstrap.
    """
    predicted, true = _pair(predictions, targets)
    squares = ((predicted - true) ** 2)[:, None]
    return bootstrap_means(squares, lambda means: np.sqrt(means[..., 0]), seed=seed, confidence=confidence)


def _explained(means: FloatArray) -> FloatArray:
    """1 - MSE / variance from the means of: squared error, centred target, its square."""
    variance = means[..., 2] - means[..., 1] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, 1 - means[..., 0] / variance, np.nan)


def r_squared(predictions: ArrayLike, targets: ArrayLike, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return 1 - mean squared error / variance of the targets: 1 is perfect, 0 the constant mean, below 0
    worse than it.

    Arguments as in `root_mean_squared_error`. Raises ValueError if all targets are equal.
    """
    predicted, true = _pair(predictions, targets)
    centred = true - true.mean()  # keeps the variance exact for targets far from 0
    columns = np.stack([(predicted - true) ** 2, centred, centred**2], axis=1)
    return bootstrap_means(columns, _explained, seed=seed, confidence=confidence)
