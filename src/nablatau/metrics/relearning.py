"""Relearning: how many steps of training on the forget set bring it back, and the anamnesis index.

Sources: relearn time, Golatkar et al. 2020 (1911.04933); anamnesis index (AIN), Chundawat et al. 2023
(2201.05629): relearn time of the unlearned model over that of a model retrained without the data. Where we
differ: a curve is only known at the steps where it was measured, so the result is the bracket between two
measurements, not a point.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval
from nablatau.statistics.checks import FloatArray, finite_vector, probability, same_length


def _checked(steps: ArrayLike, curve: ArrayLike) -> tuple[FloatArray, FloatArray]:
    times, values = finite_vector(steps, "steps"), finite_vector(curve, "curve")
    same_length(steps=times, curve=values)
    if times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(
            "steps must rise from 0 or above: the first step at which the target is met is undefined in any "
            "other order. Sort the measurements."
        )
    return times, values


def relearn_time(steps: ArrayLike, curve: ArrayLike, target: float) -> Interval:
    """Return the training steps until `curve` (accuracy on F) first reaches `target`, as a bracket.

    Arguments: `steps` (T,), rising, the first usually 0; `curve` (T,), accuracy after each; `target` in the
    same unit. Returns the first measured step at or above the target, with the last step below it as lower
    end (the value is an upper bound); infinity, from the last step, if the target is never reached; n counts
    the measurements. Source: Golatkar et al. 2020.
    """
    times, values = _checked(steps, curve)
    reached = np.flatnonzero(values >= target)
    if len(reached) == 0:
        return Interval(math.inf, float(times[-1]), math.inf, len(times), "never reached", confidence=1.0)
    first = int(reached[0])
    low = float(times[max(first - 1, 0)])
    return Interval(
        float(times[first]), low, float(times[first]), len(times), "bracket of measurements", confidence=1.0
    )


def _ratio(above: float, below: float) -> float:
    if math.isinf(below) or above == 0:
        return 0.0
    return math.inf if below == 0 else above / below


def anamnesis_index(
    unlearned_curve: ArrayLike,
    reference_curve: ArrayLike,
    steps: ArrayLike,
    original_accuracy: float,
    *,
    tolerance: float = 0.05,
) -> Interval:
    """Return the relearn time of the unlearned model over that of the retrained one, as a bracket.

    Arguments: accuracies on F while relearning, (T,) each, at the same `steps` (T,); `original_accuracy` of
    the original model on F; the target is original_accuracy * (1 - tolerance), 5 % below as in the paper. 1 =
    like retrained; below 1 the memory is still there; far above 1 it was erased beyond what retraining does.
    Raises ValueError if neither model reaches the target, or the retrained model is there at the first
    measurement. Source: Chundawat et al. 2023.
    """
    target = probability(original_accuracy, "original_accuracy") * (1 - probability(tolerance, "tolerance"))
    ours, theirs = relearn_time(steps, unlearned_curve, target), relearn_time(steps, reference_curve, target)
    if math.isinf(ours.value) and math.isinf(theirs.value):
        raise ValueError(
            f"Neither model reaches {target:.3f} within the curve, so their ratio is unknown. "
            "Relearn for more steps, or raise the tolerance."
        )
    if theirs.value == 0:
        raise ValueError(
            f"The retrained model is at {target:.3f} before any relearning, so there is nothing to "
            "relearn and the index is undefined. Use the accuracy gap or the relearned loss instead."
        )
    value = _ratio(ours.value, theirs.value)
    low, high = _ratio(ours.low, theirs.high), _ratio(ours.high, theirs.low)
    return Interval(value, low, high, ours.n, "bracket of measurements", confidence=1.0)
