"""Gradient ascent: the forget set's loss, climbed as language models are fine-tuned.

Source: Jang et al., "Knowledge Unlearning for Mitigating Privacy Risks in Language Models", ACL 2023, arXiv 2210.01504;
as the baseline "gradient ascent" of TOFU, Maini et al. 2024, arXiv 2401.06121, whose settings these are:

    L = −mean ℓ_forget

The loss is that of neg_grad.py, which climbs with SGD and stops at a bound. Here are TOFU's optimizer, schedule and
number of passes, and as published no bound: the loss has none either, and a high rate destroys the model.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nablatau.methods.base import Job
from nablatau.methods.forget_passes import ForgetPasses, ascent, forget_passes


@dataclass(frozen=True, kw_only=True)
class GradAscent(ForgetPasses):
    """Ascent on the forget set alone, for a fixed number of passes.

    Attributes:
        epochs … mode: as of `ForgetPasses`.
    """

    name: ClassVar[str] = "grad_ascent"
    source: ClassVar[str] = "Jang et al. 2023, arXiv 2210.01504; Maini et al. 2024, arXiv 2401.06121"
    shardable: ClassVar[bool] = True

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        return forget_passes(model, job, self, ascent(job), description="ascending")
