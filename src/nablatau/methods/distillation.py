"""What methods with a teacher share: the divergence between two models' outputs, and SCRUB's max and min epochs.

Source: Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv 2302.09880, section 3 and algorithm 1. An epoch of SCRUB is a pass over the forget set, in the first
`max_epochs` epochs only, and then a pass over the retain set, with the frozen original θ₀ as teacher:

    max step:  L = −KL(p_θ₀ ‖ p_θ)                  min step:  L = α · KL(p_θ₀ ‖ p_θ) + γ · ℓ

p is the softmax of the logits divided by the temperature T, and KL is multiplied by T², so that its gradient keeps its
size (Hinton et al. 2015, 1503.02531). The paper's formula has T = 1, the authors' code 4.

Where we differ from the authors' code, and why:
- several labels at once have a divergence too: the mean over labels of that of their sigmoids, as their loss is;
- the size of the batches of a max step grows with the forget set, see `max_batch_size`;
- the learning rate falls to its final value where the max epochs end; with the authors' three max epochs and a drop
  after the third this is the same;
- the student's BatchNorm statistics are frozen unless `mode` says otherwise: a batch of forget records alone would
  shift them. Student and teacher then begin as equals, where KL has no gradient, so the first max pass moves a network
  without dropout through weight decay alone; in train mode their layers differ from the first step.

Shapes: B examples in a batch, C classes, L labels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.methods.base import Job, Method, Need, Tunable
from nablatau.methods.schedule import check_batch_norm
from nablatau.methods.steps import frozen_copy, sgd, take_steps, teacher_outputs
from nablatau.objectives import Objective
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import mean_of_outputs, whole_mean

# ---------------------------------------------------------------------- divergence of two models' outputs


def divergence(objective: Objective, teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(teacher ‖ student) of each example, in nats.

    Args:
        objective: single-label (KL between softmaxes) or multi-label (mean over labels of KL between sigmoids).
        teacher: logits_BC or logits_BL.
        student: logits of the same shape.
        temperature: T, which divides both logits.
    """
    wide = torch.promote_types(student.dtype, torch.float32)
    teacher, student = teacher.to(wide) / temperature, student.to(wide) / temperature
    if objective.kind == "single-label":
        return temperature**2 * softmax_divergence(teacher, student)
    return temperature**2 * sigmoid_divergence(teacher, student)


def softmax_divergence(teacher_BC: Tensor, student_BC: Tensor) -> Tensor:
    """Σ_c p_c (log p_c − log q_c) of each example, from logits: a probability of 0 in float weighs nothing."""
    teacher_log_BC, student_log_BC = log_softmax(teacher_BC, dim=1), log_softmax(student_BC, dim=1)
    return (teacher_log_BC.exp() * (teacher_log_BC - student_log_BC)).sum(dim=1)


def sigmoid_divergence(teacher_BL: Tensor, student_BL: Tensor) -> Tensor:
    """Mean over labels of p (log p − log q) + (1 − p) (log(1 − p) − log(1 − q)), from logits."""
    present_BL = teacher_BL.sigmoid() * (logsigmoid(teacher_BL) - logsigmoid(student_BL))
    absent_BL = (-teacher_BL).sigmoid() * (logsigmoid(-teacher_BL) - logsigmoid(-student_BL))
    return (present_BL + absent_BL).mean(dim=1)


def check_divergence(name: str, objective: Objective) -> None:
    """Refuse an objective whose outputs are no distributions.

    Raises:
        SettingsError: the objective is regression, or has many distributions an example.
    """
    if objective.has_tokens:
        raise SettingsError(
            f"{name} compares two models' probabilities of an example's classes, and this objective is "
            f"{objective.kind}, with a distribution for each token. Use undial, or npo, which needs losses alone."
        )
    if objective.kind == "regression":
        raise SettingsError(
            f"{name} compares the probabilities that two models give, and a regression's outputs are none. Use "
            "nabla_tau or neg_grad_plus, which need losses alone."
        )


# ---------------------------------------------------------------------- max and min epochs


