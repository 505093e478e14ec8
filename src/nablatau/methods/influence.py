"""Influence unlearning: one Newton step from the trained weights to those without the forget set.

Source: Koh & Liang 2017, arXiv 1703.04730; Izzo et al. 2021, arXiv 2002.10077; as a baseline: Jia et al. 2023, arXiv
2304.04934 ("IU"). With ḡ the mean gradient of the losses and G the curvature of the retain set's mean loss,

    θ ← θ + scale · (G + ω + δ)⁻¹ v,    v = ḡ_all − ḡ_retain = share · (ḡ_forget − ḡ_retain)

v is what the forget set adds to the gradient; share is the forgotten share of the records. ω is the weight decay of the
original's SGD, which belongs to what was minimised; δ is damping.

G is the Gauss-Newton matrix, Σ Jᵀ H J / n over retain records, with J the derivative of an example's outputs and H the
second derivative of its loss in them: the Hessian itself where outputs are linear in the weights, never indefinite, and
for the losses here the model's Fisher matrix. Objectives that know losses only get the empirical Fisher matrix. The
system is solved by conjugate gradients, with two passes over the curvature's records an iteration and a few vectors.

Where we differ from Jia et al., and why: they use WoodFisher (Singh & Alistarh 2020) for the inverse of the empirical
Fisher matrix plus 1. Their code's O(d) recursion carries one vector along where the Woodbury identity needs H⁻¹g anew
for every example, so that it does not give that inverse, and against their damping of 1 the curvature hardly counts:
the step is nearly v itself. Conjugate gradients solve the system as it is defined, in the same memory.

δ = `damping` · (vᵀGv / vᵀv), ours: a quadratic model holds near the trained weights only, and the right size of δ goes
with that of the curvature. From few records G knows nothing of many directions, in which only δ bounds the step: with
1,000 records and a damping of 0.005 the accuracy on adult fell from 0.91 to 0.83 on the retain set, with 2,000 and 0.02
it is 0.89. No δ where the outputs are linear in the weights and ω > 0, since there the step is exact
up to third derivatives of the loss.

With an adapter θ are its factors A and B: of one that adds nothing yet the gradient in A is 0 and the step is one in B
alone, Newton's among the weights that B can give.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nablatau.batches import Batch
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.importance import Notes, check_finite, reading
from nablatau.objectives import Objective
from nablatau.recipes import Recipe, check_counts, check_positive
from nablatau.records import Records
from nablatau.runtime import sum_over_processes
from nablatau.training import trainable_parameters

LINEAR = 1e-4
"""Relative to the largest output: how far a linear model's outputs may lie from their first-order prediction."""


@dataclass(frozen=True, kw_only=True)
class InfluenceUnlearning(Method):
    """One Newton step from the trained weights to those without the forget set.

    Attributes:
        scale: by which the step is multiplied (α of Jia et al., who tune it); 1 is Newton's.
        damping: δ, in units of the curvature along v; ours.
        curvature_records: retain records, evenly spread, of which G is taken; ours (1,000 in Jia et al.'s code).
        iterations: of conjugate gradients at most; ours.
        tolerance: of the remaining error, relative, at which they stop; ours.
        batch_size: examples in a batch.
    """

    name: ClassVar[str] = "influence"
    source: ClassVar[str] = "Koh & Liang 2017, arXiv 1703.04730; Jia et al. 2023, arXiv 2304.04934"
    deterministic: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = {
        "scale": Tunable(low=0.3, high=10.0),
        "damping": Tunable(low=1e-4, high=1.0),
    }

    scale: float = 1.0
    damping: float = 0.02
    curvature_records: int = 2000
    iterations: int = 50
    tolerance: float = 1e-3
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_counts(curvature_records=self.curvature_records, iterations=self.iterations, batch_size=self.batch_size)
        check_positive(scale=self.scale, damping=self.damping, tolerance=self.tolerance)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        notes, request = Notes(job), job.request
        with reading(model):
            forget = mean_gradient(model, job, request.forget_set, notes, self.batch_size, part="forget")
            retain = mean_gradient(model, job, request.retain_set, notes, self.batch_size, part="retain")
            missing = len(request.forget_set) / request.training_size * (forget - retain)
            records = evenly(request.retain_set, self.curvature_records)
            curvature = Curvature(model, job, records, notes, self.batch_size)
            added = self._added(curvature, missing, weight_decay_of(job.recipe))

            def product(direction: Tensor, residual: float) -> Tensor:
                return curvature.times(direction, residual) + added * direction

            step = conjugate_gradients(product, missing, iterations=self.iterations, tolerance=self.tolerance)
        check_finite("step", [step], notes)
        weights = trainable_parameters(model)
        with torch.no_grad():
            for weight, piece in zip(weights, torch.split(step, [each.numel() for each in weights]), strict=True):
                weight.add_((self.scale * piece).to(weight.dtype).view_as(weight))
        return model

    def _added(self, curvature: "Curvature", missing: Tensor, weight_decay: float) -> float:
        """ω + δ."""
        if not missing.any() or (weight_decay > 0 and curvature.is_exact(missing)):
            return weight_decay
        bend = missing @ curvature.times(missing, 1.0) / (missing @ missing)
        return weight_decay + self.damping * float(bend)


