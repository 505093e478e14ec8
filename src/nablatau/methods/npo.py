"""Negative preference optimization: records become unlikelier than under the original, less the unlikelier they are.

Source: Zhang, Lin, Bai, Mei, "Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning",
COLM 2024, arXiv 2404.05868, equation for L_NPO,β, with its retain term (NPO + GD):

    L = −(2/β) · mean log σ(−β · log(π_θ(y|x) / π_θ₀(y|x))) + w · mean ℓ_retain

π(y|x) is the probability of the whole answer, e to minus its summed token losses, and θ₀ the original. At β → 0 the
first term's gradient is that of ascent on the summed losses; a record that has become unlikely is pushed the less.

Any loss that is −log of a probability will do (`Objective.summed`): a class's is one as it is; of several labels it is
the sum over them. Of a regression it is that of normal errors of variance 1, ½ the sum of squares, so that β there goes
with the targets' unit: bring them to a spread of about 1.

Where we differ from the authors' code: the original is asked of each forget record once, before the first step, and
not anew in every step, so that no second model is held; with dropout (`mode="train"`) that answer is one without.

Shapes: N forget records, B examples in a batch.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Tunable
from nablatau.methods.forget_passes import ForgetPasses, check_not_negative, forget_passes, of_each_loss
from nablatau.methods.steps import summed_losses
from nablatau.recipes import check_positive


@dataclass(frozen=True, kw_only=True)
class Npo(ForgetPasses):
    """Negative preference optimization with descent on the retain set.

    β, passes, rate and weights are those of the authors' code for TOFU.

    Attributes:
        beta: β, inverse temperature: the larger, the sooner a record that has become unlikely is left alone.
        retain_weight: w; 0 is NPO without a retain term.
        epochs … mode: as of `ForgetPasses`; passes are 10 here.
    """

    name: ClassVar[str] = "npo"
    source: ClassVar[str] = "Zhang et al. 2024, arXiv 2404.05868"
    shardable: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = ForgetPasses.tunable | {
        "beta": Tunable(low=0.03, high=3.0),
        "retain_weight": Tunable(low=0.1, high=100.0),
    }

    epochs: int = 10
    beta: float = 0.1
    retain_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(beta=self.beta)
        check_not_negative(retain_weight=self.retain_weight)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        original_N = summed_losses(model, job, job.request.forget_set, self.batch_size)

        def values(losses_B: Tensor, batch: RecordBatch) -> Tensor:
            sums_B = job.objective.summed(losses_B, batch.data)
            return npo_losses(original_N[batch.rows.to(job.device)] - sums_B, self.beta)

        return forget_passes(
            model,
            job,
            self,
            of_each_loss(job, values),
            retain_weight=self.retain_weight,
            description="making unlikely",
        )


def npo_losses(log_ratios_B: Tensor, beta: float) -> Tensor:
    """−(2/β) · log σ(−β · r) of each example: above 0, and (2/β) · log 2 where nothing has changed.

    Args:
        log_ratios_B: r, log of the probability now ÷ under the original.
        beta: β.
    """
    return -2 / beta * logsigmoid(-beta * log_ratios_B)
