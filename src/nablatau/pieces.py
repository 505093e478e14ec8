"""Pieces of a batch that go forward and backward one after another, so that memory holds the activations of one alone.

The gradient is that of the whole batch. Pieces are to a process what processes are to a run (training.py): a piece's
share of a mean carries the gradient, the value is that of the whole, and gradients are averaged. The value must be
known before the first piece goes backward where a loss is no sum of such means: the hinge of a mean is not the mean of
hinges. `Means` notes them in a first pass over all pieces, without gradient, and hands them out in a second.

Shapes: B examples in a batch.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from nablatau.batches import rows_of
from nablatau.errors import SettingsError
from nablatau.loading import RecordBatch
from nablatau.runtime import process_count, sum_over_processes


class Means:
    """The means over whole batches that a step's loss is made of: noted piece by piece, then known.

    A loss takes its means in the same order for every piece: the second mean of one piece and the second of another are
    shares of one number.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._next, self._known = 0, False

    def begin_piece(self) -> None:
        """The next mean asked for is the first of a piece."""
        self._next = 0

    def close(self, pieces: int) -> None:
        """Take what was noted as the shares of all pieces, and of this process alone."""
        if self._sums:
            summed = sum_over_processes(torch.stack([each.double() for each in self._sums]))
            self._sums = list(summed / (pieces * process_count()))
        self._known = True

    def mean(self, share: Tensor) -> Tensor:
        """A scalar with the gradient of this piece's share, once the means are known with the value of the whole.

        Args:
            share: the sum over the piece, times the weight of its batch; a scalar.
        """
        place, self._next = self._next, self._next + 1
        if self._known:
            return share + (self._sums[place].to(share.dtype) - share.detach())
        if place == len(self._sums):
            self._sums.append(share.detach())
        else:
            self._sums[place] = self._sums[place] + share.detach()
        return share


def piece_count(batches: Iterable[RecordBatch], most: int | None) -> int:
    """Into how many pieces the batches of a step are cut; the same in every process.

    Args:
        batches: of one step, whose activations are in memory together.
        most: examples of all of them in one piece; None for any number.
    """
    if most is None:
        return 1
    sizes = [-(-batch.whole_size // process_count()) for batch in batches]
    count = 1
    while sum(-(-size // count) for size in sizes) > most and count < max(sizes):
        count += 1
    return count


def cut(batch: RecordBatch, count: int, means: Means | None) -> list[RecordBatch]:
    """The batch in pieces; where it has fewer examples than that, an example of weight 0 stands in.

    Args:
        batch: of B examples.
        count: number of pieces.
        means: of the step, where the loss is no sum of means.

    Raises:
        ObjectiveError: the collated examples cannot be cut.
    """
    ends = [batch.size * place // count for place in range(count + 1)]
    return [_piece(batch, start, end, count, means) for start, end in pairwise(ends)]


def _piece(batch: RecordBatch, start: int, end: int, count: int, means: Means | None) -> RecordBatch:
    weight = batch.weight * count if end > start else 0.0
    start = min(start, batch.size - 1)
    places = slice(start, max(end, start + 1))
    return replace(
        batch,
        data=rows_of(batch.data, batch.size, places),
        rows=batch.rows[places],
        size=places.stop - places.start,
        weight=weight,
        means=means,
        is_piece=True,
    )


def refuse_batch_norm(model: nn.Module, mode: str, still: Iterable[nn.Module], setting: str, why: str) -> None:
    """Refuse a setting under which BatchNorm in train mode would compute something else than without it.

    Args:
        model: to be trained.
        mode: of the model during the steps.
        still: modules that stay in eval mode.
        setting: the setting, as it is written.
        why: what BatchNorm would do.

    Raises:
        SettingsError: the model has such a layer that trains.
    """
    held = {id(module) for module in still}
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    if mode == "train" and any(id(module) not in held for module in norms):
        raise SettingsError(
            f"{setting} and BatchNorm in train mode do not go together: {why}, and the result would be another. Leave "
            "the setting out, or use a method with mode='eval', which takes the running statistics."
        )