def weight_decay_of(recipe: Recipe | None) -> float:
    """ω, of ω/2 · ‖θ‖² in what was minimised; AdamW's decay is no such term."""
    return recipe.weight_decay if recipe is not None and recipe.optimizer == "sgd" else 0.0


def evenly(records: Records, most: int) -> Records:
    """At most so many of the records, at even distances: the same ones for every seed."""
    return records.subset(np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).round()))


def mean_gradient(model: nn.Module, job: Job, records: Records, notes: Notes, size: int, *, part: str) -> Tensor:
    """The mean gradient of the loss over records, as one vector in float64.

    Args:
        model: in eval mode.
        job: device and history.
        records: over which the mean is taken.
        notes: get a row a batch.
        size: examples in a batch.
        part: what the records are called in an error.
    """
    weights = trainable_parameters(model)
    total = torch.zeros(sum(each.numel() for each in weights), dtype=torch.float64, device=job.device)
    for batch in job.loader(records, size):
        loss_B = job.objective.loss(model, batch.data, batch.size)
        gradients = torch.autograd.grad(loss_B.sum(), weights, allow_unused=True, materialize_grads=True)
        total += _joined(gradients) * (batch.weight > 0)
        notes.add(batch, loss_B, part, residual=1.0)
    return sum_over_processes(total) / len(records)


def conjugate_gradients(
    product: Callable[[Tensor, float], Tensor], target: Tensor, *, iterations: int, tolerance: float
) -> Tensor:
    """x with A x = target, from x = 0 (Hestenes & Stiefel 1952).

    Args:
        product: from a vector, and ‖target − A x‖ / ‖target‖ so far, to A times the vector; A is never indefinite.
        target: of the product.
        iterations: at most.
        tolerance: of the relative error, at which it stops.
    """
    solution, error, direction = torch.zeros_like(target), target.clone(), target.clone()
    size = first = float(error @ error)
    for _ in range(iterations):
        if size <= tolerance**2 * first:
            break
        bent = product(direction, (size / first) ** 0.5)
        bend = float(direction @ bent)
        if bend <= 0:  # A is singular along it: no step there can be told from any other
            break
        solution += size / bend * direction
        error -= size / bend * bent
        size, before = float(error @ error), size
        direction = error + size / before * direction
    return solution


# ---------------------------------------------------------------------- curvature


