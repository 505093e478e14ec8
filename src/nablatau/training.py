"""The one training loop: it trains, retrains and runs every method that takes gradient steps.

A method is a stream of `Step`s (which batches, which learning rate, which numbers to record) and a function
from a step to its loss. The loop does the rest: device, precision, clipping, processes, progress, history,
and an error that names step and records when the loss is no number.

Policy for layers that behave differently in training: a caller says "train" or "eval" for the whole
model. In "eval" BatchNorm normalises by its running statistics and leaves them alone, and dropout is off; its
weights train all the same. Single modules keep no mode of their own during a run, and get theirs back after.

Under several processes BatchNorm in "train" mode sees one process's piece of the batch only.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nablatau.blocks import blocks_to_recompute, recomputed
from nablatau.errors import SettingsError
from nablatau.history import History, Recorder, Step
from nablatau.loading import Loader, RecordBatch
from nablatau.modes import Mode, in_mode
from nablatau.objectives import Objective
from nablatau.pieces import Means, cut, piece_count, refuse_batch_norm
from nablatau.runtime import Runtime, gather_over_processes, is_distributed, process_count, sum_over_processes
from nablatau.sharding import is_sharded


def batch_mean(objective: Objective, model: nn.Module, batch: RecordBatch) -> Tensor:
    """The mean loss over the whole batch, with a gradient that is right once processes average theirs.

    With one process and one piece this is the mean. With several the value is the mean over all of them, and the
    gradient is that of this piece's share, times their number: any function of such means then has the gradient it
    would have of the whole, which a mean of each piece's own function value has not.

    Args:
        objective: what a loss is.
        model: to ask, in the mode in which it is.
        batch: this process's piece.
    """
    if not (is_distributed() or batch.is_piece):
        return objective.mean_loss(model, batch.data, batch.size)
    return whole_mean(objective.loss(model, batch.data, batch.size), batch)


def mean_of_outputs(objective: Objective, outputs: Tensor, targets: Tensor, batch: RecordBatch) -> Tensor:
    """What `batch_mean` gives, for outputs that are there and any targets; for every kind of objective but "loss".

    Args:
        objective: what a loss is.
        outputs, targets: of this process's piece.
        batch: this process's piece.
    """
    if not (is_distributed() or batch.is_piece):
        return objective.mean_of_outputs(outputs, targets)
    return whole_mean(objective.loss_of_outputs(outputs, targets), batch)


def whole_mean(values_B: Tensor, batch: RecordBatch) -> Tensor:
    """The mean of one value an example over the whole batch, with the gradient that `batch_mean` gives its loss.

    Args:
        values_B: of the examples in this process's piece.
        batch: this process's piece.
    """
    if not (is_distributed() or batch.is_piece):
        return values_B.mean()
    share = values_B.sum() * batch.weight
    if batch.means is not None:
        return batch.means.mean(share)
    value = sum_over_processes(share.detach()) / process_count()
    return share + (value - share.detach())


def mean_loss(model: nn.Module, loader: Loader, runtime: Runtime) -> float:
    """The mean loss over a loader's records in eval mode, without gradient.

    Args:
        model: on the loader's device; its mode is put back.
        loader: over the records, all processes together.
        runtime: for the precision.
    """
    total = torch.zeros((), dtype=torch.float64, device=loader.device)
    with in_mode(model, "eval"), torch.no_grad(), runtime.autocast(loader.device):
        for batch in loader:
            losses = loader.objective.loss(model, batch.data, batch.size)  # also of a stand-in: others wait for it
            if batch.weight:
                total += losses.double().sum()
    return float(sum_over_processes(total)) / len(loader.records)


def values_of(
    model: nn.Module, loader: Loader, runtime: Runtime, value: Callable[[nn.Module, RecordBatch], Tensor]
) -> Tensor:
    """A number for each of a loader's records, such as its loss, in eval mode and without gradient.

    Args:
        model: on the loader's device; its mode is put back.
        loader: over N records, all processes together.
        runtime: for the precision.
        value: from the model and a batch to value_B.

    Returns:
        value_N, float64 on the CPU, in the order of the records, in every process.
    """
    pieces = []
    with in_mode(model, "eval"), torch.no_grad(), runtime.autocast(loader.device):
        for batch in loader:
            value_B = (
                value(model, batch).double().cpu()
            )  # also of a stand-in: others wait for it where weights are spread
            if batch.weight:
                pieces.append((batch.rows, value_B))
    value_N = torch.empty(len(loader.records), dtype=torch.float64)
    for rows, value_B in (piece for process in gather_over_processes(pieces) for piece in process):
        value_N[rows] = value_B
    return value_N


StepLoss = Callable[[nn.Module, Step], dict[str, Tensor]]
"""From model and step to its numbers; "loss" is the one to descend, all are recorded.

