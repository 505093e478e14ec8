"""Steps on inputs instead of weights: where a frozen model would change its mind.

Shared by the methods that ask the original model for the classes nearest to a record (boundary_shrink, amun). The
direction of every step is the gradient of the cross-entropy with respect to the input. It is computed from the margin
φ = z_y − logsumexp_{c≠y} z_c: ∇ℓ = −(1 − p_y) ∇φ, so that sign and direction are the same, but −∇φ does not vanish
where p_y rounds to 1, as it does for the records that a model remembers best.

Shapes: B examples in a batch, C classes; inputs_B of any further shape.
"""

import torch
from torch import Tensor, nn

from nablatau.batches import Batch, map_tensors, split_target
from nablatau.errors import SettingsError
from nablatau.methods.base import Job
from nablatau.signals import margin_of

STEPS_TO_THE_EDGE = 10
"""Steps of a projected ascent that lead from a record to the edge of its ball."""


def input_of(batch: Batch) -> Tensor:
    """The one input in a batch, a tensor of real numbers.

    Raises:
        SettingsError: there are several inputs, or numbers that no small step could change.
    """
    inputs, target = split_target(batch)
    parts = list(inputs.values()) if isinstance(inputs, dict) else list(inputs) if isinstance(inputs, tuple) else []
    if len(parts) == 1 and target is not None and isinstance(parts[0], Tensor) and parts[0].is_floating_point():
        return parts[0]
    found = ", ".join(str(part.dtype) if isinstance(part, Tensor) else type(part).__qualname__ for part in parts)
    raise SettingsError(
        "This method takes small steps on the inputs of a model, and needs examples of one input of real numbers "
        f"beside the target; these have {len(parts)} inputs ({found or type(batch).__qualname__}). For text or for "
        "several inputs use a method that leaves inputs alone, such as salun."
    )


def with_input(batch: Batch, inputs_B: Tensor) -> Batch:
    """The batch with another input in the place of its own; its form is kept."""
    own = input_of(batch)
    return map_tensors(batch, lambda tensor: inputs_B if tensor is own else tensor)


def check_inputs(job: Job) -> None:
    """Refuse inputs on which no steps can be taken.

    Raises:
        SettingsError: as of `input_of`.
    """
    (batch,) = job.loader(job.request.forget_set.subset([0]), 1)
    input_of(batch.data)


def logits_at(model: nn.Module, job: Job, batch: Batch, inputs_B: Tensor) -> Tensor:
    """What a frozen model says of other inputs, without gradient: logits_BC."""
    with torch.no_grad():
        return job.objective.outputs(model, with_input(batch, inputs_B))


def ascent(model: nn.Module, job: Job, batch: Batch, inputs_B: Tensor) -> tuple[Tensor, Tensor]:
    """What a frozen model says of the inputs, and where the loss under the true label rises fastest.

    Args:
        model: frozen, in eval mode, so that no example depends on another.
        job: with the objective.
        batch: of these records; it tells the true labels.
        inputs_B: where to ask.

    Returns:
        logits_BC, and a direction_B of any length above 0.
    """
    inputs_B = inputs_B.detach().requires_grad_(True)
    logits_BC = job.objective.outputs(model, with_input(batch, inputs_B))
    margin = margin_of(logits_BC, job.objective.targets(batch)).sum()
    return logits_BC.detach(), -torch.autograd.grad(margin, inputs_B)[0]


def projected_ascent(
    model: nn.Module, job: Job, batch: Batch, *, radius: float, steps: int
) -> tuple[Tensor, Tensor, int]:
    """Ascent on the loss within a Euclidean ball around each record, each until its class changes.

    Args:
        model: frozen, in eval mode.
        job: with the objective.
        batch: of B records.
        radius: of the balls.
        steps: at most; each as long as a tenth of the radius.

    Returns:
        Points_B, the model's classes_B of them, and how many examples went forward and backward.
    """
    start_B, targets_B = input_of(batch), job.objective.targets(batch)
    points_B, classes_B = start_B.clone(), targets_B.clone()
    rows, asked = torch.arange(len(targets_B), device=targets_B.device), 0
    for _ in range(steps):
        logits, direction = ascent(model, job, rows_of(batch, rows), points_B[rows])
        classes_B[rows], asked = logits.argmax(dim=1), asked + len(rows)
        same = classes_B[rows] == targets_B[rows]
        rows, direction = rows[same], direction[same]
        if not len(rows):
            return points_B, classes_B, asked
        moved = points_B[rows] + radius / STEPS_TO_THE_EDGE * unit(direction) - start_B[rows]
        points_B[rows] = start_B[rows] + shortened_to(moved, radius)
    classes_B[rows] = logits_at(model, job, rows_of(batch, rows), points_B[rows]).argmax(dim=1)
    return points_B, classes_B, asked


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Some examples of a batch."""
    return map_tensors(batch, lambda tensor: tensor[rows])


def unit(vectors_B: Tensor) -> Tensor:
    """Each of B tensors divided by its Euclidean length; one of zeros stays."""
    return vectors_B / length(vectors_B).clamp_min(torch.finfo(vectors_B.dtype).tiny)


def shortened_to(vectors_B: Tensor, most: float) -> Tensor:
    """Each of B tensors, brought to this Euclidean length if it is longer."""
    return vectors_B * (most / length(vectors_B).clamp_min(most))


def length(vectors_B: Tensor) -> Tensor:
    """The Euclidean length of each of B tensors, with as many dimensions as they have."""
    length_B: Tensor = torch.linalg.vector_norm(vectors_B.flatten(1), dim=1)
    return length_B.view(-1, *[1] * (vectors_B.ndim - 1))


def best_other_class(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """The class of the largest logit but the target's."""
    return logits_BC.scatter(1, targets_B[:, None], float("-inf")).argmax(dim=1)