class Curvature:
    """G, the Gauss-Newton matrix of the mean loss over records, known by its products with vectors.

    Args:
        model: in eval mode.
        job: objective, device and history.
        records: n records, over which the mean is taken.
        notes: get a row a batch.
        size: examples in a batch.
    """

    def __init__(self, model: nn.Module, job: Job, records: Records, notes: Notes, size: int) -> None:
        self.asked, self.objective, self.notes = _Asked(model, job.objective), job.objective, notes
        self.records, self.loader = records, job.loader(records, size)
        self.weights = {name: each for name, each in self.asked.named_parameters() if each.requires_grad}

    def times(self, direction: Tensor, residual: float) -> Tensor:
        """G times a vector, in one pass over the records.

        Args:
            direction: as long as all trainable weights together, in float64.
            residual: for the history.
        """
        total, weights, pieces = torch.zeros_like(direction), list(self.weights.values()), self._pieces(direction)
        for batch in self.loader:
            outputs = self.asked(batch)
            bent = bent_outputs(self.objective, outputs.detach(), directional(outputs, weights, pieces), batch.data)
            gradients = torch.autograd.grad(outputs, weights, bent, materialize_grads=True)
            total += _joined(gradients) * (batch.weight > 0)
            self.notes.add(batch, self._losses(outputs, batch), "retain", times=2, residual=residual)
        return sum_over_processes(total) / len(self.records)

    def is_exact(self, direction: Tensor) -> bool:
        """Whether G is the Hessian everywhere: outputs move in proportion to the weights, however far these go."""
        if not self.objective.has_outputs:
            return False
        length = max(1.0, float(_joined(self.weights.values()).detach().norm()))
        pieces, batch = self._pieces(direction / direction.norm() * length), next(iter(self.loader))
        outputs = self.asked(batch)
        tangents = directional(outputs, list(self.weights.values()), pieces)
        there = {name: weight + piece for (name, weight), piece in zip(self.weights.items(), pieces, strict=True)}
        with torch.no_grad():
            moved = functional_call(self.asked, there, (batch,))
        return bool((moved - outputs.detach() - tangents).abs().max() <= LINEAR * moved.abs().max())

    def _pieces(self, direction: Tensor) -> list[Tensor]:
        """The vector cut into the shapes, and in the types, of the weights."""
        pieces = torch.split(direction, [each.numel() for each in self.weights.values()])
        return [piece.to(each.dtype).view_as(each) for each, piece in zip(self.weights.values(), pieces, strict=True)]

    def _losses(self, outputs: Tensor, batch: RecordBatch) -> Tensor:
        if not self.objective.has_outputs:
            return outputs
        return self.objective.loss_of_outputs(outputs, self.objective.targets(batch.data))


class _Asked(nn.Module):
    """A model and what G is taken through: its outputs, or where only losses are known these."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: RecordBatch) -> Tensor:
        if self.objective.has_outputs:
            return self.objective.outputs(self.model, batch.data)
        return self.objective.loss(self.model, batch.data, batch.size)


def directional(outputs: Tensor, weights: Sequence[Tensor], pieces: Sequence[Tensor]) -> Tensor:
    """J v: how outputs move with the weights. By two gradients, which every layer has, rather than in forward mode.

    Args:
        outputs: with gradient.
        weights: in which they are differentiated.
        pieces: v, shaped as the weights.
    """
    pulled = torch.zeros_like(outputs, requires_grad=True)
    gradients = torch.autograd.grad(outputs, weights, pulled, create_graph=True, allow_unused=True)
    used = [(gradient, piece) for gradient, piece in zip(gradients, pieces, strict=True) if gradient is not None]
    (moved,) = torch.autograd.grad([each for each, _ in used], pulled, [piece for _, piece in used])
    return moved


def bent_outputs(objective: Objective, outputs: Tensor, tangents: Tensor, batch: Batch) -> Tensor:
    """H times tangents, H the second derivative of each example's loss in its outputs.

    Args:
        objective: what a loss is. Where only losses are known H is 1, which makes G the empirical Fisher matrix.
        outputs: of the examples, or their losses; without gradient.
        tangents: of the same shape.
        batch: with the targets.
    """
    if not objective.has_outputs:
        return tangents
    free = outputs.clone().requires_grad_()
    total = objective.loss_of_outputs(free, objective.targets(batch)).sum()
    (slope,) = torch.autograd.grad(total, free, create_graph=True)
    (bent,) = torch.autograd.grad(slope, free, tangents)
    return bent


def _joined(gradients: Iterable[Tensor]) -> Tensor:
    """Gradients as one vector in float64."""
    return torch.cat([each.reshape(-1) for each in gradients]).double()
