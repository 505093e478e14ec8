"""IDK + DPO: the model comes to prefer another answer, such as "I don't know", to the one it is to forget.

Source: Rafailov et al., "Direct Preference Optimization", NeurIPS 2023, arXiv 2305.18290, as TOFU's code has it for
unlearning (Maini et al. 2024, arXiv 2401.06121, "preference optimization"), with a retain term:

    L = −(2/β) · mean log σ(β · [log(π_θ(a|x) / π_θ₀(a|x)) − log(π_θ(y|x) / π_θ₀(y|x))]) + w · mean ℓ_retain

y is the answer to be forgotten, a the one to give instead, θ₀ the original; probabilities are of whole answers (other
examples than texts: as in npo.py). The factor 2/β is that of the code of NPO (2404.05868), which compares with this;
AdamW's steps do not depend on a common one. TOFU's paper describes this loss by its idea only and also has "IDK" by
itself, descent on ℓ of the other answers.

The examples bring their other answers: an entry "alternative" of the same form (docs/guide.md, "Objectives").

Where we differ from that code: the original is asked once, before the first step, and not anew in every step, so that
no second model is held. The answer to give instead stays the same over the passes unless the data set draws
another; the original's probability of it is then that of the first.

Shapes: N forget records, B examples in a batch.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Need, Tunable
from nablatau.methods.forget_passes import ForgetPasses, check_not_negative, forget_passes
from nablatau.methods.steps import summed_losses
from nablatau.recipes import check_positive
from nablatau.training import whole_mean


@dataclass(frozen=True, kw_only=True)
class IdkDpo(ForgetPasses):
    """Direct preference for another answer, with descent on the retain set.

    β and weights are those of the code of NPO, whose baseline it is, passes and rate TOFU's.

    Attributes:
        beta: β, inverse temperature.
        retain_weight: w.
        epochs … mode: as of `ForgetPasses`.
    """

    name: ClassVar[str] = "idk_dpo"
    source: ClassVar[str] = "Maini et al. 2024, arXiv 2401.06121; Rafailov et al. 2023, arXiv 2305.18290"
    needs: ClassVar[frozenset[Need]] = frozenset({"alternatives"})
    tunable: ClassVar[dict[str, Tunable]] = ForgetPasses.tunable | {
        "beta": Tunable(low=0.03, high=3.0),
        "retain_weight": Tunable(low=0.1, high=100.0),
    }

    beta: float = 0.1
    retain_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(beta=self.beta)
        check_not_negative(retain_weight=self.retain_weight)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        objective, forget = job.objective, job.request.forget_set
        forgotten_N = summed_losses(model, job, forget, self.batch_size)
        instead_N = summed_losses(model, job, forget, self.batch_size, objective.alternative)

        def preference(model: nn.Module, batch: RecordBatch) -> dict[str, Tensor]:
            rows, other = batch.rows.to(job.device), objective.alternative(batch.data)
            forget_B, instead_B = (objective.loss(model, data, batch.size) for data in (batch.data, other))
            forgotten_ratios_B = forgotten_N[rows] - objective.summed(forget_B, batch.data)
            instead_ratios_B = instead_N[rows] - objective.summed(instead_B, other)
            return {
                "forget_term": whole_mean(dpo_losses(instead_ratios_B, forgotten_ratios_B, self.beta), batch),
                "forget_loss": whole_mean(forget_B.detach(), batch),
                "alternative_loss": whole_mean(instead_B.detach(), batch),
            }

        return forget_passes(
            model, job, self, preference, retain_weight=self.retain_weight, description="preferring other answers"
        )


def dpo_losses(preferred_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """−(2/β) · log σ(β · (preferred − rejected)) of each example.

    Args:
        preferred_B, rejected_B: log of the answer's probability now ÷ under the original.
        beta: β.
    """
    return -2 / beta * logsigmoid(beta * (preferred_B - rejected_B))