@dataclass(frozen=True, kw_only=True)
class MaxMin(Method):
    """A method of max and min epochs: their settings, and the refusal of those that are impossible.

    The rate, its drop to a tenth and the weight decay of 5e-4 are the paper's (appendix, large-scale experiments). The
    rest is from the authors' private-data notebook, which forgets 100 of 40,000 images.

    Attributes:
        epochs: passes over the retain set.
        max_epochs: of these, the first ones that begin with a pass over the forget set.
        alpha: α, weight of the divergence in a min step.
        gamma: γ, weight of the task's loss in a min step.
        temperature: T, which divides the logits of both models; 1 is the paper's formula.
        learning_rate: of SGD in the epochs with a max pass.
        final_learning_rate: in the epochs after them.
        momentum, weight_decay: of SGD.
        forget_batch_size: examples in the batch of a max step; None for an eighth of the forget set, 16 at the least:
            both published settings take 7 or 8 max steps an epoch, and many more make the divergence run away.
        retain_batch_size: examples in the batch of a min step.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    source: ClassVar[str] = "Kurmanji et al. 2023, arXiv 2302.09880"
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})
    tunable: ClassVar[dict[str, Tunable]] = {
        "learning_rate": Tunable(low=1e-4, high=1e-1),
        "max_epochs": Tunable(low=1, high=5, log=False),
        "alpha": Tunable(low=1e-3, high=1.0),
    }

    epochs: int = 5
    max_epochs: int = 3
    alpha: float = 0.5
    gamma: float = 1.0
    temperature: float = 4.0
    learning_rate: float = 5e-4
    final_learning_rate: float = 5e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    forget_batch_size: int | None = None
    retain_batch_size: int = 32
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, retain_batch_size=self.retain_batch_size)
        if self.forget_batch_size is not None:
            check_counts(forget_batch_size=self.forget_batch_size)
        check_positive(
            temperature=self.temperature,
            learning_rate=self.learning_rate,
            final_learning_rate=self.final_learning_rate,
        )
        if not 0 <= self.max_epochs <= self.epochs or self.max_epochs != int(self.max_epochs):
            raise SettingsError(
                f"max_epochs must be a whole number in 0 … epochs ({self.epochs}), not {self.max_epochs!r}."
            )
        for name in ("alpha", "gamma", "momentum", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must be 0 or more, not {getattr(self, name)!r}.")
        check_mode(self.mode)


def max_then_min(model: nn.Module, job: Job, settings: MaxMin, after_epoch: Callable[[], None]) -> nn.Module:
    """Take all max and min steps, with a frozen copy of the model as teacher.

    Args:
        model: changed in place.
        job: with the request.
        settings: of the method.
        after_epoch: called when the last step of an epoch has been taken.
    """
    request, teacher = job.request, frozen_copy(model)
    check_batch_norm(model, len(request.forget_set), settings.mode)
    forget_batch_size = settings.forget_batch_size or max_batch_size(len(request.forget_set))
    forget = job.loader(request.forget_set, forget_batch_size, "forget batches", mode=settings.mode)
    retain = job.loader(request.retain_set, settings.retain_batch_size, "retain batches", mode=settings.mode)

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        (batch,) = step.batches.values()
        outputs = job.objective.outputs(model, batch.data)
        teacher_says = teacher_outputs(teacher, job, batch)
        apart = whole_mean(divergence(job.objective, teacher_says, outputs, settings.temperature), batch)
        if "forget" in step.batches:
            return {"loss": -apart, "divergence": apart}
        retain_loss = mean_of_outputs(job.objective, outputs, job.objective.targets(batch.data), batch)
        return {"loss": settings.alpha * apart + settings.gamma * retain_loss, "divergence": apart}

    def steps() -> Iterator[Step]:
        for epoch in range(settings.epochs):
            values = {"epoch": float(epoch), "maximising": 1.0}
            if epoch < settings.max_epochs:
                yield from (Step({"forget": each}, settings.learning_rate, values) for each in forget)
            rate = settings.learning_rate if epoch < settings.max_epochs else settings.final_learning_rate
            values = {"epoch": float(epoch), "maximising": 0.0}
            yield from (Step({"retain": each}, rate, values) for each in retain)
            after_epoch()

    return take_steps(
        model,
        job,
        steps(),
        step_loss,
        sgd(model, momentum=settings.momentum, weight_decay=settings.weight_decay),
        total=settings.max_epochs * len(forget) + settings.epochs * len(retain),
        mode=settings.mode,
        description="scrubbing",
    )


def max_batch_size(forget_size: int) -> int:
    """An eighth of the forget set, at least 16.

    The authors take 16 for 100 records (7 steps a pass) and 512 for 4,000 (8 steps). The divergence has no upper bound
    and grows by a factor a step: 38 steps a pass, batches of 16 of 600 records, ended in NaN with BatchNorm frozen.

    Args:
        forget_size: records in the forget set.
    """
    return max(16, -(-forget_size // 8))
