"""Whether a model and records belong together: one that learned from records does better on them than by guessing.

A tokenizer of another model, labels in another order or weights of another task pass every check of forms, and whatever
is then measured says nothing about forgetting. Ours; a note, not a refusal, since a model may be as bad as that.

Shapes: N records.
"""

import math

import torch
from torch import nn

from nablatau.loading import Loader
from nablatau.modes import in_mode
from nablatau.objectives import TOKEN_KINDS, Kind, Objective
from nablatau.records import Records
from nablatau.runtime import device_of
from nablatau.statistics.checks import FloatArray

AS_GOOD_AS_GUESSING = 0.9
"""Of a guess among all words: a language model that reads another's tokens still finds some likelier than others."""


def guessing_loss(kind: Kind, width: int) -> float | None:
    """The loss of a model to which every answer is equally likely, in nats; None where answers cannot be counted.

    Args:
        kind: of the objective.
        width: classes, or words of the vocabulary; of several labels each is yes or no.
    """
    if kind == "multi-label":
        return math.log(2)
    return math.log(width) if kind in ("single-label", *TOKEN_KINDS) and width > 1 else None


def misfit(model: nn.Module, loss_N: FloatArray, records: Records, objective: Objective) -> str:
    """What the losses say against model and records belonging together, as a sentence; empty if nothing.

    Args:
        model: said to have been trained on the records; asked about one of them, for the number of answers.
        loss_N: of all of them.
        records: some of them.
        objective: what an output is.
    """
    if not objective.has_outputs:
        return ""
    batch = next(iter(Loader(records.subset([0]), objective, batch_size=1, device=device_of(model))))
    with in_mode(model, "eval"), torch.no_grad():
        guess = guessing_loss(objective.kind, objective.outputs(model, batch.data).shape[-1])
    least = AS_GOOD_AS_GUESSING if objective.kind == "causal-lm" else 1.0
    if guess is None or loss_N.mean() < least * guess:
        return ""
    return (
        f"On the {len(loss_N):,} records that it is said to have learned from, the original model has a mean loss of "
        f"{loss_N.mean():.3g}, and one that guesses has {guess:.3g}: MODEL AND RECORDS DO NOT SEEM TO BELONG TOGETHER. "
        "Check that labels are numbered, and texts cut into tokens, as in training, and that it is this model; if not, "
        "nothing here says anything about forgetting."
    )
