"""MSG, masked small gradients: weights with the smallest gradients start afresh, then a repair on the retain set.

Source: a leading entry of the NeurIPS 2023 unlearning challenge, ranked best with CT in "Deep Unlearn", Cadet et al.
2024, arXiv 2410.01276, and that benchmark's code. Two parts:

    g = ∇(mean ℓ over as many retain records, drawn at random, as are to be forgotten) − ∇ mean ℓ_forget
    in each layer: the share ρ of weights with the smallest |g| is drawn afresh; SGD descends mean ℓ_retain, where the
    gradient of the weights that were kept is multiplied by 0.1

Weights on which descending the retain set and ascending the forget set cancel, or for which neither asks, hold what
both have in common; drawn afresh they must be learned again, from the retain set alone.

Settings: ρ, damping, passes, the rate's rise and fall, momentum, weight decay and batch size are those of the
benchmark's code (its MSG unlearner), which gives the challenge entry's. The rate itself is ours, ten times theirs of
1e-3: they take thousands of steps, and on small training sets theirs leaves the network unrepaired (docs/papers.md).

Where we differ from that code, and why:
- it sums the gradients of batch means, which weighs a small last batch like a full one; ours is the mean over records;
- layers are its convolutions; a network without any has its linear layers treated so (ours: the rule itself names no
  kind of layer). Their fresh weights are the layer's own draw, as the Kaiming draw by fan-out that the code uses for
  convolutions would make those of a layer with few outputs ten times too large;
- gradients are taken in eval mode: BatchNorm statistics do not move, dropout is off.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.steps import repair
from nablatau.modes import in_mode
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.records import Records
from nablatau.runtime import random_generator, sum_over_processes

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class Msg(Method):
    """Fresh values for the weights with the smallest gradients, then repair on the retain set.

    Attributes:
        share: ρ, of each layer's weights that are drawn afresh, 0 … 1.
        damping: factor on the gradient of the same layers' other weights during the repair, 0 … 1.
        epochs: passes over the retain set.
        learning_rate: of SGD in the middle pass; it rises to it and falls again, linearly, once a pass.
        momentum, weight_decay: of SGD.
        batch_size: examples in a batch.
        mode: of the model during the repair; "train" lets BatchNorm statistics follow the fresh weights.
    """

    name: ClassVar[str] = "msg"
    source: ClassVar[str] = "NeurIPS 2023 unlearning challenge; Cadet et al. 2024, arXiv 2410.01276"
    tunable: ClassVar[dict[str, Tunable]] = {
        "share": Tunable(low=0.05, high=0.95, log=False),
        "epochs": Tunable(low=1, high=20),
        "learning_rate": Tunable(low=3e-4, high=0.1),
    }

    share: float = 0.3
    damping: float = 0.1
    epochs: int = 5
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    mode: Literal["train", "eval"] = "train"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        check_positive(learning_rate=self.learning_rate)
        for name in ("share", "damping"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must lie in 0 … 1, not {getattr(self, name)!r}.")
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        layers, weights = masked_layers(model)
        masks = [small_gradients(gradient, self.share) for gradient in self._gradients(model, weights, job)]
        torch.manual_seed(job.seed)  # weights are drawn alike in every process
        with torch.no_grad():
            for layer, weight, mask in zip(layers, weights, masks, strict=True):
                weight[mask] = fresh_weight(layer, weight)[mask]
        with damped_gradients(weights, masks, self.damping):
            return repair(
                model,
                job,
                rates=[self.learning_rate * rise_and_fall(epoch, self.epochs) for epoch in range(self.epochs)],
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                batch_size=self.batch_size,
                mode=self.mode,
            )

    def _gradients(self, model: nn.Module, weights: Sequence[Tensor], job: Job) -> list[Tensor]:
        """Of each weight, the gradient of mean retain loss minus mean forget loss."""
        forget_set, retain_set = job.request.forget_set, job.request.retain_set
        order = torch.randperm(len(retain_set), generator=random_generator(job.seed, "retain sample"))
        retain_sample = retain_set.subset(order[: len(forget_set)].numpy())
        with in_mode(model, "eval"), job.runtime.autocast(job.device):
            retain = mean_gradients(model, weights, retain_sample, job, self.batch_size)
            forget = mean_gradients(model, weights, forget_set, job, self.batch_size)
        return [ours - theirs for ours, theirs in zip(retain, forget, strict=True)]


def masked_layers(model: nn.Module) -> tuple[list[nn.Module], list[nn.Parameter]]:
    """The layers that are looked through (convolutions, or linear layers where there are none) and their weights.

    Raises:
        SettingsError: no such layer has a trainable weight of its own (a parametrised one is made anew by each call).
    """
    for kinds in (CONVOLUTIONS, (nn.Linear,)):
        found = [(each, dict(each.named_parameters(recurse=False)).get("weight")) for each in modules_of(model, kinds)]
        chosen = [(layer, weight) for layer, weight in found if weight is not None and weight.requires_grad]
        if chosen:
            return [layer for layer, _ in chosen], [weight for _, weight in chosen]
    raise SettingsError(
        "msg draws weights of convolutions or linear layers afresh, and the model has none that can be trained. Thaw "
        "them, or use another method."
    )


def modules_of(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Module]:
    """The modules of these kinds, in order of registration."""
    return [module for module in model.modules() if isinstance(module, kinds)]


def mean_gradients(
    model: nn.Module, weights: Sequence[Tensor], records: Records, job: Job, batch_size: int
) -> list[Tensor]:
    """The gradient of the mean loss over some records, with respect to each weight."""
    sums = [torch.zeros_like(weight) for weight in weights]
    for batch in job.loader(records, batch_size):
        share = _share_of(batch, job.objective.loss(model, batch.data, batch.size).sum(), len(records))
        for total, gradient in zip(sums, torch.autograd.grad(share, weights), strict=True):
            total += gradient
    job.history.trained_samples += len(records)
    return [sum_over_processes(total) for total in sums]


def _share_of(batch: RecordBatch, loss: Tensor, size: int) -> Tensor:
    """This process's piece of the mean over `size` records; nothing where the piece only stands in for one."""
    return loss / size if batch.weight else loss * 0.0


