"""Task vector, negated: what fine-tuning on the forget set would add to the weights is taken away from them.

Source: Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023, arXiv 2212.04089, "forgetting via negation":

    θ_f = θ fine-tuned on the forget set,    θ ← θ − λ · (θ_f − θ)

Needs losses alone. Nothing is drawn from the retain set. Buffers, such as BatchNorm statistics, stay the original's: a
variance less a variance may fall below 0.

Of an adapter (low_rank.py) θ are the weights it is added to, not its factors: with B = 0 at the start, A as fine-tuned
and −λ B take λ · B A away, exactly. An adapter that holds what the original learned is refused: the difference of
two products of rank r has a rank of up to 2r.

Where we differ: the paper fine-tunes a pretrained model on data whose kind is unwanted and chooses λ in 0 … 1 on
validation data that tell how much is kept; a request has no such data, so λ is a setting and is tuned as all are.
Passes, rate and batch are those of `ForgetPasses`, TOFU's for fine-tuning too, and not the paper's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nablatau.data import Request
from nablatau.errors import SettingsError
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Tunable
from nablatau.methods.forget_passes import ForgetPasses, forget_passes
from nablatau.methods.low_rank import fresh_factors, is_adapted
from nablatau.objectives import Objective
from nablatau.recipes import Recipe, check_positive
from nablatau.training import batch_mean


@dataclass(frozen=True, kw_only=True)
class TaskVector(ForgetPasses):
    """Fine-tuning on the forget set, and as far in the other direction.

    Attributes:
        scale: λ.
        epochs … mode: as of `ForgetPasses`, of the fine-tuning.
    """

    name: ClassVar[str] = "task_vector"
    source: ClassVar[str] = "Ilharco et al. 2023, arXiv 2212.04089"
    tunable: ClassVar[dict[str, Tunable]] = ForgetPasses.tunable | {"scale": Tunable(low=0.05, high=5.0)}

    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(scale=self.scale)

    def _check(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> None:
        super()._check(model, request, objective, recipe)
        if is_adapted(model) and fresh_factors(model) is None:
            raise SettingsError(
                f"{self.name} takes away from the weights what fine-tuning adds to them, and of an adapter that adds "
                "something already (or is no LoRA) the result is no adapter of its form. Merge it first "
                "(model.merge_and_unload(), then save_pretrained), with --lora-rank for a fresh one; or use a method "
                "that takes steps alone, such as grad_diff."
            )

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        def descent(model: nn.Module, batch: RecordBatch) -> dict[str, Tensor]:
            forget_loss = batch_mean(job.objective, model, batch)
            return {"forget_term": forget_loss, "forget_loss": forget_loss}

        kept = (fresh_factors(model) if is_adapted(model) else None) or set()
        moving = [each for name, each in model.named_parameters() if each.requires_grad and name not in kept]
        before = [weight.detach().clone() for weight in moving]
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        forget_passes(model, job, self, descent, description="fine-tuning on what is to go")
        with torch.no_grad():
            for weight, original in zip(moving, before, strict=True):
                weight.copy_(original - self.scale * (weight - original))
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        return model
