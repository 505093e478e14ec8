"""Stacks: the weights of several models with a leading dimension, so that one operation does the work of all.

`torch.func.stack_module_state`, `functional_call` and `vmap` do it. With small networks on small batches most time goes
into starting operations, and a stack starts them once. What `vmap` cannot do is found by trying it beside each model
alone: an error that the models alone do not raise, or an answer that they do not give, is a reason not to stack.

Gradients are taken outside `vmap`, of a sum over models: faster than `vmap(grad)`, and no layer needs a batching rule
for its gradient. Buffers (BatchNorm's running statistics) are stacked as weights are, and changed in place.

Shapes: G models in a stack, K models scored, B examples in a batch, n records scored.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from nablatau.errors import EvidenceError, shortened
from nablatau.loading import Loader, RecordBatch
from nablatau.modes import in_mode
from nablatau.objectives import Objective
from nablatau.records import Records
from nablatau.runtime import Precision, Runtime, device_of, gather_over_processes
from nablatau.signals import signals, widened

Result = TypeVar("Result")
Ask = Callable[[nn.Module, Any], Any]
"""From a model and a batch to what one wants to know: a tensor, or tensors by name, with one entry an example."""
Scored = dict[str, npt.NDArray[np.float64]]
AGREEMENT = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-3}
"""By precision, relative and absolute, between answers in a stack and alone: above rounding, below a mix-up."""


class _Asked(nn.Module):
    """A model and what it is asked, as one module, for `functional_call`."""

    def __init__(self, model: nn.Module, ask: Ask) -> None:
        super().__init__()
        self.model, self.ask = model, ask

    def forward(self, batch: Any) -> Any:
        return self.ask(self.model, batch)


class Stack:
    """G models as one.

    Args:
        models: of one architecture, all in one mode, on one device; copied from, and untouched until `models`.
        ask: what they are asked.

    Attributes:
        parameters: with a leading dimension G.
        tensors: the same by name, and the buffers.

    Raises:
        RuntimeError: the models differ in more than their weights.
    """

    def __init__(self, models: Sequence[nn.Module], ask: Ask) -> None:
        self.asked = [_Asked(model, ask) for model in models]
        stacked, buffers = stack_module_state(self.asked)
        parameters = {name: nn.Parameter(each, each.requires_grad) for name, each in stacked.items()}
        self.parameters = list(parameters.values())
        self.tensors: dict[str, Tensor] = {**parameters, **buffers}

    def __call__(self, batch: Any, *, first: int | None = None, shared: bool = False) -> Any:
        """The answers of the models, (G, B).

        Args:
            batch: with a leading dimension G, of which each model gets its slice.
            first: ask so many of the models only, from the first on; G is then their number.
            shared: every model gets the whole batch, which has no such dimension.

        Raises:
            RuntimeError: `vmap` cannot do something in the model.
        """
        together = vmap(self._one, in_dims=(0, None if shared else 0), randomness="different")
        with sdpa_kernel(SDPBackend.MATH):  # the CPU's fused attention has no batching rule
            return together(self.tensors_of(first), batch)

    def tensors_of(self, first: int | None) -> dict[str, Tensor]:
        """The tensors of so many of the models; of all of them no views, whose gradients would be copied."""
        whole = first is None or first == len(self.asked)
        return self.tensors if whole else {name: each[:first] for name, each in self.tensors.items()}

    def one_by_one(self, own: Sequence[Any]) -> list[Any]:
        """The answers of as many models as there are batches, of any sizes, without `vmap`, from the same weights."""
        rows = zip(*(each.unbind() for each in self.tensors.values()), strict=True)
        states = (dict(zip(self.tensors, row, strict=True)) for row in rows)
        return [self._one(state, batch) for state, batch in zip(states, own, strict=False)]

    def differentiate(self, loss: Tensor, largest: float | None) -> None:
        """Put the gradients of a sum over the models into `parameters`, each model's of norm `largest` at most."""
        for each in self.parameters:
            each.grad = None
        torch.autograd.backward(loss)
        if largest is not None:
            _clip_each([each.grad for each in self.parameters if each.grad is not None], largest)

    def views(self, blocks: Sequence[slice]) -> nn.ParameterList:
        """The weights that train, in the same memory, cut into blocks of models, for an optimizer that `step` uses."""
        self._cuts = [(whole, rows) for rows in blocks for whole in self.parameters if whole.requires_grad]
        return nn.ParameterList(nn.Parameter(whole.detach()[rows]) for whole, rows in self._cuts)

    def step(self, optimizer: torch.optim.Optimizer, rate: float, first: int) -> None:
        """One step of the models of those blocks that begin among the first so many.

        Args:
            optimizer: over `views`; what has no gradient it leaves as it is, momentum and all.
            rate: learning rate.
            first: how many models.
        """
        (options,) = optimizer.param_groups
        options["lr"], options["fused"] = rate, options["params"][0].device.type in ("cpu", "cuda")
        for view, (whole, rows) in zip(options["params"], self._cuts, strict=True):
            view.grad = whole.grad[rows] if whole.grad is not None and rows.start < first else None
        optimizer.step()

    @torch.no_grad()
    def models(self) -> list[nn.Module]:
        """The models it was made of, brought to the weights and buffers that the stack has now."""
        for number, asked in enumerate(self.asked):
            for name, held in [*asked.named_parameters(), *asked.named_buffers()]:
                held.copy_(self.tensors[name][number])
        return [asked.model for asked in self.asked]

    def _one(self, tensors: dict[str, Tensor], batch: Any) -> Any:
        return functional_call(self.asked[0], tensors, (batch,))


