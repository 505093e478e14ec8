"""RMU: on forget records a layer's activations are steered to a random direction, on retain records they are held.

Source: Li et al., "The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning", ICML 2024, arXiv
2403.03218, section on RMU. With h the activations of layer ℓ at a token, h⁰ the original's, and u a random unit vector,

    L = mean over forget tokens of ‖h − c · u‖²  +  α · mean over retain tokens of ‖h − h⁰‖²

the mean over records of the mean over each one's tokens. Layers ℓ − 2, ℓ − 1 and ℓ move, all others stay. u is drawn
once, each entry evenly from 0 … 1, and divided by its length.

`layer` None: the models of the paper are chains of 32 equal blocks, of which ℓ = 7 counted from 0. Here the longest
`ModuleList` or `Sequential` that lies in no other (of equals the first) is taken for the chain, and of its n parts
number int(7 n / 32). A name, as `named_modules` gives it, says otherwise: for Hugging Face's Llama "model.layers.7".

Where we differ from the authors' code, and why:
- of layers ℓ − 2 to ℓ it moves one matrix each (the last of the feed-forward part), named by its number for one
  architecture; the paper says layers, and any architecture has these;
- its errors are means over entries of h, the paper's squared lengths; AdamW's steps do not depend on the factor;
- all tokens of a text count there, filling too; here those that a label follows, so that what is steered is what the
  loss counts. In a task without tokens, or at a layer without positions, h is all of an example's activations;
- h is detached behind layer ℓ: no graph is kept of what follows, which the loss does not see;
- it runs over two forget corpora in turn, with a c and α for each; a request is one.

c is in units of activations: 6.5 is the authors' for Zephyr-7B; other models need others, up to 300 in published
settings.

Shapes: B examples in a batch, T positions, H numbers in an activation.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau import tokens
from nablatau.batches import Batch
from nablatau.data import Request
from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.layers import only_these_move
from nablatau.methods.schedule import check_batch_norm
from nablatau.methods.steps import beside, reference_of, take_steps
from nablatau.objectives import Objective
from nablatau.recipes import Recipe, check_counts, check_mode, check_positive
from nablatau.runtime import random_generator
from nablatau.training import trainable_parameters, whole_mean

DEPTH = 7 / 32
"""Where in a chain of blocks the steered one lies, of the chain's length."""
MOVING = 3
"""Blocks that move, the steered one the last of them."""


