"""CF-k: catastrophic forgetting in the last k layers, which alone are fine-tuned on the retain set.

Source: Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, "Towards Adversarial Evaluations for Inexact Machine Unlearning",
arXiv 2201.06640, and the authors' code. All parameters but those of the last k layers are frozen; the others descend

    mean ℓ_retain

from the original's weights. What a layer is, and where freezing differs from the authors' code: see layers.py.

Settings: the paper varies k and trains by its models' own schedule, so there is no published default. Passes, rate and
momentum are those of the implementation that the benchmark of arXiv 2410.01276 takes over from arXiv 2302.09880;
k, batch size (as in the authors' scripts) and weight decay (the recipes' usual one) are ours to state.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from nablatau.history import Step
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.layers import last_layers, only_these_move
from nablatau.methods.steps import passes, sgd, take_steps
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean


@dataclass(frozen=True, kw_only=True)
class CfK(Method):
    """Fine-tuning of the last k layers alone on the retain set.

    Attributes:
        layers: k, layers with weights that move; normalisations after them move along. All where there are fewer.
        epochs: passes over the retain set.
        learning_rate: of SGD, constant.
        momentum, weight_decay: of SGD.
        batch_size: examples in a batch.
        mode: of the layers that move during the steps; the frozen ones' statistics never change.
    """

    name: ClassVar[str] = "cf_k"
    source: ClassVar[str] = "Goel et al. 2022, arXiv 2201.06640"
    tunable: ClassVar[dict[str, Tunable]] = {
        "layers": Tunable(low=1, high=12),
        "epochs": Tunable(low=1, high=20),
        "learning_rate": Tunable(low=1e-3, high=0.1),
    }

    layers: int = 2
    epochs: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    mode: Literal["train", "eval"] = "train"

    def __post_init__(self) -> None:
        check_counts(layers=self.layers, epochs=self.epochs, batch_size=self.batch_size)
        check_positive(learning_rate=self.learning_rate)
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            loss = batch_mean(job.objective, model, step.batches["retain"])
            return {"loss": loss, "retain_loss": loss}

        loader = job.loader(job.request.retain_set, self.batch_size, "retain batches", mode=self.mode)
        with only_these_move(model, last_layers(model, self.layers)) as still:
            return take_steps(
                model,
                job,
                passes("retain", loader, self.epochs, self.learning_rate),
                step_loss,
                sgd(model, momentum=self.momentum, weight_decay=self.weight_decay),
                total=self.epochs * len(loader),
                mode=self.mode,
                description="fine-tuning the last layers",
                still=still,
            )
