"""How much each weight matters to a set of records: squared gradients of single examples, averaged (diagonal Fisher).

The mean over x of Σ_k w_k(x) · (∂ t_k(x) / ∂θ)². With one term a record, its loss, this is the empirical Fisher
diagonal; with terms over the classes it is the model's own (see fisher.py). Squares are taken of every example's
gradient by itself, so that neither order nor size of the batches matters: the square of a batch's mean gradient, which
much published code takes instead, shrinks as batches grow.

All examples of a batch go through `vmap` at once, as many as keep their gradients within `GRADIENT_BYTES`. What `vmap`
cannot do, or does otherwise than the model alone (seen by the losses of the first batch), goes one example at a time.
Computed in the model's own type, without autocast, since squares of small gradients vanish in half precision.

Methods that take no steps write their history here: a row for each batch that went forward and backward.

Shapes: B examples in a batch, K terms of an example.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from nablatau import batches
from nablatau.batches import Batch
from nablatau.errors import NonFiniteLossError
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job
from nablatau.modes import in_mode
from nablatau.records import Records
from nablatau.runtime import process_count, sum_over_processes

GRADIENT_BYTES = {"cpu": 2**25, "cuda": 2**30}
"""Memory that the single gradients of a batch may take. Beyond a CPU's cache, larger batches are slower."""
MOST_AT_ONCE = 256
AGREEMENT = 1e-3
"""Relative and absolute, between losses under `vmap` and without: above rounding, below a mix-up."""


class Terms(NamedTuple):
    """What is differentiated of each example.

    Attributes:
        values_BK: K numbers an example, with gradient.
        weights_BK: of their squared gradients.
        loss_B: for the history.
    """

    values_BK: Tensor
    weights_BK: Tensor
    loss_B: Tensor


TermsOf = Callable[[nn.Module, Batch, int], Terms]
"""From a model, a batch and the number of examples in it to their terms."""


