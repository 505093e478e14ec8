"""Descent that leaves the old minimum: rates in turns of the weights, whose length is kept, and heat that is held.

None of it asks for the recipe of the original model, so none of it is a setting that a user would have to know:

- **Turns.** What a step changes is measured against what is there: a rate of 0.08 moves each tensor by about 8 % of its
  own root mean square. The same number then means the same for every width, initialisation and layer. It is the
  quantity in which networks with normalisation layers train anyway: only the direction of their weights matters (van
  Laarhoven 2017, arXiv 1706.05350), and SGD at the rate η with weight decay λ turns them by about √(2ηλ) a step in
  equilibrium (Wan et al. 2021, arXiv 2006.08419): 0.01 for the common 0.1 and 5e-4.
- **Length kept.** After each step every matrix or kernel is scaled back to the length (Frobenius norm) that it had in
  the original. The length is what weight decay and duration of the unknown recipe left; without it, a short hot
  descent ends with longer weights and larger margins than any retrained model has.
- **Heat held.** The rate rises as scheduled as long as the running retain loss stays below a level between what the
  model had on retained records and what it has on unseen ones. At that level the model remembers single records hardly
  better than unseen ones; above it only what is worth keeping would be lost.

Shapes: none; all of it works on lists of parameters.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from nablatau.sharding import lengths, own_share
from nablatau.training import trainable_parameters

COOLING, WARMING = 0.92, 1.02
"""Factors on the heat, a step, above the level and below it: it falls four times as fast as it recovers."""
SMOOTHING = 0.2
"""Weight of the newest batch in the running loss."""
LEAST_SCALE = 1e-3
"""Root mean square from which a tensor's turns are measured, if it has less: one of zeros could not move at all."""


def root_mean_square(tensor: torch.Tensor) -> float:
    """√mean θ² of a tensor, sharded or not, at least `LEAST_SCALE`."""
    (length,) = lengths([tensor.detach().double()])
    return max(LEAST_SCALE, float(length) / math.sqrt(tensor.numel()))


def turning_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups whose "scale" makes a rate a share of each tensor's own size.

    Matrices and kernels are scaled by their root mean square. Biases and the weights of normalisation layers have no
    length of their own to be measured by (biases begin at zero): they take the median of the others' scales. Scales
    are rounded to quarters of an octave, so that tensors of like size share a group.

    Args:
        parameters: that will be trained.
    """
    tensors = list(parameters)
    scales = {id(each): root_mean_square(each) for each in tensors if each.ndim >= 2}
    common = sorted(scales.values())[len(scales) // 2] if scales else None
    groups: dict[float, dict[str, Any]] = {}
    for each in tensors:
        scale = scales.get(id(each)) or common or root_mean_square(each)
        rounded = 2 ** (round(4 * math.log2(scale)) / 4)
        groups.setdefault(rounded, {"params": [], "scale": rounded})["params"].append(each)
    return list(groups.values())


def turning_optimizer(model: nn.Module, *, keep_lengths: bool) -> torch.optim.Optimizer:
    """AdamW without weight decay whose rates are turns, and after whose steps weights have their old length.

    Args:
        model: its trainable parameters are trained.
        keep_lengths: scale each tensor of two dimensions or more back to its length after every step.
    """
    parameters = trainable_parameters(model)
    optimizer = torch.optim.AdamW(turning_groups(parameters), weight_decay=0.0)
    if keep_lengths:
        optimizer.register_step_post_hook(length_keeper(parameters))
    return optimizer


def length_keeper(parameters: Iterable[nn.Parameter]) -> Callable[..., None]:
    """A hook that scales tensors of two dimensions or more back to the length that they have now.

    Args:
        parameters: that are watched; a tensor of zeros is left alone.
    """
    watched = [each for each in parameters if each.ndim >= 2]
    pairs = zip(watched, lengths(watched), strict=True)
    kept = [(each, length) for each, length in pairs if float(length) > 0]
    watched = [each for each, _ in kept]

    def keep(*_: object) -> None:
        with torch.no_grad():
            for (each, length), now in zip(kept, lengths(watched), strict=True):
                own_share(each).mul_(length / now)

    return keep


class Heat:
    """How much of the scheduled rate is taken, 0 … 1, so that the running retain loss stays below a level.

    Args:
        level: the loss, in its own unit.
    """

    def __init__(self, level: float) -> None:
        self.level, self.share, self.running = level, 1.0, math.nan

    def see(self, loss: float) -> None:
        """Take note of a step's retain loss."""
        self.running = loss if math.isnan(self.running) else self.running + SMOOTHING * (loss - self.running)
        self.share = self.share * COOLING if self.running > self.level else min(1.0, self.share * WARMING)


def share_of_peak(done: float, rise: float) -> float:
    """The share of the peak rate after a share of the steps: up to 1 in a line, then down to 0.

    Args:
        done: share of the steps, 0 … 1.
        rise: share of the steps in which the rate rises.
    """
    return done / rise if done < rise else (1 - done) / (1 - rise)
