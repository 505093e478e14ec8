"""What methods share: passes over a part of the request, steps with any optimizer, a frozen teacher.

None of it belongs to one paper. A method's own file says which losses its steps have.

Shapes: N records, B examples in a batch, C classes.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nablatau.batches import Batch
from nablatau.history import Step
from nablatau.loading import Loader, RecordBatch
from nablatau.methods.base import Job
from nablatau.modes import Mode, in_mode
from nablatau.records import Records
from nablatau.runtime import sum_over_processes
from nablatau.training import StepLoss, batch_mean, linear_decay, run_steps, trainable_parameters


def take_steps(
    model: nn.Module,
    job: Job,
    steps: Iterator[Step],
    step_loss: StepLoss,
    optimizer: torch.optim.Optimizer,
    *,
    total: int,
    mode: Mode,
    description: str,
    still: Sequence[nn.Module] = (),
    additive: bool = False,
) -> nn.Module:
    """Take the steps and return the model.

    Args:
        model: changed in place.
        job: device, precision and history.
        steps: each with its learning rate.
        step_loss: from model and step to its numbers, "loss" among them.
        optimizer: over the parameters that move.
        total: number of steps.
        mode: of the model during the steps.
        description: what the progress bar says.
        still: modules that stay in eval mode.
        additive: as in `run_steps`.
    """
    run_steps(
        model,
        steps,
        step_loss,
        optimizer,
        runtime=job.runtime,
        device=job.device,
        mode=mode,
        history=job.history,
        total=total,
        description=description,
        on_step=job.on_step,
        still=still,
        additive=additive,
    )
    return model


def sgd(model: nn.Module, *, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """SGD over the trainable parameters; each step sets its learning rate."""
    return torch.optim.SGD(trainable_parameters(model), lr=1.0, momentum=momentum, weight_decay=weight_decay)


def passes(
    part: str, loader: Loader, epochs: int, learning_rate: float, *, final_learning_rate: float | None = None
) -> Iterator[Step]:
    """`epochs` passes over a loader, a step a batch.

    Args:
        part: what the batches are called in a step, such as "retain".
        loader: over the records of that part.
        epochs: number of passes.
        learning_rate: in the first pass.
        final_learning_rate: towards which it falls linearly, once a pass; constant if None.
    """
    last = learning_rate if final_learning_rate is None else final_learning_rate
    for epoch in range(epochs):
        rate = linear_decay(learning_rate, last, epoch, epochs)
        for batch in loader:
            yield Step({part: batch}, rate, {"epoch": float(epoch)})


def beside(steps: Iterator[Step], part: str, loader: Loader) -> Iterator[Step]:
    """The steps, each with a batch of another part beside its own; these go round, each round in a fresh order.

    Args:
        steps: each with a batch of a first part.
        part: what the other batches are called, such as "forget".
        loader: over the records of that part.
    """
    for step, batch in zip(steps, loader.forever(), strict=False):
        step.batches[part] = batch
        yield step


def repair(
    model: nn.Module,
    job: Job,
    *,
    rates: Sequence[float],
    momentum: float,
    weight_decay: float,
    batch_size: int,
    mode: Mode,
) -> nn.Module:
    """Descend the mean retain loss with SGD and return the model.

    Args:
        model: changed in place.
        job: with the retain set.
        rates: the learning rate of each pass over it.
        momentum, weight_decay: of SGD.
        batch_size: examples in a batch.
        mode: of the model during the steps.
    """
    loader = job.loader(job.request.retain_set, batch_size, "retain batches", mode=mode)

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        loss = batch_mean(job.objective, model, step.batches["retain"])
        return {"loss": loss, "retain_loss": loss}

    def steps() -> Iterator[Step]:
        for epoch, rate in enumerate(rates):
            for batch in loader:
                yield Step({"retain": batch}, rate, {"epoch": float(epoch)})

    optimizer = sgd(model, momentum=momentum, weight_decay=weight_decay)
    total = len(rates) * len(loader)
    return take_steps(
        model, job, steps(), step_loss, optimizer, total=total, mode=mode, description="repairing", additive=True
    )


def frozen_copy(model: nn.Module) -> nn.Module:
    """A teacher: a copy in eval mode of which no parameter can move.

    Parameters that are frozen in the model are shared with it: no step moves them, and of a model with an adapter they
    are nearly all. It is a copy of the adapter, then, whatever that has learned, and not of the model below it.

    Args:
        model: of which only parameters that require a gradient will be changed while the teacher is asked.
    """
    shared: dict[int, Any] = {id(each): each for each in model.parameters() if not each.requires_grad}
    return copy.deepcopy(model, shared).eval().requires_grad_(False)


def movable_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what steps can change of a model's state: parameters that require a gradient, and buffers.

    Args:
        model: gets it back by `load_state_dict(…, strict=False)`.
    """
    frozen = {name for name, each in model.named_parameters(remove_duplicate=False) if not each.requires_grad}
    return copy.deepcopy({name: value for name, value in model.state_dict().items() if name not in frozen})


