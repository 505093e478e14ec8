"""NegGrad+: descent on the retain set beside weighted ascent on the forget set.

Source: Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv 2302.09880, baseline NegGrad+. Each step takes one retain and one forget batch:

    L = β · mean ℓ_retain − (1 − β) · mean ℓ_forget

An epoch is a pass over the retain set; forget batches go round beside it.

Where we differ from the authors' code, and why:
- it runs round the forget batches in one frozen order, begun anew each epoch; here each round is shuffled and goes on
  where the epoch before left off, so that every forget record is seen equally often;
- in their private-data notebook the network is in train mode; here BatchNorm statistics are frozen unless
  `mode` says otherwise, as in every method here: a batch of forget records alone would shift them.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.schedule import check_batch_norm
from nablatau.methods.steps import beside, passes, sgd, take_steps
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean


@dataclass(frozen=True, kw_only=True)
class NegGradPlus(Method):
    """Descent on the retain set minus a share of the loss on the forget set.

    β, rate and epochs are the paper's for its small-scale experiments; β = 0.9999 and 5 epochs, its large-scale ones,
    push so little that on small tasks it is fine-tuning. That SGD has neither momentum nor weight decay, and the
    batch sizes, are from the authors' private-data notebook.

    Attributes:
        beta: β, weight of the retain term, 0 … 1; 1 − β is that of the ascent.
        epochs: passes over the retain set.
        learning_rate: of SGD.
        retain_batch_size: examples in a retain batch.
        forget_batch_size: examples in a forget batch.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    name: ClassVar[str] = "neg_grad_plus"
    source: ClassVar[str] = "Kurmanji et al. 2023, arXiv 2302.09880"
    shardable: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = {
        "beta": Tunable(low=0.8, high=0.9999, log=False),
        "learning_rate": Tunable(low=1e-4, high=1e-1),
        "epochs": Tunable(low=1, high=10, log=False),
    }

    beta: float = 0.95
    epochs: int = 10
    learning_rate: float = 0.01
    retain_batch_size: int = 32
    forget_batch_size: int = 16
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(
            epochs=self.epochs, retain_batch_size=self.retain_batch_size, forget_batch_size=self.forget_batch_size
        )
        check_positive(learning_rate=self.learning_rate)
        if not 0 <= self.beta <= 1:
            raise SettingsError(f"beta must lie in 0 … 1, not {self.beta!r}.")
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            retain_loss = batch_mean(job.objective, model, step.batches["retain"])
            forget_loss = batch_mean(job.objective, model, step.batches["forget"])
            loss = neg_grad_plus_loss(forget_loss, retain_loss, self.beta)
            return {"loss": loss, "forget_loss": forget_loss, "retain_loss": retain_loss}

        request = job.request
        check_batch_norm(model, len(request.forget_set), self.mode)
        retain = job.loader(request.retain_set, self.retain_batch_size, "retain batches", mode=self.mode)
        forget = job.loader(request.forget_set, self.forget_batch_size, "forget batches", mode=self.mode)

        return take_steps(
            model,
            job,
            beside(passes("retain", retain, self.epochs, self.learning_rate), "forget", forget),
            step_loss,
            sgd(model, momentum=0.0, weight_decay=0.0),
            total=self.epochs * len(retain),
            mode=self.mode,
            description="descending and ascending",
        )


def neg_grad_plus_loss(forget_loss: Tensor, retain_loss: Tensor, beta: float) -> Tensor:
    """β · ℓ_retain − (1 − β) · ℓ_forget.

    Args:
        forget_loss: mean loss of the forget batch, a scalar.
        retain_loss: mean loss of the retain batch, a scalar.
        beta: weight of the retain term.
    """
    return beta * retain_loss - (1 - beta) * forget_loss
