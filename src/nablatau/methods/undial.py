"""UnDIAL: the model learns what it said itself of the forget set, with the memorised tokens made less likely.

Source: Dong, Lin, Belkin, Huerta, Vulić, "UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in Large
Language Models", NAACL 2025, arXiv 2402.10052. With z⁰ the original's logits at a token whose true word is y,

    p = softmax(z⁰ − β · 1_y),    L = mean over forget records of the mean over tokens of −Σ_v p_v log softmax(z)_v

The target stays where it is, so that the loss has a lower bound, which ascent has not. The paper has no retain term;
`retain_weight` adds one. Its focused variant, which lowers nouns and names alone, is had by labels of −100 elsewhere.

Where we differ: a batch's loss is the mean over records, not over all its tokens.

Shapes: B examples in a batch, T positions, R rows of tokens, V words.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import log_softmax

from nablatau import tokens
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Need, Tunable
from nablatau.methods.forget_passes import ForgetPasses, check_not_negative, forget_passes
from nablatau.methods.steps import reference_of
from nablatau.recipes import check_positive
from nablatau.training import mean_of_outputs, whole_mean


@dataclass(frozen=True, kw_only=True)
class Undial(ForgetPasses):
    """Self-distillation on the forget set with the logits of its true tokens lowered.

    The figures are those of the OpenUnlearning benchmark, for models of a billion weights on TOFU. The authors' own
    command, for GPT-Neo 125M, has a strength of 3, a rate of 1e-6 and batches of 64, in 10 passes too.

    Attributes:
        strength: β, by which the logit of the true token is lowered.
        retain_weight: of the mean loss of retain records; with 0 none is read.
        epochs … mode: as of `ForgetPasses`; passes are 10, the rate 1e-4 and batches 16 here.
    """

    name: ClassVar[str] = "undial"
    source: ClassVar[str] = "Dong et al. 2025, arXiv 2402.10052"
    needs: ClassVar[frozenset[Need]] = frozenset({"tokens"})
    tunable: ClassVar[dict[str, Tunable]] = ForgetPasses.tunable | {"strength": Tunable(low=1.0, high=30.0)}

    epochs: int = 10
    learning_rate: float = 1e-4
    batch_size: int = 16
    strength: float = 10.0
    retain_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(strength=self.strength)
        check_not_negative(retain_weight=self.retain_weight)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        reference = reference_of(model, job)

        def distillation(model: nn.Module, batch: RecordBatch) -> dict[str, Tensor]:
            targets_BT = job.objective.targets(batch.data)
            with reference.asked() as original:
                original_BTV = job.objective.outputs(original, batch.data)
            logits_BTV = job.objective.outputs(model, batch.data)
            lowered = partial(undial_rows, strength=self.strength)
            losses_BT = tokens.of_tokens(lowered, logits_BTV, targets_BT, original_BTV)
            return {
                "forget_term": whole_mean(tokens.mean_over_tokens(losses_BT, targets_BT), batch),
                "forget_loss": mean_of_outputs(job.objective, logits_BTV.detach(), targets_BT, batch),
            }

        return forget_passes(
            model, job, self, distillation, retain_weight=self.retain_weight, description="teaching itself"
        )


def undial_rows(logits_RV: Tensor, targets_R: Tensor, original_RV: Tensor, *, strength: float) -> Tensor:
    """−Σ_v p_v log softmax(z)_v of each row, p = softmax(z⁰ − β · 1_y).

    Args:
        logits_RV: z, the student's, in float32 or wider.
        targets_R: y; a row of −100 has a value that is not to be used.
        original_RV: z⁰.
        strength: β.
    """
    words_R1 = targets_R.clamp(min=0)[:, None]
    original_RV = original_RV.to(logits_RV.dtype)
    aims_RV = original_RV.scatter(1, words_R1, original_RV.gather(1, words_R1) - strength)
    return -(aims_RV.softmax(dim=1) * log_softmax(logits_RV, dim=1)).sum(dim=1)