@dataclass(frozen=True, kw_only=True)
class Rmu(Method):
    """Representation misdirection: activations steered on the forget set, held on the retain set.

    All values are those of the authors' command for Zephyr-7B.

    Attributes:
        layer: name of the module whose output is steered; None for one at 7/32 of the longest chain of modules.
        coefficient: c, length of the vector to which activations are steered.
        retain_weight: α.
        steps: batches of forget records, each with one of retain records; both go round.
        learning_rate: of AdamW, constant.
        weight_decay: of AdamW; torch's default, as the code leaves it.
        batch_size: examples in a batch of either kind.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    name: ClassVar[str] = "rmu"
    source: ClassVar[str] = "Li et al. 2024, arXiv 2403.03218"
    tunable: ClassVar[dict[str, Tunable]] = {
        "coefficient": Tunable(low=1.0, high=300.0),
        "retain_weight": Tunable(low=1.0, high=2000.0),
        "learning_rate": Tunable(low=1e-6, high=1e-2),
    }

    layer: str | None = None
    coefficient: float = 6.5
    retain_weight: float = 1200.0
    steps: int = 150
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    batch_size: int = 4
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(steps=self.steps, batch_size=self.batch_size)
        check_positive(coefficient=self.coefficient, learning_rate=self.learning_rate)
        for name in ("retain_weight", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must be 0 or more, not {getattr(self, name)!r}.")
        check_mode(self.mode)

    def _check(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> None:
        super()._check(model, request, objective, recipe)
        name, moving = steered(model, self.layer)
        if not any(parameter.requires_grad for module in moving for parameter in module.parameters()):
            raise SettingsError(
                f"{self.name} steers the output of {name!r} by the weights of it and the two modules before, of which "
                "none requires a gradient. Name another module, Rmu(layer=…), or thaw these."
            )

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        request, mode = job.request, self.mode
        check_batch_norm(model, len(request.forget_set), mode)
        name, moving = steered(model, self.layer)
        reference = reference_of(model, job)
        forget = job.loader(request.forget_set, self.batch_size, "forget batches", mode=mode)
        retain = job.loader(request.retain_set, self.batch_size, "retain batches", mode=mode)
        with reference.asked() as original, job.runtime.autocast(job.device):
            some = next(iter(job.loader(request.forget_set.subset([0]), 1)))
            direction_H = direction(activations(original, name, job.objective, some), job.seed)

        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            steer, hold = step.batches["forget"], step.batches["retain"]
            with reference.asked() as original:
                held = activations(original, name, job.objective, hold)
            moved = activations(model, name, job.objective, steer)
            forget_term = whole_mean(apart(job.objective, steer.data, moved, self.coefficient * direction_H), steer)
            kept = activations(model, name, job.objective, hold)
            retain_term = whole_mean(apart(job.objective, hold.data, kept, held), hold)
            loss = forget_term + self.retain_weight * retain_term
            return {"loss": loss, "forget_term": forget_term, "retain_term": retain_term}

        def steps() -> Iterator[Step]:
            for _, batch in zip(range(self.steps), forget.forever(), strict=False):
                yield Step({"forget": batch}, self.learning_rate)

        with only_these_move(model, [part for module in moving for part in module.modules()]) as still:
            return take_steps(
                model,
                job,
                beside(steps(), "retain", retain),
                step_loss,
                torch.optim.AdamW(trainable_parameters(model), lr=self.learning_rate, weight_decay=self.weight_decay),
                total=self.steps,
                mode=mode,
                description="misdirecting",
                still=still,
            )


# ---------------------------------------------------------------------- which layers


def steered(model: nn.Module, layer: str | None) -> tuple[str, list[nn.Module]]:
    """The name of the module whose output is steered, and the modules that move: it and the two before it in its chain.

    Args:
        model: to look through.
        layer: a name; None to choose.

    Raises:
        SettingsError: no module has this name, or there is no chain to choose from.
    """
    named = dict(model.named_modules())
    if layer is None:
        chains = {name: module for name, module in named.items() if _is_chain(module) and not _in_chain(name, named)}
        if not chains:
            raise SettingsError(
                "The model has no ModuleList or Sequential of which a layer could be chosen. Name the module whose "
                "output is to be steered, as model.named_modules() gives it: Rmu(layer=…)."
            )
        chain_name = max(chains, key=lambda name: len(list(named[name].children())))
        parts = list(named[chain_name].named_children())
        position = int(DEPTH * len(parts))
        return f"{chain_name}.{parts[position][0]}".lstrip("."), _last(parts, position)
    if layer not in named or not layer:
        near = difflib.get_close_matches(layer, list(named), 1)
        hint = f" Did you mean {near[0]!r}?" if near else " See model.named_modules()."
        raise SettingsError(f"The model has no module {layer!r}.{hint}")
    parent, _, own = layer.rpartition(".")
    parts = list(named[parent].named_children())
    if not _is_chain(named[parent]):
        return layer, [named[layer]]
    return layer, _last(parts, [name for name, _ in parts].index(own))


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleList, nn.Sequential)) and any(True for _ in module.children())


def _in_chain(name: str, named: dict[str, nn.Module]) -> bool:
    """Whether a module lies in a chain, at any depth: the experts of a block are no chain of blocks."""
    pieces = name.split(".") if name else []
    return any(_is_chain(named[".".join(pieces[:end])]) for end in range(len(pieces)))


def _last(parts: list[tuple[str, nn.Module]], position: int) -> list[nn.Module]:
    return [module for _, module in parts[max(0, position - MOVING + 1) : position + 1]]


# ---------------------------------------------------------------------- activations


def activations(model: nn.Module, name: str, objective: Objective, batch: RecordBatch) -> Tensor:
    """The output of one module of the model on a batch, in float32 or wider: (B, …).

    Args:
        model: asked as it is.
        name: of the module.
        objective: how a model is asked.
        batch: of records.

    Raises:
        SettingsError: the module is not called when the model is asked.
    """
    with _noted(model.get_submodule(name)) as found:
        if objective.has_outputs:
            objective.outputs(model, batch.data)
        else:
            objective.loss(model, batch.data, batch.size)
    if not found:
        raise SettingsError(
            f"The module {name!r} is not called when the model is asked, so it has no output to steer. Name one that "
            "is, as model.named_modules() gives it: Rmu(layer=…)."
        )
    values = objective.laid_out(found[-1], model, batch.data)
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def _noted(module: nn.Module) -> Iterator[list[Tensor]]:
    """What the module puts out, noted, and handed on detached, so that no graph is kept of what follows."""
    found: list[Tensor] = []

    def note(_: nn.Module, inputs: Any, output: Any) -> Any:
        first = output if isinstance(output, Tensor) else output[0]
        found.append(first)
        return first.detach() if isinstance(output, Tensor) else (first.detach(), *output[1:])

    handle = module.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def direction(activations: Tensor, seed: int) -> Tensor:
    """u: a random vector of length 1 with entries above 0, as wide as one token's activation, or one example's.

    Args:
        activations: of one example.
        seed: of the draw.
    """
    width = activations.shape[2] if activations.ndim == 3 else activations[0].numel()
    drawn_H = torch.rand(width, generator=random_generator(seed, "direction"), dtype=torch.float64)
    unit_H: Tensor = drawn_H / drawn_H.norm()
    return unit_H.to(activations.device, activations.dtype)


def apart(objective: Objective, batch: Batch, activations: Tensor, aim: Tensor) -> Tensor:
    """‖h − aim‖² of each example, the mean over its tokens that count.

    Args:
        objective: knows which tokens count.
        batch: with the targets.
        activations: (B, T, H), or (B, …) where there are no positions.
        aim: of the same shape, or one vector for all.
    """
    if activations.ndim != 3:
        gaps: Tensor = activations.flatten(1) - (aim if aim.ndim == 1 else aim.flatten(1))
        return gaps.square().sum(dim=1)
    squares_BT: Tensor = (activations - aim).square().sum(dim=2)
    targets_BT = objective.targets(batch) if objective.has_tokens else None
    if targets_BT is not None and targets_BT.shape == squares_BT.shape:
        return tokens.mean_over_tokens(squares_BT, targets_BT)
    return squares_BT.mean(dim=1)
