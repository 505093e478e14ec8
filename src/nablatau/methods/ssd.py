"""Selective synaptic dampening (SSD): weights that matter far more to the forget set than to all data are shrunk.

Source: Foster, Schoepf, Brintrup, "Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening",
AAAI 2024, arXiv 2308.07707. With I_F and I_D the diagonals of the empirical Fisher matrix over the forget set and over
all training data, forget set included:

    where I_F > α · I_D:  θ ← min(λ · I_D / I_F, 1) · θ

Published settings: α = 10 and λ = 1 for ResNet-18, α = 5 for ViT, α = 50 and λ = 0.1 for faces (authors' code).

Where we differ, and why:
- α is by default chosen for each request. All data hold the forget set, so I_D ≥ share · I_F, and nothing can exceed
  α · I_D once the forgotten share is 1/α or more: from 10 % on the published α = 10 leaves every weight as it is.
  The rule is the authors' own later one (Schoepf, Foster, Brintrup, arXiv 2402.10098): α is the percentile
  100 − ln(1 + 100 · share) of I_F / I_D over all weights, so that 1.4 % of the weights are looked at where 3 % are
  forgotten, and 2.4 % where 10 % are. `alpha=10.0` is the published setting.
- Importances are means of squared gradients of single examples, as in the paper's formula. The authors' code squares
  the gradient of each batch's mean loss, so that its ratios depend on the batch size and on the order of the records.
- I_D is put together from forget and retain set, so that no record is read twice.

With an adapter the weights are the entries of its factors A and B, not those of B A. One that adds nothing yet is
refused: B is 0, and so is every gradient in A, so that nothing would be dampened but a head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nablatau.batches import Batch
from nablatau.data import Request
from nablatau.errors import SettingsError
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.importance import Notes, Terms, mean_squared_gradients
from nablatau.methods.low_rank import fresh_factors, is_adapted
from nablatau.objectives import Objective
from nablatau.recipes import Recipe, check_positive


@dataclass(frozen=True, kw_only=True)
class SelectiveSynapticDampening(Method):
    """Weights that matter far more to the forget set than to all data are shrunk.

    Attributes:
        alpha: α, times more important to the forget set than to all data that a weight must be; None for the rule
            of arXiv 2402.10098 (ours as the default: the published 10 changes nothing from 10 % forgotten on).
        dampening: λ, factor on I_D / I_F, by which a weight is multiplied; published: 1.
    """

    name: ClassVar[str] = "ssd"
    source: ClassVar[str] = "Foster et al. 2024, arXiv 2308.07707"
    deterministic: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = {
        "alpha": Tunable(low=1.0, high=100.0),
        "dampening": Tunable(low=0.05, high=5.0),
    }

    alpha: float | None = None
    dampening: float = 1.0

    def __post_init__(self) -> None:
        check_positive(dampening=self.dampening)
        if self.alpha is not None:
            check_positive(alpha=self.alpha)

    def _check(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> None:
        super()._check(model, request, objective, recipe)
        if is_adapted(model) and fresh_factors(model):
            raise SettingsError(
                f"{self.name} shrinks weights that hold what is to go, and an adapter that adds nothing yet holds "
                "nothing: its weights would come back as they are. Leave --lora-rank out, so that the model's own are "
                "looked at, or use a method that takes steps, such as grad_diff."
            )

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        def terms_of(model: nn.Module, batch: Batch, size: int) -> Terms:
            loss_B = job.objective.loss(model, batch, size)
            return Terms(loss_B[:, None], torch.ones_like(loss_B[:, None]), loss_B)

        request, notes = job.request, Notes(job)
        forget = mean_squared_gradients(model, job, request.forget_set, terms_of, notes, part="forget")
        retain = mean_squared_gradients(model, job, request.retain_set, terms_of, notes, part="retain")
        share = len(request.forget_set) / request.training_size
        everything = {name: share * forget[name] + (1 - share) * retain[name] for name in forget}
        alpha = adaptive_alpha(forget, everything, share) if self.alpha is None else self.alpha
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in forget:
                    factors = dampening_factors(forget[name], everything[name], alpha, self.dampening)
                    weight.mul_(factors.to(weight.dtype))
        return model


def dampening_factors(forget: Tensor, everything: Tensor, alpha: float, dampening: float) -> Tensor:
    """What each weight is multiplied by: min(λ · I_D / I_F, 1) where I_F > α · I_D, else 1.

    Args:
        forget: I_F, importance to the forget set.
        everything: I_D, importance to all training data, of the same shape.
        alpha: α.
        dampening: λ.
    """
    return torch.where(forget > alpha * everything, (dampening * everything / forget).clamp(max=1), 1.0)


def adaptive_alpha(forget: Mapping[str, Tensor], everything: Mapping[str, Tensor], share: float) -> float:
    """The percentile 100 − ln(1 + 100 · share) of I_F / I_D over all weights that matter to any record.

    Args:
        forget: I_F by name of the parameter.
        everything: I_D by name.
        share: of the training records that are forgotten.

    Returns:
        α; infinite where no weight matters to any record, so that none is dampened.
    """
    ratios = np.concatenate([(forget[name] / everything[name]).numpy(force=True).ravel() for name in forget])
    known = ratios[np.isfinite(ratios)]
    return float(np.percentile(known, 100 - math.log(1 + 100 * share))) if len(known) else math.inf