def teacher_outputs(teacher: nn.Module, job: Job, batch: RecordBatch) -> Tensor:
    """What a frozen model says of a batch, without gradient: logits_BC."""
    with torch.no_grad():
        return job.objective.outputs(teacher, batch.data)


# ---------------------------------------------------------------------- the original as it was


@dataclass(frozen=True)
class Reference:
    """The original as it was before any step: a frozen copy, or the model itself with its adapter switched off.

    Attributes:
        model: to be asked.
        adapter_off: a context in which it answers as the original did.
    """

    model: nn.Module
    adapter_off: Callable[[], AbstractContextManager[None]]

    @contextmanager
    def asked(self) -> Iterator[nn.Module]:
        """The model as it was, in eval mode and without gradient."""
        with self.adapter_off(), in_mode(self.model, "eval"), torch.no_grad():
            yield self.model


def reference_of(model: nn.Module, job: Job) -> Reference:
    """What answers as the model does now, whatever becomes of it: its own base where that will do, else a copy of what
    can move in it (`frozen_copy`).

    It will do where the model has a context manager `disable_adapter`, as PEFT's models have, where some weights (the
    base's) are frozen, and where the adapter adds nothing yet, so that a forget record's outputs are the same, bit for
    bit, with and without it. An adapter that holds what the original learned is such that its base is not the original.

    Args:
        model: about to be changed in place.
        job: with the request.
    """
    off = getattr(model, "disable_adapter", None)
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    if off is not None and frozen and _adds_nothing(model, job, off):
        return Reference(model, off)
    return Reference(frozen_copy(model), nullcontext)


def _adds_nothing(model: nn.Module, job: Job, off: Callable[[], AbstractContextManager[None]]) -> bool:
    batch = next(iter(job.loader(job.request.forget_set.subset([0]), 1)))
    objective = job.objective

    def ask() -> Tensor:
        if objective.has_outputs:
            return objective.outputs(model, batch.data)
        return objective.loss(model, batch.data, batch.size)

    with in_mode(model, "eval"), torch.no_grad(), job.runtime.autocast(job.device):
        with_it = ask()
        with off():
            return torch.equal(with_it, ask())


def summed_losses(
    model: nn.Module, job: Job, records: Records, batch_size: int, of: Callable[[Batch], Batch] = lambda batch: batch
) -> Tensor:
    """−log of the probability that a model gives each record, in eval mode: of tokens the sum over them, losses_N.

    Asked once before any step, it makes a second model in memory needless.

    Args:
        model: its mode is put back.
        job: with the objective.
        records: N records.
        batch_size: examples in a batch.
        of: from a batch to the one that is asked about.
    """
    loader, total = job.loader(records, batch_size), torch.zeros(len(records), device=job.device)
    with in_mode(model, "eval"), torch.no_grad(), job.runtime.autocast(job.device):
        for batch in loader:
            data = of(batch.data)
            sums_B = job.objective.summed(job.objective.loss(model, data, batch.size), data)
            if batch.weight:
                total = total.to(torch.promote_types(total.dtype, sums_B.dtype))
                total[batch.rows.to(job.device)] = sums_B.to(total.dtype)
    job.history.scored_samples += len(records)
    return sum_over_processes(total)
