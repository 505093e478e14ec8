"""SCRUB+R: SCRUB, then back to the epoch whose error on the forget set is what unseen records would have.

Source: Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv 2302.09880, section "SCRUB and Rewind". SCRUB alone drives the error on the forget set up without end, and a
record that errs more than unseen ones is found as surely as one that errs less. So a checkpoint is kept after each
epoch; at the end the error of the final model on unseen records of the forget set's class distribution is the
reference, and the checkpoint whose error on the forget set is nearest to it is the result.

Where we differ from the authors' code, and why:
- it takes all validation records of the classes that occur in the forget set, whatever their shares there. Here the
  error is that of each class, weighted by the class's share of the forget set, which uses every unseen record and
  still is the error of a set distributed as the forget set is. A class without unseen records is left out;
- unseen records are those of the methods' half of the holdout set;
- its list of candidates begins with the original, of which it has no file; here the candidates are the epochs;
- of equally near checkpoints it takes the first; here it is the last, which has had most epochs of repair. Errors on
  small forget sets tie often.

Shapes: C classes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nablatau.data import Request
from nablatau.errors import RequestError, SettingsError
from nablatau.methods.base import Job
from nablatau.methods.distillation import MaxMin, check_divergence, max_then_min
from nablatau.modes import in_mode
from nablatau.objectives import Objective
from nablatau.recipes import Recipe
from nablatau.records import Records
from nablatau.runtime import sum_over_processes


@dataclass(frozen=True, kw_only=True)
class ScrubR(MaxMin):
    """SCRUB, then back to the epoch whose error on the forget set is nearest that on like unseen records.

    Attributes:
        epochs … mode: as of `MaxMin`.
    """

    name: ClassVar[str] = "scrub_r"

    def _check(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> None:
        super()._check(model, request, objective, recipe)
        check_divergence(self.name, objective)
        if objective.kind != "single-label":
            raise SettingsError(
                f"{self.name} rewinds to the error of unseen records of the same classes, and in {objective.kind} data "
                "a record has no one class. Use scrub."
            )

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        forget, unseen = job.request.forget_set, job.request.holdout_set
        _, forget_count_C = mistakes(model, forget, job)
        class_error(*mistakes(model, unseen, job), forget_count_C)  # refuses before any step is taken
        checkpoints: list[dict[str, Tensor]] = []
        forget_errors: list[float] = []

        def after_epoch() -> None:
            checkpoints.append({name: tensor.cpu().clone() for name, tensor in model.state_dict().items()})
            wrong_C, _ = mistakes(model, forget, job)
            forget_errors.append(float(wrong_C.sum()) / len(forget))

        max_then_min(model, job, self, after_epoch)
        reference = class_error(*mistakes(model, unseen, job), forget_count_C)
        chosen = nearest(forget_errors, reference)
        model.load_state_dict(checkpoints[chosen])
        job.history.columns["kept"] = [float(epoch <= chosen) for epoch in job.history.columns["epoch"]]
        return model


def nearest(errors: list[float], reference: float) -> int:
    """The position of the error nearest to the reference; of several equally near, the last."""
    return min(range(len(errors)), key=lambda epoch: (abs(errors[epoch] - reference), -epoch))


def class_error(wrong_C: Tensor, count_C: Tensor, weights_C: Tensor) -> float:
    """The error of a set whose classes have these weights: the mean of the classes' errors, so weighted.

    Args:
        wrong_C: wrongly classified records of each class.
        count_C: records of each class; a class without any is left out.
        weights_C: of each class, such as its records in another set.

    Raises:
        RequestError: no class with a weight has records.
    """
    weights_C = weights_C * (count_C > 0)
    if not weights_C.sum() > 0:
        raise RequestError(
            "No record of the methods' half of the holdout set has a class of the forget set, so it is unknown how "
            "much a model errs that never saw these records. Put records of these classes into the holdout set, or "
            "use scrub."
        )
    return float((weights_C * wrong_C / count_C.clamp(min=1)).sum() / weights_C.sum())


def mistakes(model: nn.Module, records: Records, job: Job) -> tuple[Tensor, Tensor]:
    """Wrongly classified records and all records of each class, over all processes.

    Args:
        model: asked in eval mode; its mode is put back.
        records: to classify.
        job: with the objective.

    Returns:
        wrong_C and count_C.
    """
    tallies: list[Tensor] = []
    loader = job.loader(records, job.runtime.evaluation_batch_size)
    with in_mode(model, "eval"), torch.no_grad(), job.runtime.autocast(job.device):
        for batch in loader:
            logits_BC, targets_B = job.objective.outputs(model, batch.data), job.objective.targets(batch.data)
            classes = logits_BC.shape[1]
            wrong_B = targets_B[logits_BC.argmax(dim=1) != targets_B]
            tally = torch.stack([torch.bincount(each, minlength=classes) for each in (wrong_B, targets_B)])
            tallies.append(tally * (batch.weight > 0))
    job.history.scored_samples += len(records)
    wrong_C, count_C = sum_over_processes(torch.stack(tallies).sum(dim=0)).double()
    return wrong_C, count_C
