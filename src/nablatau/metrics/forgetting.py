"""Forgetting seen in one model: ZRF, and what fine-tuning on the retain set alone brings back.

Sources: ZRF, Chundawat et al. 2023 (2205.08096): 1 - mean JS(model, randomly initialised teacher). Where we
differ: the divergence is Jensen-Shannon's, normalised to 0..1. Several tools print a "JS" that is KL(m || p)
averaged over the classes: for p = (0.935, 0.065) and its mirror image 0.354 instead of 0.453 nats, and ever
smaller the more classes there are.

Retain-only recovery: if a model only hides the forget set, fine-tuning on other data brings it back. The
contrast with the holdout set removes what fine-tuning does to any data: [acc_F after - before] - [acc_H after
- before].
"""

from numpy.typing import ArrayLike

from nablatau.statistics import Interval, difference_of_changes, jensen_shannon, mean_interval, paired_change


def zero_retrain_forgetting(
    unlearned_logits: ArrayLike, random_teacher_logits: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Return ZRF: 1 minus the mean normalised Jensen-Shannon divergence to a randomly initialised model on F.

    Arguments: logits (N, C) on the forget set, N >= 2. 1 = answers like an untrained model, which no
    retrained model does: its value is the target, not 1. Source: Chundawat et al. 2023.
    """
    return mean_interval(1 - jensen_shannon(unlearned_logits, random_teacher_logits, normalised=True), confidence)


def recovery_contrast(
    forget_correct_before: ArrayLike,
    forget_correct_after: ArrayLike,
    holdout_correct_before: ArrayLike,
    holdout_correct_after: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return how much more of the forget set than of unseen data comes back after fine-tuning on the retain
    set only.

    Arguments: 0/1 vectors of correct predictions on F (n,) and on H (m,), before and after the fine-tuning.
    Both changes are paired (Newcombe); their difference joins the limits by squares. Above 0: the memory was
    hidden, not removed. Source: head of this file.
    """
    forget = paired_change(forget_correct_before, forget_correct_after, confidence)
    holdout = paired_change(holdout_correct_before, holdout_correct_after, confidence)
    return difference_of_changes(forget, holdout)