def _clip_each(gradients: list[Tensor], largest: float) -> None:
    """Scale the gradients of each model of a stack so that their norm is at most `largest`, in place."""
    norms = [each.reshape(len(each), -1).norm(dim=1) for each in gradients]
    factors_G = (largest / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp(max=1)
    for each in gradients:
        each.mul_(factors_G.view(-1, *[1] * (each.ndim - 1)))


# ---------------------------------------------------------------------- what cannot be stacked


def why_not_stack(
    models: Sequence[nn.Module],
    ask: Ask,
    own: Sequence[tuple[Tensor, ...]],
    precision: Precision,
    kind: type[Stack] = Stack,
) -> str:
    """Why models cannot be trained as a stack, found by a step of copies of them; empty if they can.

    Args:
        models: alike but for their weights, in train mode.
        ask: gives one number an example.
        own: a batch for each model, all of one size.
        precision: decides how far answers in a stack and alone may lie apart.
        kind: of stack to try.

    Raises:
        Exception: whatever such a step of one model alone raises.
    """

    def step_of_stack() -> Tensor:
        stack = kind(copy.deepcopy(list(models)), ask)
        return _trial(stack.asked[0], stack, tuple(torch.stack(column) for column in zip(*own, strict=True)))

    copies = copy.deepcopy(list(models))
    alone = [_trial(model, partial(ask, model), batch) for model, batch in zip(copies, own, strict=True)]
    stacked, reason = _attempt(step_of_stack)
    if stacked is None or _agree(stacked, torch.stack(alone), precision):
        return reason
    return "models answer otherwise in a stack than alone: do they hold tensors that are no parameters or buffers?"


def _trial(model: nn.Module, ask: Callable[[Any], Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    """The answers in eval mode; a step in train mode has to go through as well."""
    with in_mode(model, "eval"):
        answers = ask(batch).detach()
    torch.autograd.backward(ask(batch).mean())
    return answers


def _attempt(act: Callable[[], Result]) -> tuple[Result | None, str]:
    """What `act` returns and "", or None and why `vmap` cannot do it.

    Args:
        act: uses a stack, and has been seen to work for a model alone: hence an error of it is `vmap`'s.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop", UserWarning)  # vmap loops over the models
            return act(), ""
    except (RuntimeError, UserWarning) as error:
        return None, f"vmap: {str(error).split('. ')[0]}"


def _agree(first: Tensor, second: Tensor, precision: Precision) -> bool:
    """Whether answers in a stack and alone are the same but for rounding."""
    return torch.allclose(first, second, rtol=AGREEMENT[precision], atol=AGREEMENT[precision], equal_nan=True)


def examples_are_independent(model: nn.Module, ask: Ask, batch: tuple[Tensor, ...]) -> bool:
    """Whether the answers to half a batch stay as they are, to the bit, when the other half is replaced.

    Args:
        model: a copy, since its buffers may change; in the mode that is meant.
        ask: gives one number an example.
        batch: two examples or more, else nothing can be told and the answer is no.
    """
    half, seed, answers = len(batch[0]) // 2, torch.initial_seed(), []
    for other in (slice(half, 2 * half), slice(half)) if half else ():
        torch.manual_seed(seed)  # the same dropout
        with torch.no_grad():
            answers.append(ask(model, tuple(torch.cat([column[:half], column[other]]) for column in batch))[:half])
    return bool(answers) and torch.equal(*answers)


# ---------------------------------------------------------------------- scores of many models


def score_models(
    models: Sequence[nn.Module], records: Records, objective: Objective, runtime: Runtime | None = None
) -> Scored:
    """What each of K models says of some records, in one pass over them.

    Records are read once, and a forward pass holds `runtime.evaluation_batch_size` examples over all models together.
    The first batch is asked of each model alone; the stack answers the others if it says the same of the first.

    Args:
        models: one or more of one architecture, in any mode; they are asked in eval mode and put back.
        records: n records of any data set.
        objective: what a batch, a loss and a prediction are.
        runtime: device, precision and batch size.

    Returns:
        "loss" and, where the objective has outputs, "margin": (K, n), in the order of the records.

    Raises:
        EvidenceError: a loss or margin is not finite, with the models and ids.
    """
    runtime, pool = runtime or Runtime(), nn.ModuleList(models)
    home, device = device_of(pool), runtime.device_for(pool)
    size = max(1, runtime.evaluation_batch_size // len(models))
    loader = Loader(records, objective, batch_size=size, device=device, workers=runtime.workers)
    try:
        with in_mode(pool.to(device), "eval"), torch.no_grad(), runtime.autocast(device):
            pieces = _pieces(models, loader, runtime.precision)
    finally:
        pool.to(home)
    return _joined([piece for part in gather_over_processes(pieces) for piece in part], records)


def _pieces(models: Sequence[nn.Module], loader: Loader, precision: Precision) -> list[tuple[Sequence[int], Scored]]:
    """Positions and scores, batch by batch."""
    ask, stack = partial(_signals, loader.objective), None
    pieces: list[tuple[Sequence[int], Scored]] = []
    for number, batch in enumerate(loader):
        answers = _alone(models, ask, batch) if stack is None else stack(batch, shared=True)
        if number == 0:
            stack = _agreeing_stack(models, ask, batch, answers, precision)
        if batch.weight:
            arrays = {name: answer.double().numpy(force=True) for name, answer in answers.items()}
            pieces.append((batch.positions, arrays))
    return pieces


def _signals(objective: Objective, model: nn.Module, batch: RecordBatch) -> dict[str, Tensor]:
    if not objective.has_outputs:
        return {"loss": objective.loss(model, batch.data, batch.size)}
    outputs, targets = objective.outputs(model, batch.data), objective.targets(batch.data)
    outputs = widened(objective.kind, outputs)
    margin = signals(objective.kind, outputs, targets)["margin"]
    return {"loss": objective.loss_of_outputs(outputs, targets), "margin": margin}


def _alone(models: Sequence[nn.Module], ask: Ask, batch: RecordBatch) -> dict[str, Tensor]:
    answers = [ask(model, batch) for model in models]
    return {name: torch.stack([answer[name] for answer in answers]) for name in answers[0]}


def _agreeing_stack(
    models: Sequence[nn.Module], ask: Ask, batch: RecordBatch, alone: dict[str, Tensor], precision: Precision
) -> Stack | None:
    """The models as a stack, if it can be made and says of this batch what they say alone."""

    def trial() -> tuple[Stack, dict[str, Tensor]]:
        stack = Stack(models, ask)
        return stack, stack(batch, shared=True)

    found, _ = _attempt(trial)
    if found is None or not all(_agree(found[1][name], alone[name], precision) for name in alone):
        return None
    return found[0]


def _joined(pieces: list[tuple[Sequence[int], Scored]], records: Records) -> Scored:
    """The pieces of all batches and processes in the order of the records."""
    order = np.concatenate([np.asarray(positions) for positions, _ in pieces]).argsort()
    joined = {name: np.concatenate([piece[name] for _, piece in pieces], axis=1)[:, order] for name in pieces[0][1]}
    for name, scores_Kn in joined.items():
        bad = ~np.isfinite(scores_Kn)
        if bad.any():
            ids = records.ids_at(np.flatnonzero(bad.any(axis=0)).tolist())
            raise EvidenceError(
                f"The {name} of records {shortened(ids)} is not finite for models "
                f"{shortened(np.flatnonzero(bad.any(axis=1)).tolist())}, so no attack can use it. Look at these "
                "records, or evaluate with precision='fp32'."
            )
    return joined
