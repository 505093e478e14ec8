"""Gradient difference: ascent on the forget set beside descent on the retain set, as language models are fine-tuned.

Source: Liu, Liu, Stone, "Continual Learning and Private Unlearning", CoLLAs 2022, arXiv 2203.12817; as the
baseline "gradient difference" of TOFU, Maini et al. 2024, arXiv 2401.06121, whose settings these are:

    L = −mean ℓ_forget + w · mean ℓ_retain        w = 1 in TOFU

The loss is that of neg_grad_plus.py up to the weights, β and 1 − β there. That file's pass is one over the retain set,
beside which forget batches go round; here it is one over the forget set. Like TOFU's ascent it has no bound.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nablatau.methods.base import Job, Tunable
from nablatau.methods.forget_passes import ForgetPasses, ascent, check_not_negative, forget_passes


@dataclass(frozen=True, kw_only=True)
class GradDiff(ForgetPasses):
    """Ascent on the forget set beside descent on the retain set.

    Attributes:
        retain_weight: w; with 0 this is grad_ascent.
        epochs … mode: as of `ForgetPasses`.
    """

    name: ClassVar[str] = "grad_diff"
    source: ClassVar[str] = "Liu et al. 2022, arXiv 2203.12817; Maini et al. 2024, arXiv 2401.06121"
    shardable: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = ForgetPasses.tunable | {"retain_weight": Tunable(low=0.1, high=100.0)}

    retain_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(retain_weight=self.retain_weight)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        weight = self.retain_weight
        return forget_passes(
            model, job, self, ascent(job), retain_weight=weight, description="descending and ascending"
        )
