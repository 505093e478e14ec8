"""Corrections for asking many questions at once: Benjamini-Hochberg (false discovery rate) and Holm (any
error at all).

Both return adjusted p-values in the order given: a finding holds at level q where the adjusted value is <= q.
Sources: Benjamini & Hochberg 1995 (by scipy.stats.false_discovery_control); Holm 1979. Conformal p-values
that share one calibration set are positively dependent, and Benjamini-Hochberg still holds for them (Bates et
al. 2023, theorem 2).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from nablatau.statistics.checks import FloatArray, probability_vector


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """Return Benjamini-Hochberg adjusted p-values; those <= q keep the expected share of false findings below
    q.

    Arguments: `p_values` (K,) in [0, 1]. Raises ValueError outside. Source: Benjamini & Hochberg 1995.
    """
    return np.asarray(false_discovery_control(probability_vector(p_values, "p_values")), dtype=np.float64)


def holm(p_values: ArrayLike) -> FloatArray:
    """Return Holm adjusted p-values; those <= alpha keep the chance of even one false finding below alpha.

    Arguments: `p_values` (K,) in [0, 1], of any dependence. Raises ValueError outside. Source: Holm 1979.
    """
    p = probability_vector(p_values, "p_values")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
