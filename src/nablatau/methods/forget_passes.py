"""What most methods for language models share: passes over the forget set, each batch with a retain batch beside it.

Source: Maini, Feng, Schwarzschild, Lipton, Kolter, "TOFU: A Task of Fictitious Unlearning for LLMs", COLM 2024, arXiv
2401.06121, section 4 and code, which the code of NPO (2404.05868) and SimNPO (2410.07163) goes on from. Each step takes
a batch of the forget set and as large a one of the retain set and descends

    L = L_forget + w · mean ℓ_retain

with AdamW. The rate rises in a line over the first pass and falls in a line to 0 over the others.

Where we differ from that code, and why:
- its first step has a rate of 0; here the line begins one step later, so that no step is spent without a move;
- it draws a retain record at random for each forget record, so that some come twice in a pass; here retain batches go
  round, each round shuffled, so that every record is seen equally often;
- a batch's retain loss is the mean over its records of the mean over their tokens, theirs the mean over all
  tokens of the batch, in which long texts weigh more;
- dropout is off unless `mode` says otherwise, as in every method here; the models they use have none.

`learning_rate` is for models of billions of weights: it moves small ones hardly at all, and must be raised for them.

Shapes: B examples in a batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.loading import RecordBatch
from nablatau.methods.base import Job, Method, Tunable
from nablatau.methods.schedule import check_batch_norm
from nablatau.methods.steps import beside, passes, take_steps
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.training import batch_mean, trainable_parameters, whole_mean

ForgetTerm = Callable[[nn.Module, RecordBatch], dict[str, Tensor]]
"""From model and forget batch to "forget_term", which is descended, and other numbers for the history; all additive."""


@dataclass(frozen=True, kw_only=True)
class ForgetPasses(Method):
    """A method of passes over the forget set with AdamW: its settings, and the refusal of those that are impossible.

    Attributes:
        epochs: passes over the forget set.
        learning_rate: of AdamW at the end of the first pass, where it is highest.
        weight_decay: of AdamW.
        batch_size: examples in a forget batch, and in the retain batch beside it.
        mode: "eval" freezes BatchNorm statistics and turns dropout off during the steps; "train" does not.
    """

    tunable: ClassVar[dict[str, Tunable]] = {
        "learning_rate": Tunable(low=1e-6, high=1e-2),
        "epochs": Tunable(low=1, high=20, log=False),
    }

    epochs: int = 5
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    mode: Literal["train", "eval"] = "eval"

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        check_positive(learning_rate=self.learning_rate)
        check_not_negative(weight_decay=self.weight_decay)
        check_mode(self.mode)


def check_not_negative(**values: float) -> None:
    """Refuse settings that must be 0 or more.

    Raises:
        SettingsError: naming the setting, the rule and the value.
    """
    for name, value in values.items():
        if not value >= 0:
            raise SettingsError(f"{name} must be 0 or more, not {value!r}.")


def forget_passes(
    model: nn.Module,
    job: Job,
    settings: ForgetPasses,
    forget_term: ForgetTerm,
    *,
    description: str,
    retain_weight: float = 0.0,
) -> nn.Module:
    """Take all steps and return the model.

    Args:
        model: changed in place.
        job: with the request.
        settings: of the method.
        forget_term: L_forget and what else is to be recorded.
        description: what the progress bar says.
        retain_weight: w; with 0 no retain record is read.
    """
    request, mode, size = job.request, settings.mode, settings.batch_size
    check_batch_norm(model, len(request.forget_set), mode)
    forget = job.loader(request.forget_set, size, "forget batches", mode=mode)
    steps = warmed_up(passes("forget", forget, settings.epochs, settings.learning_rate), len(forget), settings.epochs)
    if retain_weight:
        steps = beside(steps, "retain", job.loader(request.retain_set, size, "retain batches", mode=mode))

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        numbers = forget_term(model, step.batches["forget"])
        if not retain_weight:
            return {"loss": numbers["forget_term"]} | numbers
        retain_loss = batch_mean(job.objective, model, step.batches["retain"])
        return {"loss": numbers["forget_term"] + retain_weight * retain_loss, "retain_loss": retain_loss} | numbers

    optimizer = torch.optim.AdamW(
        trainable_parameters(model), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    total = settings.epochs * len(forget)
    return take_steps(
        model, job, steps, step_loss, optimizer, total=total, mode=mode, description=description, additive=True
    )


def ascent(job: Job) -> ForgetTerm:
    """−mean ℓ_forget: the term of gradient ascent, alone and beside a retain term.

    Args:
        job: with the objective.
    """

    def term(model: nn.Module, batch: RecordBatch) -> dict[str, Tensor]:
        forget_loss = batch_mean(job.objective, model, batch)
        return {"forget_term": -forget_loss, "forget_loss": forget_loss}

    return term


def of_each_loss(job: Job, values: Callable[[Tensor, RecordBatch], Tensor]) -> ForgetTerm:
    """The mean over a forget batch of a function of each record's loss; the mean loss is recorded beside it.

    Args:
        job: with the objective.
        values: from loss_B and the batch to value_B.
    """

    def term(model: nn.Module, batch: RecordBatch) -> dict[str, Tensor]:
        losses_B = job.objective.loss(model, batch.data, batch.size)
        return {
            "forget_term": whole_mean(values(losses_B, batch), batch),
            "forget_loss": whole_mean(losses_B.detach(), batch),
        }

    return term


def warmed_up(steps: Iterator[Step], a_pass: int, epochs: int) -> Iterator[Step]:
    """The steps with a rate that rises in a line over the first pass and falls in a line over the others.

    Args:
        steps: with the highest rate.
        a_pass: steps in a pass.
        epochs: number of passes.
    """
    for taken, step in enumerate(steps):
        rising, falling = (taken + 1) / a_pass, (epochs * a_pass - taken) / max(1, (epochs - 1) * a_pass)
        step.learning_rate *= rising if taken < a_pass else falling
        yield step
