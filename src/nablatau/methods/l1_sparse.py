"""ℓ1-sparse: fine-tuning on the retain set with a decaying penalty on the size of the weights.

Source: Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023,
arXiv 2304.04934, section on sparsity-aware unlearning:

    L = mean ℓ_retain + γ_e · ‖θ‖₁,   γ_e = γ · (1 − e/E) in pass e of E

with θ all trainable weights, those of BatchNorm and biases among them. Of the paper's schedules (constant, growing,
decaying) the decaying one is its choice.

Defaults are those of the authors' code (OPTML-Group/Unlearn-Sparse): ten passes, SGD at 0.01 with momentum 0.9, weight
decay 5e-4, batches of 256, train mode, γ falling to 0 in steps of a pass. Its README leaves γ to the reader; 5e-4 is
what the authors of AMUN (2503.00917) take for this method. They write the schedule as (2 − 2e/E)·γ: ours with twice
that γ is theirs.

Where we differ: frozen weights are not counted in ‖θ‖₁, since no step could shrink them. Of a model with an adapter θ
are its factors A and B, which become sparse, and not the weights B A is added to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau.history import Step
from nablatau.loading import Loader
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.steps import sgd, take_steps
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean, linear_decay, trainable_parameters


@dataclass(frozen=True, kw_only=True)
class L1Sparse(Method):
    """Fine-tuning on the retain set with a decaying penalty on the sum of the weights' magnitudes.

    Attributes:
        gamma: γ, weight of ‖θ‖₁ in the first pass; it falls linearly, once a pass, towards 0.
        epochs: passes over the retain set.
        learning_rate: of SGD, constant.
        momentum, weight_decay: of SGD.
        batch_size: examples in a retain batch.
        mode: "train" as published; "eval" freezes BatchNorm statistics and turns dropout off.
    """

    name: ClassVar[str] = "l1_sparse"
    source: ClassVar[str] = "Jia et al. 2023, arXiv 2304.04934"
    tunable: ClassVar[dict[str, Tunable]] = {
        "gamma": Tunable(low=1e-6, high=1e-2),
        "epochs": Tunable(low=1, high=20),
        "learning_rate": Tunable(low=1e-4, high=0.1),
    }

    gamma: float = 5e-4
    epochs: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    mode: Literal["train", "eval"] = "train"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        check_positive(gamma=self.gamma, learning_rate=self.learning_rate)
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        parameters = trainable_parameters(model)

        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            retain_loss = batch_mean(job.objective, model, step.batches["retain"])
            size = l1_norm(parameters)
            return {"loss": retain_loss + step.values["gamma"] * size, "retain_loss": retain_loss, "l1_norm": size}

        loader = job.loader(job.request.retain_set, self.batch_size, "retain batches", mode=self.mode)
        return take_steps(
            model,
            job,
            self._steps(loader),
            step_loss,
            sgd(model, momentum=self.momentum, weight_decay=self.weight_decay),
            total=self.epochs * len(loader),
            mode=self.mode,
            description="fine-tuning with a penalty",
        )

    def _steps(self, loader: Loader) -> Iterator[Step]:
        for epoch in range(self.epochs):
            gamma = linear_decay(self.gamma, 0.0, epoch, self.epochs)
            for batch in loader:
                yield Step({"retain": batch}, self.learning_rate, {"epoch": float(epoch), "gamma": gamma})


def l1_norm(tensors: Sequence[Tensor]) -> Tensor:
    """‖θ‖₁, the sum of all entries' magnitudes over all tensors; its gradient at 0 is 0."""
    return torch.stack([each.abs().sum() for each in tensors]).sum()
