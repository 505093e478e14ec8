"""AMUN: fine-tune on adversarial neighbours of the forget records under the wrong classes the model sees in them.

Source: Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, "Not All Wrong is Bad: Using Adversarial Examples for
Unlearning" (first "AMUN: Adversarial Machine UNlearning"), ICML 2025, arXiv 2503.00917, algorithm 1. For each forget
record (x, y), the nearest point that the original model θ₀ takes for another class:

    ε ← ε₀;  x' ← attack(x, y, ε);  while argmax f(x'; θ₀) = y:  ε ← 2ε, x' ← attack(x, y, ε);  y' = argmax f(x'; θ₀)

The attack is projected gradient ascent on ℓ(x', y) within ‖x' − x‖₂ ≤ ε, 50 steps of length ε/10. Then the model is
trained on retain ∪ forget ∪ {(x', y')}: the paper's main setting, with the forget records under their true labels
still in it. `forget_records=False` leaves them out, which the paper does for large forget sets.

Defaults are those of the authors' code (Ali-E/AMUN): ε₀ = 0.04, 50 attack steps, ten passes of SGD with momentum 0.9
and weight decay 5e-4, batches of 128, train mode. Paper and code tune the rate and its decay for each case; 0.01,
divided by ten after each pass, are the defaults of the code's tuning script.

Where we differ from that code, and why:
- each attempt starts from the record, as in algorithm 1; the code goes on from where the last one ended;
- a record is done as soon as its class changes, as in the code; algorithm 1 looks after the 50 steps only. It is the
  nearer neighbour of the two;
- a record that θ₀ takes for another class as it is, is its own neighbour, in both;
- inputs are not cut to 0 … 1: what range is possible is not known here;
- an end to doubling: a record without a neighbour within 2¹⁵ε₀ stands for itself under its most likely wrong class;
  the history says how many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau.batches import Batch
from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.loading import Loader, RecordBatch
from nablatau.methods.adversarial import (
    best_other_class,
    check_inputs,
    input_of,
    logits_at,
    projected_ascent,
    rows_of,
    with_input,
)
from nablatau.methods.base import Job, Method, Need, Tunable
from nablatau.methods.relabelling import by_position, class_count, joined, replaced_examples, with_rows
from nablatau.methods.steps import frozen_copy, sgd, take_steps
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.runtime import gather_over_processes
from nablatau.training import StepLoss, mean_of_outputs

MOST_DOUBLINGS = 15
"""After which a record counts as one without a neighbour."""


@dataclass(frozen=True, kw_only=True)
class Amun(Method):
    """Fine-tuning on adversarial neighbours of the forget set, beside the training records.

    Attributes:
        radius: ε₀, Euclidean distance within which the first attack looks, in the inputs' units; it is doubled
            until there is a neighbour, so that a small one costs time and no more.
        attack_steps: gradient steps of each attack.
        forget_records: train on the forget records themselves too, as the paper's main setting does.
        epochs: passes over the mixture.
        learning_rate: of SGD in the first pass.
        rate_factor: by which it is multiplied after each pass, above 0 and up to 1.
        momentum, weight_decay: of SGD.
        batch_size: examples in a batch, and in an attack.
        mode: "train" as published; "eval" freezes BatchNorm statistics and turns dropout off.
    """

    name: ClassVar[str] = "amun"
    source: ClassVar[str] = "Ebrahimpour-Boroojeny et al. 2025, arXiv 2503.00917"
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "classes"})
    tunable: ClassVar[dict[str, Tunable]] = {
        "epochs": Tunable(low=1, high=20),
        "learning_rate": Tunable(low=1e-4, high=0.1),
        "rate_factor": Tunable(low=0.1, high=1.0),
    }

    radius: float = 0.04
    attack_steps: int = 50
    forget_records: bool = True
    epochs: int = 10
    learning_rate: float = 0.01
    rate_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    mode: Literal["train", "eval"] = "train"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size, attack_steps=self.attack_steps)
        check_positive(radius=self.radius, learning_rate=self.learning_rate)
        if not 0 < self.rate_factor <= 1:
            raise SettingsError(f"rate_factor must lie above 0 and be at most 1, not {self.rate_factor!r}.")
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        check_inputs(job)
        class_count(model, job)  # refuses a model without another class
        neighbours_F, labels_F, without = self._neighbours(frozen_copy(model), job)
        request = job.request
        parts = [request.forget_set, *([request.forget_set] if self.forget_records else []), request.retain_set]
        loader = job.loader(joined(*parts), self.batch_size, "train batches", mode=self.mode)
        return take_steps(
            model,
            job,
            self._steps(loader, without),
            neighbour_loss(job, neighbours_F, labels_F),
            sgd(model, momentum=self.momentum, weight_decay=self.weight_decay),
            total=self.epochs * len(loader),
            mode=self.mode,
            description="training on adversarial neighbours",
        )

    def _neighbours(self, original: nn.Module, job: Job) -> tuple[Tensor, Tensor, int]:
        """Neighbour and wrong class of each forget record, in every process, and how many records have none."""
        asked: list[int] = []

        def ask(batch: RecordBatch) -> tuple[Tensor, ...]:
            *answer, examples = nearest_neighbours(original, job, batch.data, self.radius, self.attack_steps)
            asked.append(examples if batch.weight else 0)
            return tuple(answer)

        neighbours_F, labels_F, found_F = by_position(job, job.request.forget_set, self.batch_size, ask)
        job.history.trained_samples += sum(gather_over_processes(sum(asked)))
        return neighbours_F, labels_F, int((~found_F).sum())

    def _steps(self, loader: Loader, without: int) -> Iterator[Step]:
        for epoch in range(self.epochs):
            rate, values = self.learning_rate * self.rate_factor**epoch, {"epoch": float(epoch)}
            for batch in loader:
                yield Step({"train": batch}, rate, values | {"without_neighbour": float(without)})


def neighbour_loss(job: Job, neighbours_F: Tensor, labels_F: Tensor) -> StepLoss:
    """The mean loss of a step's batch, in which the first F records of the set are their neighbours."""

    count = len(labels_F)

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        batch = step.batches["train"]
        replaced = replaced_examples(batch, count, job.device)
        inputs_B = with_rows(input_of(batch.data), neighbours_F, *replaced)
        targets_B = with_rows(job.objective.targets(batch.data), labels_F, *replaced)
        outputs_BC = job.objective.outputs(model, with_input(batch.data, inputs_B))
        return {"loss": mean_of_outputs(job.objective, outputs_BC, targets_B, batch)}

    return step_loss


def nearest_neighbours(
    original: nn.Module, job: Job, batch: Batch, radius: float, steps: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """For each of B records a point near it that the model takes for another class, and that class.

    Args:
        original: frozen, in eval mode.
        job: with the objective.
        batch: of these records.
        radius: ε₀, doubled for the records that need it.
        steps: of each attack.

    Returns:
        Points_B, classes_B, whether there was such a point_B, and how many examples went forward and backward.
    """
    points_B, targets_B = input_of(batch).clone(), job.objective.targets(batch)
    classes_B = best_other_class(logits_at(original, job, batch, points_B), targets_B)
    found_B, asked = torch.zeros_like(targets_B, dtype=torch.bool), 0
    for doubling in range(MOST_DOUBLINGS + 1):
        rows = (~found_B).nonzero().squeeze(1)
        if not len(rows):
            break
        points, classes, examples = projected_ascent(
            original, job, rows_of(batch, rows), radius=radius * 2**doubling, steps=steps
        )
        done, asked = classes != targets_B[rows], asked + examples
        points_B[rows[done]], classes_B[rows[done]] = points[done], classes[done]
        found_B[rows[done]] = True
    return points_B, classes_B, found_B, asked
