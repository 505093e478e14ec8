"""∇τ as published: adaptive gradient ascent on the forget set, descent on the retain set, stopped by unseen losses.

Source: Trippa, Campagnano, Bucarelli, Tolomei, Silvestri, "∇τ: Gradient-based and Task-Agnostic machine
Unlearning", arXiv 2403.14339, and the authors' public notebooks. Each step takes one forget and one retain batch:

    L = α · ReLU(τ − mean ℓ_forget)² + (1 − α) · mean ℓ_retain

τ is the mean loss of the current model on the holdout set, measured in eval mode every few forget epochs, without
gradient. α falls linearly over the forget epochs from α₀ = 5/3 · |forget| / |train|.

Where we differ from the published code, and why:
- the text notebook squares before the ReLU, which makes the hinge two-sided; here it is one-sided in both presets,
  as in the formula;
- more forget than retain batches divide by zero there; here they do not (see schedule.py);
- α₀ is capped at 1: above 60 % forgotten the rule would give the retain term a negative weight;
- the holdout set is never the test set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.methods.base import Job, Method
from nablatau.methods.schedule import check_batch_norm, descend, planned_steps, retain_batches
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean, linear_decay, mean_loss


@dataclass(frozen=True, kw_only=True)
class PublishedNablaTau(Method):
    """Adaptive gradient ascent on the forget set beside descent on the retain set.

    Attributes:
        budget: B, passes over the retain set that forget and retain batches together make.
        alpha: α₀, weight of the forget term at the start, 0 … 1; None for 5/3 of the forgotten share.
        learning_rate: of AdamW in the first forget epoch.
        final_learning_rate: towards which it falls linearly, once a forget epoch.
        weight_decay: of AdamW.
        batch_size: examples in a forget batch, and in a retain batch.
        tau_every: forget epochs between measurements of τ.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    name: ClassVar[str] = "nabla_tau_paper"
    source: ClassVar[str] = "Trippa et al. 2024, arXiv 2403.14339"
    shardable: ClassVar[bool] = True

    budget: float = 6.0
    alpha: float | None = None
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    batch_size: int = 256
    tau_every: int = 5
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(batch_size=self.batch_size, tau_every=self.tau_every)
        check_positive(
            budget=self.budget, learning_rate=self.learning_rate, final_learning_rate=self.final_learning_rate
        )
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise SettingsError(f"alpha must lie in 0 … 1, or be None for the published rule, not {self.alpha!r}.")
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            forget, retain = step.batches["forget"], step.batches["retain"]
            forget_loss = batch_mean(job.objective, model, forget)
            retain_loss = batch_mean(job.objective, model, retain)
            loss = nabla_tau_loss(forget_loss, retain_loss, step.values["tau"], step.values["alpha"])
            return {"loss": loss, "forget_loss": forget_loss, "retain_loss": retain_loss}

        check_batch_norm(model, len(job.request.forget_set), self.mode)
        epochs, forget_batches = planned_steps(job, self.batch_size, self.budget, self.mode)
        return descend(
            model,
            job,
            self._steps(model, job, epochs),
            step_loss,
            total=epochs * forget_batches,
            weight_decay=self.weight_decay,
            mode=self.mode,
            description="forgetting",
        )

    def _steps(self, model: nn.Module, job: Job, epochs: int) -> Iterator[Step]:
        request = job.request
        alpha_0 = self.alpha
        if alpha_0 is None:
            alpha_0 = initial_alpha(len(request.forget_set), request.training_size)
        forget_loader = job.loader(request.forget_set, self.batch_size, "forget batches", mode=self.mode)
        retain_loader = job.loader(request.retain_set, self.batch_size, "retain batches", mode=self.mode)
        holdout_loader = job.loader(request.holdout_set, job.runtime.evaluation_batch_size)
        tau = float("nan")
        for epoch, stream in enumerate(retain_batches(retain_loader, len(forget_loader), epochs)):
            if epoch % self.tau_every == 0:
                tau = mean_loss(model, holdout_loader, job.runtime)
                job.history.scored_samples += len(request.holdout_set)
            values = {"epoch": float(epoch), "tau": tau, "alpha": alpha_0 * (1 - epoch / epochs)}
            rate = linear_decay(self.learning_rate, self.final_learning_rate, epoch, epochs)
            for forget in forget_loader:
                yield Step({"forget": forget, "retain": next(stream)}, rate, values)


def nabla_tau_loss(forget_loss: Tensor, retain_loss: Tensor, tau: float, alpha: float) -> Tensor:
    """α · ReLU(τ − ℓ_forget)² + (1 − α) · ℓ_retain.

    Args:
        forget_loss: mean loss of the forget batch, a scalar.
        retain_loss: mean loss of the retain batch, a scalar.
        tau: mean loss on the holdout set.
        alpha: weight of the forget term.
    """
    return alpha * torch.relu(tau - forget_loss).square() + (1 - alpha) * retain_loss


def initial_alpha(forget_size: int, training_size: int) -> float:
    """α₀ = 5/3 · |forget| / |train|, at most 1."""
    return min(1.0, 5 / 3 * forget_size / training_size)


def paper() -> PublishedNablaTau:
    """The settings published for images: CIFAR-10 and CIFAR-100, any share, nothing adapted to it."""
    return PublishedNablaTau()


def paper_text() -> PublishedNablaTau:
    """The settings published for text: GoEmotions with RoBERTa."""
    return PublishedNablaTau(
        budget=1.0,
        alpha=0.5,
        learning_rate=3e-4,
        final_learning_rate=3e-4,
        batch_size=128,
        mode="train",
    )
