"""Negative gradient: plain gradient ascent on the forget set, stopped by a loss bound.

Source: Golatkar, Achille, Soatto, "Eternal Sunshine of the Spotless Net", CVPR 2020, arXiv 1911.04933, baseline
"negative gradient": move in the direction of increasing loss on the forget set. Each step takes one forget batch:

    L = −mean ℓ_forget

Where we differ, and why:
- the published baseline has no bound, and cross-entropy has none either: ascent runs on until the model is destroyed
  or the loss is no number. Here the batch that is found at `loss_bound` or above is not pushed any more and ends the
  run; only the first step is always taken. Unless set, the bound is the mean loss of the original on the methods'
  half of the holdout set: where records stand that were never trained on, nothing is left to forget. It is
  measured once, since ascent lifts the loss on all records, and a bound measured again would run ahead of it;
- the paper's sentence may be read as descent on the retain set beside it; that is neg_grad_plus.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.schedule import check_batch_norm
from nablatau.methods.steps import passes, sgd, take_steps
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean, mean_loss


@dataclass(frozen=True, kw_only=True)
class NegGrad(Method):
    """Ascent on the forget set alone, up to a bound.

    The paper gives no numbers for it, so the defaults are ours. The rate is that of the negative gradient in Kurmanji
    et al. 2023, SGD without momentum and weight decay likewise: with either, a step without a push would still move.

    Attributes:
        epochs: passes over the forget set at most; the bound usually ends the run long before.
        learning_rate: of SGD.
        batch_size: examples in a forget batch.
        loss_bound: mean loss of a forget batch from which on nothing is pushed; None for the mean loss of the
            original on unseen records. A removed class may want a higher one: a model that never saw a class has
            higher losses on it than on unseen records of the classes it knows.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    name: ClassVar[str] = "neg_grad"
    source: ClassVar[str] = "Golatkar et al. 2020, arXiv 1911.04933"
    shardable: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = {
        "learning_rate": Tunable(low=1e-4, high=1e-1),
        "loss_bound": Tunable(low=1e-2, high=1e1),
    }

    epochs: int = 200
    learning_rate: float = 0.01
    batch_size: int = 128
    loss_bound: float | None = None
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        check_positive(learning_rate=self.learning_rate)
        if self.loss_bound is not None and not math.isfinite(self.loss_bound):
            raise SettingsError(
                f"loss_bound must be a finite number, or None for the loss on unseen records, not {self.loss_bound!r}: "
                "ascent without a bound destroys the model."
            )
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        check_batch_norm(model, len(job.request.forget_set), self.mode)
        loader = job.loader(job.request.forget_set, self.batch_size, "forget batches", mode=self.mode)
        bound = unseen_loss(model, job) if self.loss_bound is None else self.loss_bound
        push, taken = 1.0, 0

        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            nonlocal push
            forget_loss = batch_mean(job.objective, model, step.batches["forget"])
            push = 1.0 if taken == 0 or forget_loss.item() < bound else 0.0
            return {"loss": -forget_loss if push else 0.0 * forget_loss, "forget_loss": forget_loss}

        def steps() -> Iterator[Step]:
            nonlocal taken
            for step in passes("forget", loader, self.epochs, self.learning_rate):
                if not push:
                    return
                step.values["loss_bound"] = bound
                yield step
                taken += 1

        return take_steps(
            model,
            job,
            steps(),
            step_loss,
            sgd(model, momentum=0.0, weight_decay=0.0),
            total=self.epochs * len(loader),
            mode=self.mode,
            description="ascending",
        )


def unseen_loss(model: nn.Module, job: Job) -> float:
    """The model's mean loss on the methods' half of the holdout set."""
    loader = job.loader(job.request.holdout_set, job.runtime.evaluation_batch_size)
    job.history.scored_samples += len(job.request.holdout_set)
    return mean_loss(model, loader, job.runtime)
