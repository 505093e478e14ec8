"""The reference attack: a text that the audited model fits better than another model does is called a member.

Source: Watson et al. 2111.08440 (difficulty calibration); for language models Carlini et al. 2012.07805 and
Mireshghallah et al. 2203.03929. Where we differ from the second and from MUSE's code: the difference of the losses,
which is the logarithm of a likelihood ratio, rather than the ratio of the losses, which is noise wherever the reference
model's loss is near 0.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from nablatau.statistics.checks import FloatArray, finite_vector, same_length


def reference_difference(losses: ArrayLike, reference_losses: ArrayLike) -> FloatArray:
    """Score each record by the reference model's loss less the audited model's.

    Arguments:
        losses: shape (N,), of the audited model, in nats or the task's unit.
        reference_losses: shape (N,), of a model that was not trained on the scored records, best the retrained one.
    Returns: shape (N,), higher = more likely remembered.
    Raises: ValueError for unequal lengths, or losses that are empty or not finite.
    Source: Watson et al., 2111.08440.
    """
    ours, theirs = finite_vector(losses, "losses"), finite_vector(reference_losses, "reference_losses")
    same_length(losses=ours, reference_losses=theirs)
    return theirs - ours
