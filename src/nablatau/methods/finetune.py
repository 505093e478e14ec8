"""Fine-tuning on the retain set: the baseline that forgets by neglect.

It follows the schedule of ∇τ as published (schedule.py) without the forget term, and so equals it with α₀ = 0 step for
step; what ∇τ gains over it is what the ascent is worth. The number of steps therefore depends on the request: half of
`budget` passes over the retain set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from nablatau.history import Step
from nablatau.methods.base import Job, Method
from nablatau.methods.schedule import descend, planned_steps, retain_batches
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean, linear_decay


@dataclass(frozen=True, kw_only=True)
class Finetune(Method):
    """Descent on the retain set alone.

    Attributes:
        budget: twice the passes over the retain set, as ∇τ counts them.
        learning_rate, final_learning_rate, weight_decay, batch_size, mode: as of `PublishedNablaTau`.
    """

    name: ClassVar[str] = "finetune"
    source: ClassVar[str] = "baseline of Trippa et al. 2024, arXiv 2403.14339"
    shardable: ClassVar[bool] = True

    budget: float = 6.0
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    batch_size: int = 256
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(batch_size=self.batch_size)
        check_positive(
            budget=self.budget, learning_rate=self.learning_rate, final_learning_rate=self.final_learning_rate
        )
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            retain = step.batches["retain"]
            loss = batch_mean(job.objective, model, retain)
            return {"loss": loss, "retain_loss": loss}

        epochs, forget_batches = planned_steps(job, self.batch_size, self.budget, self.mode)
        return descend(
            model,
            job,
            self._steps(job, epochs, forget_batches),
            step_loss,
            total=epochs * forget_batches,
            weight_decay=self.weight_decay,
            mode=self.mode,
            description="fine-tuning",
            additive=True,
        )

    def _steps(self, job: Job, epochs: int, forget_batches: int) -> Iterator[Step]:
        loader = job.loader(job.request.retain_set, self.batch_size, "retain batches", mode=self.mode)
        for epoch, stream in enumerate(retain_batches(loader, forget_batches, epochs)):
            rate = linear_decay(self.learning_rate, self.final_learning_rate, epoch, epochs)
            for _ in range(forget_batches):
                yield Step({"retain": next(stream)}, rate, {"epoch": float(epoch)})
