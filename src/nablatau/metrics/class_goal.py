"""Class goals: where does the probability of a removed class go?

When a whole class is removed the retrained model spreads its examples over the remaining classes by
similarity. Methods that push the class down send the examples elsewhere, and the mean probability of the
neighbouring classes betrays what was removed. Source: Ebrahimpour-Boroojeny et al. 2025 (2506.20893), whose
attack compares neighbour probabilities. Where we differ: the whole mean probability vector is compared with
the retrained model's, class by class.

Shapes: logits (N, C) of both models on the examples of the forgotten class. Null floor:
`class_goal_null_floor`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval, bootstrap_absolute_sum, log_softmax, mean_interval
from nablatau.statistics.checks import FloatArray, finite_matrix, probability, same_shape


@dataclass(frozen=True)
class ClassShift:
    """A class whose mean probability differs from the retrained model's."""

    name: int  # the class
    difference: Interval  # unlearned - retrained mean probability, limits valid for all classes at once


def _probability_gaps(unlearned_logits: ArrayLike, reference_logits: ArrayLike) -> FloatArray:
    ours = log_softmax(unlearned_logits, "unlearned_logits")
    theirs = log_softmax(reference_logits, "reference_logits")
    same_shape(unlearned_logits=ours, reference_logits=theirs)
    return finite_matrix(np.exp(ours) - np.exp(theirs), "probability gaps", rows=2)


def class_goal_distance(
    unlearned_logits: ArrayLike, reference_logits: ArrayLike, *, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return the total variation distance of the two models' mean probability vectors.

    Arguments: logits (N, C), N >= 2, of examples of the removed class; `seed` of the bootstrap. 0 = the same
    mean vector, 1 = no class in common. Biased upwards near 0, and its interval allows for that: compare with
    `class_goal_null_floor`.
    """
    gaps = _probability_gaps(unlearned_logits, reference_logits)
    return bootstrap_absolute_sum(gaps, scale=0.5, seed=seed, confidence=confidence)


def class_goal_null_floor(unlearned_logits: ArrayLike, reference_logits: ArrayLike) -> float:
    """Return the distance expected if the true mean vectors were equal: the sum of E|noise| over classes,
    halved."""
    gaps = _probability_gaps(unlearned_logits, reference_logits)
    errors = gaps.std(axis=0, ddof=1) / math.sqrt(len(gaps))
    return float(math.sqrt(2 / math.pi) * errors.sum() / 2)


def class_shifts(
    unlearned_logits: ArrayLike, reference_logits: ArrayLike, confidence: float = 0.95
) -> tuple[ClassShift, ...]:
    """Return the classes whose mean probability is not the retrained model's, largest difference first.

    Arguments as in `class_goal_distance`. Limits are Bonferroni over the classes; only classes whose limits
    exclude 0 are listed. A positive difference at a neighbouring class is the leak of 2506.20893.
    """
    gaps = _probability_gaps(unlearned_logits, reference_logits)
    each = 1 - (1 - probability(confidence, "confidence", open_ends=True)) / gaps.shape[1]
    shifts = (ClassShift(name, mean_interval(gap, each)) for name, gap in enumerate(gaps.T))
    found = [shift for shift in shifts if 0 not in shift.difference]
    return tuple(sorted(found, key=lambda shift: -abs(shift.difference.value)))
