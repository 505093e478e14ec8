"""SimNPO: negative preference optimization by the mean loss of a token, without the original beside it.

Source: Fan et al., "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning", arXiv
2410.07163, equation for ℓ_SimNPO, with a retain term:

    L = −(2/β) · mean log σ(−(β/|y|) · log π_θ(y|x) − γ) + w · mean ℓ_retain,    −log π_θ(y|x) / |y| = ℓ

so that a long text is not pushed more than a short one, and one is left alone once it is unlikely, not once it is
unlikelier than before. Needs losses alone.

Where we differ: the authors weigh the two terms by 0.125 and 1 (TOFU's forget10), here by 1 and w = 8. AdamW's
steps do not depend on a common factor, up to its ε and the decay of weights.

Shapes: B examples in a batch.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from nablatau.methods.base import Job, Tunable
from nablatau.methods.forget_passes import ForgetPasses, check_not_negative, forget_passes, of_each_loss
from nablatau.recipes import check_positive


@dataclass(frozen=True, kw_only=True)
class SimNpo(ForgetPasses):
    """Negative preference optimization, length-normalised and without a reference.

    β, γ and the terms' ratio are those of the authors' command for TOFU's forget10 (2.5, 0 and 0.1375 for forget05).

    Attributes:
        beta: β, inverse temperature, of the mean loss of a token.
        gamma: γ, margin in units of β · ℓ: below 0 a text is left alone sooner, above 0 later.
        retain_weight: w.
        epochs … mode: as of `ForgetPasses`; passes are 10 here.
    """

    name: ClassVar[str] = "sim_npo"
    source: ClassVar[str] = "Fan et al. 2024, arXiv 2410.07163"
    shardable: ClassVar[bool] = True
    tunable: ClassVar[dict[str, Tunable]] = ForgetPasses.tunable | {
        "beta": Tunable(low=0.5, high=10.0),
        "retain_weight": Tunable(low=0.1, high=100.0),
    }

    epochs: int = 10
    beta: float = 4.5
    gamma: float = 0.0
    retain_weight: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(beta=self.beta)
        check_not_negative(retain_weight=self.retain_weight)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        return forget_passes(
            model,
            job,
            self,
            of_each_loss(job, lambda losses_B, _: sim_npo_losses(losses_B, self.beta, self.gamma)),
            retain_weight=self.retain_weight,
            description="making unlikely",
        )


def sim_npo_losses(losses_B: Tensor, beta: float, gamma: float) -> Tensor:
    """−(2/β) · log σ(β · ℓ − γ) of each example.

    Args:
        losses_B: ℓ, mean over tokens of −log of their probability.
        beta: β.
        gamma: γ.
    """
    return -2 / beta * logsigmoid(beta * losses_B - gamma)
