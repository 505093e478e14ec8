"""Distance between the outputs of two models on the same examples.

Sources: activation distance, Golatkar et al. 2020 (1911.04933) and Chundawat et al. 2023 (2205.08096): L2
distance of the softmax vectors; Jensen-Shannon divergence, Lin 1991, by log-softmax; churn, Milani Fard et
al. 2016. Null floor of all: the same number between two retrained models of different seeds, which is far
from zero; without it none can be read.

Shapes: logits (N, C) of both models in one order of examples; predictions (N,).
"""

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval, jensen_shannon, log_softmax, mean_interval, wilson, wilson_share
from nablatau.statistics.checks import integer_vector, same_length, same_shape


def activation_distance(first_logits: ArrayLike, second_logits: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean over examples of the L2 distance of the two softmax vectors, 0 to sqrt(2), with a t
    interval.

    Arguments: logits (N, C), N >= 2. Source: Chundawat et al. 2023.
    """
    first, second = log_softmax(first_logits, "first_logits"), log_softmax(second_logits, "second_logits")
    same_shape(first_logits=first, second_logits=second)
    return mean_interval(np.sqrt(((np.exp(first) - np.exp(second)) ** 2).sum(axis=1)), confidence)


def js_divergence(first_logits: ArrayLike, second_logits: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean Jensen-Shannon divergence, normalised to 0..1 (divided by log 2), with a t interval.

    Arguments: logits (N, C), N >= 2. Source: Lin 1991; see `nablatau.statistics.jensen_shannon` for nats.
    """
    return mean_interval(jensen_shannon(first_logits, second_logits, normalised=True), confidence)


def churn(first_predictions: ArrayLike, second_predictions: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the share of examples on which the two models predict different classes, with Wilson's interval.

    Arguments: predicted classes (N,). Source: Milani Fard et al. 2016.
    """
    first, second = integer_vector(first_predictions, "first"), integer_vector(second_predictions, "second")
    n = same_length(first_predictions=first, second_predictions=second)
    return wilson(int(np.sum(first != second)), n, confidence)


def nearer_to_reference(
    unlearned_logits: ArrayLike,
    original_logits: ArrayLike,
    reference_logits: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return the share of examples whose output is nearer to the retrained model's than to the original's.

    Arguments: logits (N, C) of the three models on one split. Distance: Jensen-Shannon divergence; equal
    distances count half, so that three equal models give 0.5. Wilson's interval. A retrained model of another
    seed is the floor.
    """
    away = jensen_shannon(unlearned_logits, original_logits)
    toward = jensen_shannon(unlearned_logits, reference_logits)
    same_length(original_logits=away, reference_logits=toward)
    credit = np.where(np.isclose(toward, away, rtol=1e-9, atol=1e-15), 0.5, toward < away)
    return wilson_share(float(credit.mean()), len(credit), confidence)