It is asked several times a step where batches go in pieces: it counts nothing, and draws from global generators alone.
"""


class _StepModule(nn.Module):
    """A model and a loss function as one module, so that a distributed wrapper sees one forward a step."""

    def __init__(self, model: nn.Module, loss: StepLoss) -> None:
        super().__init__()
        self.model, self.step_loss = model, loss

    def forward(self, step: Step) -> dict[str, Tensor]:
        return self.step_loss(self.model, step)


# ---------------------------------------------------------------------- the loop


def run_steps(
    model: nn.Module,
    steps: Iterable[Step],
    step_loss: StepLoss,
    optimizer: torch.optim.Optimizer,
    *,
    runtime: Runtime,
    device: torch.device,
    mode: Mode,
    history: History,
    total: int,
    description: str = "training",
    on_step: Callable[[dict[str, float]], None] | None = None,
    still: Sequence[nn.Module] = (),
    additive: bool = False,
) -> None:
    """Take the steps: loss, gradient, update; the model is changed in place.

    Args:
        model: on `device`.
        steps: read one at a time, each after the update of the one before, so they may look at the model.
        step_loss: from model and step to its numbers, among them "loss".
        optimizer: over the model's trainable parameters; its learning rate is set from each step, times the
            "scale" of a group that has one.
        runtime, device: how and where.
        mode: of the whole model during the steps.
        history: gets one row a step.
        total: number of steps, for the progress bar.
        description: what the progress bar says.
        on_step: called with each row of the history.
        still: modules that stay in eval mode.
        additive: every number of `step_loss` is a sum of `whole_mean`s times constants, and of terms in which no batch
            takes part. Batches in pieces then go forward once, otherwise twice.

    Raises:
        SettingsError: the runtime asks for what this model does not allow.
        NonFiniteLossError: a loss is infinite or no number; at most 32 steps after it arose, and the model
            is then not to be used.
    """
    check_settings(model, runtime, mode, still, sharded=is_sharded(model))
    scaler = torch.amp.GradScaler(device.type, enabled=runtime.precision == "fp16")
    recorder = Recorder(history, on_step, device)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradient = _Gradient(model, step_loss, scaler, runtime, device, additive=additive)
    again = recomputed(model) if runtime.recompute_activations else nullcontext()
    with in_mode(model, mode, still), _recurrent_layers_that_train(model, mode, device), again:
        for step in runtime.track(steps, total, description):
            for group in optimizer.param_groups:
                group["lr"] = step.learning_rate * group.get("scale", 1.0)
            optimizer.zero_grad()
            numbers = gradient.of(step)
            if runtime.clip_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, runtime.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            recorder.add(step, numbers)
        recorder.flush()


class _Gradient:
    """Forward and backward of a step: of its batches as wholes, or in pieces one after another."""

    def __init__(
        self,
        model: nn.Module,
        step_loss: StepLoss,
        scaler: torch.amp.GradScaler,
        runtime: Runtime,
        device: torch.device,
        *,
        additive: bool,
    ) -> None:
        self.numbers_alone: Callable[[Step], dict[str, Tensor]] = partial(step_loss, model)
        self.numbers_of: Callable[[Step], dict[str, Tensor]] = self.numbers_alone
        self.distributed: DistributedDataParallel | None = None
        if is_distributed() and not is_sharded(model):  # a sharded model averages its gradients itself
            module = _StepModule(model, step_loss)
            on_gpu = [device] if device.type == "cuda" else None
            self.numbers_of = self.distributed = DistributedDataParallel(module, device_ids=on_gpu)
        self.scaler, self.runtime, self.device, self.additive = scaler, runtime, device, additive

    def of(self, step: Step) -> dict[str, Tensor]:
        """The step's numbers; the gradient of its loss is added to the parameters'."""
        count = piece_count(step.batches.values(), self.runtime.micro_batch_size)
        if count == 1:
            return self._descend(step, 1)
        means = None if self.additive else Means()
        cuts = {part: cut(batch, count, means) for part, batch in step.batches.items()}
        pieces = [replace(step, batches={part: cut[place] for part, cut in cuts.items()}) for place in range(count)]
        if means is not None:
            self._look_ahead(pieces, means)
        found = []
        for place, piece in enumerate(pieces):
            if means is not None:
                means.begin_piece()
            with nullcontext() if self.distributed is None or place == count - 1 else self.distributed.no_sync():
                found.append(self._descend(piece, count))
        if means is not None:
            return found[-1]  # the same for every piece: all of them know the means
        return {name: torch.stack([numbers[name].detach() for numbers in found]).mean() for name in found[0]}

    def _look_ahead(self, pieces: Sequence[Step], means: Means) -> None:
        """Note the means; the generators stand afterwards as before, so that dropout drops the same again."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), self.runtime.autocast(self.device):
            for piece in pieces:
                means.begin_piece()
                self.numbers_alone(piece)
        means.close(len(pieces))

    def _descend(self, step: Step, pieces: int) -> dict[str, Tensor]:
        with self.runtime.autocast(self.device):
            numbers = self.numbers_of(step)
        loss = numbers["loss"] if pieces == 1 else numbers["loss"] / pieces
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return numbers