class Notes:
    """Writes the history of a method that takes no steps: a row for each batch that went forward and backward.

    Args:
        job: whose history it is.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.start = job, time.perf_counter()

    def add(self, batch: RecordBatch, loss_B: Tensor, part: str, *, times: int = 1, **values: float) -> None:
        """Add a row; learning_rate is 0, since nothing moves yet.

        Args:
            batch: this process's piece of the batch.
            loss_B: of the examples in it.
            part: of the request.
            times: how often each example went forward and backward.
            values: further numbers, under the same names in every row.

        Raises:
            NonFiniteLossError: the loss is infinite or no number.
        """
        history, step = self.job.history, len(self.job.history)
        share = loss_B.detach().double().sum() * (batch.weight > 0)
        loss = float(sum_over_processes(share)) / batch.whole_size
        if not math.isfinite(loss):
            raise NonFiniteLossError(step, "loss", loss, {part: list(batch.records.ids_at(batch.positions))})
        seconds = time.perf_counter() - self.start
        row = {"loss": loss} | values | {"step": float(step), "learning_rate": 0.0, "seconds": seconds}
        history.append(row)
        history.trained_samples += batch.whole_size * times
        if self.job.on_step is not None:
            self.job.on_step(row)


def mean_squared_gradients(
    model: nn.Module, job: Job, records: Records, terms_of: TermsOf, notes: Notes, *, part: str
) -> dict[str, Tensor]:
    """The mean over records of the weighted squared gradients of each record's terms, in eval mode.

    Args:
        model: asked, not changed.
        job: device and history.
        records: n records.
        terms_of: what is differentiated.
        notes: get a row a batch.
        part: what the records are called in an error.

    Returns:
        By name of each trainable parameter, in float64; on every process the mean over all records.
    """
    trainable = {name: each for name, each in model.named_parameters() if each.requires_grad}
    sums = {name: torch.zeros_like(each, dtype=torch.float64) for name, each in trainable.items()}
    ask: Callable[[RecordBatch], tuple[dict[str, Tensor], Tensor]] | None = None
    with reading(model):
        terms = _terms_an_example(model, job, records, terms_of)
        loader = job.loader(records, examples_at_once(trainable.values(), terms, job.device) * process_count())
        for batch in job.runtime.track(loader, len(loader), f"importance to the {part} set"):
            ask = ask or _faster_way(_Example(model, terms_of), job, batch)
            squares, loss_B = ask(batch)
            for name, square in squares.items():
                sums[name] += square * (batch.weight > 0)
            notes.add(batch, loss_B, part, times=terms)
    means = {name: sum_over_processes(each) / len(records) for name, each in sums.items()}
    check_finite("squared gradient", means.values(), notes)
    return means


def _terms_an_example(model: nn.Module, job: Job, records: Records, terms_of: TermsOf) -> int:
    """K, found by asking of one record."""
    batch = next(iter(job.loader(records.subset([0]), 1)))
    with torch.no_grad():
        return terms_of(model, batch.data, batch.size).values_BK.shape[1]


def examples_at_once(parameters: Iterable[Tensor], terms: int, device: torch.device) -> int:
    """How many examples' gradients fit into the memory meant for them, from 1 to 256."""
    one = terms * sum(each.numel() * each.element_size() for each in parameters)
    return max(1, min(MOST_AT_ONCE, GRADIENT_BYTES.get(device.type, 2**28) // one))


@contextmanager
def reading(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and kernels of which derivatives are taken in any mode, one example or many."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())  # cuDNN refuses these in eval mode
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with in_mode(model, "eval"), cudnn, sdpa_kernel(SDPBackend.MATH):  # fused attention has no batching rule on a CPU
        yield


def check_finite(name: str, tensors: Iterable[Tensor], notes: Notes) -> None:
    """Refuse to change weights by numbers that are none.

    Raises:
        NonFiniteLossError: naming what is not finite; losses were, so it is no single record's.
    """
    for each in tensors:
        if not each.isfinite().all():
            raise NonFiniteLossError(len(notes.job.history) - 1, name, float(each.sum()), {})


# ---------------------------------------------------------------------- two ways to the same sums


class _Example(nn.Module):
    """A model and its terms as one module, for `functional_call`."""

    def __init__(self, model: nn.Module, terms_of: TermsOf) -> None:
        super().__init__()
        self.model, self.terms_of = model, terms_of

    def forward(self, batch: Batch, size: int) -> Terms:
        return self.terms_of(self.model, batch, size)

    def together(self, batch: RecordBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Σ_B of the weighted squared gradients by name, and loss_B; all examples at once."""
        moving = {name: each.detach() for name, each in self.named_parameters() if each.requires_grad}
        held = {name: each for name, each in [*self.named_parameters(), *self.named_buffers()] if name not in moving}
        tensors: list[Tensor] = []
        batches.map_tensors(batch.data, lambda each: tensors.append(each) or each)  # type: ignore[func-returns-value]

        def squares(*example: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            """Of one example, whose tensors lack the leading dimension."""

            def ask(weights: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
                rows = iter(example)
                data = batches.map_tensors(batch.data, lambda _: next(rows)[None])
                terms: Terms = functional_call(self, {**weights, **held}, (data, 1))
                return terms.values_BK[0], (terms.weights_BK[0], terms.loss_B[0])

            values_K, pull, (weights_K, loss) = vjp(ask, moving, has_aux=True)  # type: ignore[misc]
            if len(values_K) == 1:  # a third faster than by vmap over one
                (gradients,) = pull(torch.ones_like(values_K))
                return {name: weights_K[0] * each.square() for name, each in gradients.items()}, loss
            (gradients,) = vmap(pull)(torch.eye(len(values_K), dtype=values_K.dtype, device=values_K.device))
            return {name: torch.tensordot(weights_K, each.square(), 1) for name, each in gradients.items()}, loss

        found, loss_B = vmap(squares)(*tensors)
        return {name.removeprefix("model."): each.sum(dim=0) for name, each in found.items()}, loss_B

    def one_by_one(self, batch: RecordBatch, job: Job) -> tuple[dict[str, Tensor], Tensor]:
        """The same, each example read and asked by itself."""
        trainable = {name: each for name, each in self.model.named_parameters() if each.requires_grad}
        sums, losses = {name: torch.zeros_like(each) for name, each in trainable.items()}, []
        for position in batch.positions:
            data = batches.to_device(job.objective.collate([batch.records[position]]), job.device)
            terms = self(data, 1)
            for value, weight in zip(terms.values_BK[0], terms.weights_BK[0], strict=True):
                gradients = torch.autograd.grad(value, list(trainable.values()), retain_graph=True, allow_unused=True)
                for total, gradient in zip(sums.values(), gradients, strict=True):
                    if gradient is not None:
                        total += weight * gradient.square()
            losses.append(terms.loss_B.detach())
        return sums, torch.cat(losses)


def _faster_way(
    example: _Example, job: Job, batch: RecordBatch
) -> Callable[[RecordBatch], tuple[dict[str, Tensor], Tensor]]:
    """All examples at once if `vmap` can do it and finds the losses that the model alone finds; else one by one."""

    def one_by_one(batch: RecordBatch) -> tuple[dict[str, Tensor], Tensor]:
        return example.one_by_one(batch, job)

    with torch.no_grad():
        alone_B: Any = example(batch.data, batch.size).loss_B  # what the model alone raises is raised here
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop", UserWarning)  # vmap loops by itself
            together_B = example.together(batch)[1]
    except (RuntimeError, ValueError, UserWarning):  # `vmap` refuses; an error of the model comes again one by one
        return one_by_one
    agree = torch.allclose(together_B, alone_B, rtol=AGREEMENT, atol=AGREEMENT, equal_nan=True)
    return example.together if agree else one_by_one