def small_gradients(gradient: Tensor, share: float) -> Tensor:
    """True for this share of the entries, those of smallest magnitude.

    Args:
        gradient: of any shape.
        share: of its entries, 0 … 1, rounded to whole entries.
    """
    mask = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
    order = gradient.abs().flatten().argsort(stable=True)
    mask[order[: round(share * gradient.numel())]] = True
    return mask.view_as(gradient)


def fresh_weight(layer: nn.Module, weight: Tensor) -> Tensor:
    """A fresh draw of a layer's weight: Kaiming normal by fan-out for convolutions, a linear layer's own."""
    if isinstance(layer, nn.Linear):
        fresh = copy.deepcopy(layer)
        fresh.reset_parameters()
        return fresh.weight
    return nn.init.kaiming_normal_(torch.empty_like(weight), mode="fan_out", nonlinearity="relu")


def rise_and_fall(epoch: int, epochs: int) -> float:
    """Factor on the learning rate: 1/a, 2/a … 1 over the first a = ⌈E/2⌉ passes, then evenly down towards 0 after E.

    Args:
        epoch: 0 … E − 1.
        epochs: E.
    """
    rising = (epochs + 1) // 2
    if epoch < rising:
        return (epoch + 1) / rising
    return (epochs - epoch) / (epochs + 1 - rising)


@contextmanager
def damped_gradients(weights: Sequence[Tensor], masks: Sequence[Tensor], damping: float) -> Iterator[None]:
    """Inside, the gradient of each weight is multiplied by `damping` where its mask is False."""
    handles = []
    for weight, mask in zip(weights, masks, strict=True):
        factors = torch.where(mask, 1.0, damping).to(weight.dtype)
        handles.append(weight.register_hook(partial(torch.mul, factors)))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
