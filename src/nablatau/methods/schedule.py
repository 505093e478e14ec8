"""The published schedule of ∇τ, which its fine-tuning baseline shares: epochs, steps, learning rate, batches.

Source: Trippa et al., arXiv 2403.14339, and the authors' image notebook. A forget epoch is one pass over the
forget batches; beside each goes a retain batch. Their number is such that forget and retain batches together
make about `budget` passes over the retain set.

Where we differ: the published code divides by zero when more is forgotten than kept (R < F); here every
forget epoch then starts a fresh retain pass, and another when it runs out. There is always one epoch at least.
"""

from collections.abc import Iterator

import torch
from torch import nn

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.loading import Loader, RecordBatch
from nablatau.methods.base import Job
from nablatau.methods.steps import take_steps
from nablatau.modes import Mode
from nablatau.training import StepLoss, trainable_parameters


def forget_epochs(retain_batches: int, forget_batches: int, budget: float) -> int:
    """E = int(R / (2F) · B), at least 1: the number of passes over the forget set.

    Args:
        retain_batches: R, batches in a pass over the retain set.
        forget_batches: F, batches in a pass over the forget set.
        budget: B, in passes over the retain set, forget batches counted in.
    """
    return max(1, int(retain_batches / (2 * forget_batches) * budget))


def retain_pass_period(retain_batches: int, forget_batches: int) -> int:
    """R // F, at least 1: forget epochs after which a fresh pass over the retain set starts."""
    return max(1, retain_batches // forget_batches)


def retain_batches(loader: Loader, forget_batches_a_pass: int, epochs: int) -> Iterator[Iterator[RecordBatch]]:
    """For each forget epoch the stream of retain batches that go beside its forget batches.

    Args:
        loader: over the retain set.
        forget_batches_a_pass: F.
        epochs: number of forget epochs.
    """
    period = retain_pass_period(len(loader), forget_batches_a_pass)
    stream = loader.forever()
    for epoch in range(epochs):
        if epoch % period == 0:
            stream = loader.forever()
        yield stream


def planned_steps(job: Job, batch_size: int, budget: float, mode: Mode) -> tuple[int, int]:
    """Forget epochs and forget batches in each, for a request.

    Args:
        job: with the request.
        batch_size: examples in a batch of either kind.
        budget: B, as in `forget_epochs`.
        mode: of the model during the steps.
    """
    forget = len(job.loader(job.request.forget_set, batch_size, mode=mode))
    retain = len(job.loader(job.request.retain_set, batch_size, mode=mode))
    return forget_epochs(retain, forget, budget), forget


def descend(
    model: nn.Module,
    job: Job,
    steps: Iterator[Step],
    step_loss: StepLoss,
    *,
    total: int,
    weight_decay: float,
    mode: Mode,
    description: str,
    additive: bool = False,
) -> nn.Module:
    """Take the steps with the published optimizer, AdamW, and return the model.

    Args:
        model: changed in place.
        job: device, precision and history.
        steps: each with its learning rate.
        step_loss: from model and step to its numbers.
        total: number of steps.
        weight_decay: of AdamW; its other settings are torch's defaults, as published.
        mode: of the model during the steps.
        description: what the progress bar says.
        additive: as in `run_steps`.
    """
    optimizer = torch.optim.AdamW(trainable_parameters(model), weight_decay=weight_decay)
    return take_steps(
        model, job, steps, step_loss, optimizer, total=total, mode=mode, description=description, additive=additive
    )


def check_batch_norm(model: nn.Module, forget_size: int, mode: Mode) -> None:
    """Refuse to train BatchNorm on a single forget record: one record has no spread to normalise by.

    Raises:
        SettingsError: saying which mode to use instead.
    """
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if batch_norm and forget_size == 1 and mode == "train":
        raise SettingsError(
            "One record is to be forgotten, and in train mode BatchNorm normalises each batch by itself, which one "
            "record does not allow. Use mode='eval', which takes the running statistics."
        )
