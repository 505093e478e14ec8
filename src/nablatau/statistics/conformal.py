"""Conformal p-values: how unusual each record is among unseen records (of its own class).

p_i = (1 + number of calibration scores of the class that are >= s_i) / (m_class + 1). If record i is
exchangeable with the calibration records of its class, P(p_i <= a) <= a for every a. Sources: Vovk, Gammerman
& Shafer 2005, ch. 2 (per class: Mondrian, ch. 4); Bates et al. 2023 (2104.08279) for testing many with
Benjamini-Hochberg.

The smallest possible value is 1 / (m_class + 1): with 20 holdout records a class, no record can reach 0.04,
and Benjamini-Hochberg at 10 % finds nothing unless half of the records are at that smallest value.
"""

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics.checks import FloatArray, finite_vector, same_length


def _at_least(scores: FloatArray, calibration: FloatArray) -> FloatArray:
    ordered = np.sort(calibration)
    return (len(ordered) - np.searchsorted(ordered, scores, side="left")).astype(np.float64)


def conformal_p_values(
    scores: ArrayLike,
    calibration: ArrayLike,
    classes: ArrayLike | None = None,
    calibration_classes: ArrayLike | None = None,
) -> FloatArray:
    """Return a p-value for each score against the calibration scores of its class; ties count against the
    finding.

    Arguments: `scores` (n,) and `calibration` (m,), higher = more suspicious; `classes` (n,) and
    `calibration_classes` (m,), both or neither. A class without calibration records gets p = 1: nothing can
    be said. Returns (n,) in (0, 1]. Raises ValueError on unequal lengths, on one of the two class vectors
    alone. Source: head of this file. O((n + m) log m).
    """
    ours, theirs = finite_vector(scores, "scores"), finite_vector(calibration, "calibration")
    if (classes is None) != (calibration_classes is None):
        raise ValueError(
            "Only one of classes and calibration_classes was given, so no record can be compared with its "
            "own class. Give both, or neither."
        )
    if classes is None or calibration_classes is None:
        return (1 + _at_least(ours, theirs)) / (len(theirs) + 1)
    mine, other = np.asarray(classes), np.asarray(calibration_classes)
    same_length(scores=ours, classes=mine)
    same_length(calibration=theirs, calibration_classes=other)
    p = np.ones(len(ours))
    for name in np.intersect1d(mine, other):
        within, reference = mine == name, theirs[other == name]
        p[within] = (1 + _at_least(ours[within], reference)) / (len(reference) + 1)
    return p
