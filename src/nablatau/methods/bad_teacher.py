"""Bad teacher: the student learns what a random network says of forget records, and what it said itself of others.

Source: Chundawat, Tarun, Mandal, Kankanhalli, "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using
an Incompetent Teacher", AAAI 2023, arXiv 2205.08096. Forget set and a random share of the retain set are
shuffled together; with the original as competent teacher and a network with fresh weights as incompetent one,

    L = mean of  KL(incompetent ‖ student) over forget records  and  KL(competent ‖ student) over retain records

each weighing as its records do in the batch.

Where we differ from the authors' code, and why:
- it divides the divergence by the number of classes as well as by the batch, which is no KL divergence; here it is one.
  Adam's steps do not depend on the factor;
- its student is in train mode; here BatchNorm statistics are frozen unless `mode` says otherwise, as in every
  method here.

Shapes: B examples in a batch.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nablatau.data import Request
from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.methods.base import Job, Method, Need, Tunable
from nablatau.methods.distillation import check_divergence, divergence
from nablatau.methods.steps import frozen_copy, passes, take_steps, teacher_outputs
from nablatau.objectives import Objective
from nablatau.recipes import Recipe, check_counts, check_mode, check_positive, reset
from nablatau.records import Records
from nablatau.runtime import isolated_randomness, move, random_generator
from nablatau.training import trainable_parameters, whole_mean


@dataclass(frozen=True, kw_only=True)
class BadTeacher(Method):
    """Distillation from an incompetent teacher on the forget set and from the original on a share of the retain set.

    All values are those of the authors' code for ResNet18.

    Attributes:
        epochs: passes over forget set and retain share together.
        retain_share: share of the retain set that is drawn, above 0 and at most 1; at least one record.
        temperature: divides the logits of teachers and student.
        learning_rate: of Adam.
        batch_size: examples in a batch, forget and retain records mixed.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    name: ClassVar[str] = "bad_teacher"
    source: ClassVar[str] = "Chundawat et al. 2023, arXiv 2205.08096"
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})
    tunable: ClassVar[dict[str, Tunable]] = {
        "learning_rate": Tunable(low=1e-5, high=1e-2),
        "epochs": Tunable(low=1, high=10, log=False),
    }

    epochs: int = 1
    retain_share: float = 0.3
    temperature: float = 1.0
    learning_rate: float = 1e-4
    batch_size: int = 256
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        check_positive(temperature=self.temperature, learning_rate=self.learning_rate)
        if not 0 < self.retain_share <= 1:
            raise SettingsError(f"retain_share must lie above 0 and at most at 1, not {self.retain_share!r}.")
        check_mode(self.mode)

    def _check(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> None:
        super()._check(model, request, objective, recipe)
        check_divergence(self.name, objective)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        competent, incompetent = frozen_copy(model), untrained(model, job)
        forgotten = len(job.request.forget_set)

        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            batch = step.batches["forget and retain"]
            student = job.objective.outputs(model, batch.data)
            forget_B = (batch.rows < forgotten).to(job.device)
            wrong, right = (teacher_outputs(teacher, job, batch) for teacher in (incompetent, competent))
            teacher = torch.where(forget_B[:, None], wrong, right)
            return {"loss": whole_mean(divergence(job.objective, teacher, student, self.temperature), batch)}

        records = mixed(job.request, self.retain_share, job.seed)
        loader = job.loader(records, self.batch_size, "mixed batches", mode=self.mode)
        steps: Iterator[Step] = passes("forget and retain", loader, self.epochs, self.learning_rate)
        return take_steps(
            model,
            job,
            steps,
            step_loss,
            torch.optim.Adam(trainable_parameters(model), lr=self.learning_rate),
            total=self.epochs * len(loader),
            mode=self.mode,
            description="teaching badly",
        )


def untrained(model: nn.Module, job: Job) -> nn.Module:
    """The incompetent teacher: a network of the same architecture with fresh weights, frozen, in eval mode."""
    like = copy.deepcopy(model).requires_grad_(True)  # frozen layers too: what they know is not to be taught
    with isolated_randomness(job.seed):
        torch.manual_seed(random_generator(job.seed, "incompetent teacher").initial_seed())  # in every process alike
        fresh = reset(like) if job.recipe is None else job.recipe.fresh_model(like)
    return frozen_copy(move(fresh, job.device))


def mixed(request: Request, retain_share: float, seed: int) -> Records:
    """The forget set, and behind it a random share of the retain set.

    Args:
        request: whose sets are views of one data set.
        retain_share: of the retain set, at least one record.
        seed: of the draw.
    """
    forget, retain = request.forget_set, request.retain_set
    count = max(1, int(retain_share * len(retain)))
    drawn = torch.randperm(len(retain), generator=random_generator(seed, "retain share"))[:count].numpy()
    return replace(forget, positions=np.concatenate([forget.positions, retain.positions[drawn]]))