def check_settings(
    model: nn.Module, runtime: Runtime, mode: Mode, still: Sequence[nn.Module] = (), *, sharded: bool
) -> None:
    """Refuse before the first step what would compute something else than was asked for.

    Args:
        model: to be trained, or another of its architecture.
        runtime: how.
        mode: of the whole model during the steps.
        still: modules that stay in eval mode.
        sharded: whether it is then in shares.

    Raises:
        SettingsError: a setting that does not go with BatchNorm in train mode, or blocks are needed and there are none.
    """
    if runtime.micro_batch_size is not None:
        refuse_batch_norm(model, mode, still, "micro_batch_size", "it would normalise each piece of a batch by itself")
    if runtime.recompute_activations:
        blocks = nn.ModuleList(blocks_to_recompute(model))
        refuse_batch_norm(blocks, mode, still, "recompute_activations", "it would count each batch twice")
    if sharded:
        refuse_batch_norm(model, mode, still, "sharded", "its statistics would be others in each process")


def _recurrent_layers_that_train(model: nn.Module, mode: Mode, device: torch.device) -> AbstractContextManager[None]:
    """cuDNN refuses gradients of recurrent layers in eval mode; torch's own kernels give them."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    if recurrent and mode == "eval" and device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient.

    Raises:
        SettingsError: none does, so that no step could change anything.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise SettingsError(
            "No parameter of the model requires a gradient, so nothing could be learned or forgotten. Call "
            "model.requires_grad_(True), or thaw the layers that may change."
        )
    return parameters


def linear_decay(first: float, last: float, position: int, length: int) -> float:
    """The value at `position` (0 … length) on the line from `first` at 0 to `last` at `length`, then `last`."""
    return first + (last - first) * min(1.0, position / max(1, length))
