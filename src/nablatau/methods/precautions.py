"""What the default of ∇τ looks at before its first step and after its last, so that no one is harmed unawares.

Ours; the tolerance of `loss_of_utility` follows how errors fall with the number of records (Hestness et al. 2017, arXiv
1712.00409).

Shapes: F forget records, R retain records, M unseen records, N records of any kind.
"""

import math

from torch import Tensor, nn

from nablatau.data import Request
from nablatau.errors import NonFiniteLossError
from nablatau.loading import Loader, RecordBatch
from nablatau.methods.base import Job
from nablatau.records import Records
from nablatau.signals import JUDGED_KINDS, right_shares
from nablatau.statistics import auc_delong
from nablatau.training import values_of

TOLERATED_LOSS_OF_ACCURACY = 0.01
"""On unseen records, beside what fewer records cost; two retrained models differ by as much."""
FEW_UNSEEN = 30
"""Unseen records below which targets are coarse, and a loss of utility is hard to see."""


def refuse_not_finite(loss_N: Tensor, records: Records, part: str) -> None:
    """Refuse records on which the original model's loss is no number: no run could end well.

    Args:
        loss_N: of the records, under the original.
        records: N records.
        part: of the request that they are.

    Raises:
        NonFiniteLossError: with the ids of these records.
    """
    bad = (~loss_N.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise NonFiniteLossError(0, f"{part}_loss", float(loss_N[bad[0]]), {part: records.ids_at(bad)})


def qualities(model: nn.Module, loader: Loader, job: Job) -> Tensor:
    """Of each record how far its answer is right, 0 … 1; where answers are neither right nor wrong, minus its loss.

    Not the loss where there are answers: of an over-fitted model it grows with every step that makes it surer, while as
    many answers are right.

    Args:
        model: to ask, in eval mode.
        loader: over N records.
        job: for objective, runtime and history.

    Returns:
        (N,), the higher the better; −∞ where the loss is no number.
    """
    kind = job.objective.kind

    def right(model: nn.Module, batch: RecordBatch) -> Tensor:
        return right_shares(kind, job.objective.outputs(model, batch.data), job.objective.targets(batch.data))

    job.history.scored_samples += len(loader.records)
    if kind in JUDGED_KINDS:
        return values_of(model, loader, job.runtime, right)

    def loss(model: nn.Module, batch: RecordBatch) -> Tensor:
        return job.objective.loss(model, batch.data, batch.size)

    return -values_of(model, loader, job.runtime, loss).nan_to_num(nan=math.inf)


def loss_of_utility(before_M: Tensor, after_M: Tensor, forgotten: float) -> str:
    """What has become worse on unseen records, in words; empty if nothing has that can be told from chance.

    A one-sided paired z test: worse is what lies beyond the tolerance with 99 % confidence. The tolerance is a point of
    accuracy, or of other values 5 % of their spread, and what any model loses that learned from fewer records: with the
    share s forgotten, an error e may become e · (1 − s)^(−½), as errors fall that fall with the root of the number of
    records (few fall faster: Hestness et al. 2017, arXiv 1712.00409). On small sets retraining loses as much.

    Args:
        before_M, after_M: of each unseen record, the higher the better: how far it is right, 0 … 1, or minus its loss.
        forgotten: share s of the training set, 0 … 1.
    """
    change_M = after_M - before_M
    if len(change_M) < 2:
        return ""
    correct = all(bool(((each >= 0) & (each <= 1)).all()) for each in (before_M, after_M))
    tolerated = TOLERATED_LOSS_OF_ACCURACY if correct else 0.05 * float(before_M.std())
    error = float(correct) - float(before_M.mean())
    tolerated += max(0.0, error) * ((1 - forgotten) ** -0.5 - 1)
    if float(change_M.mean() + 2.326 * change_M.std() / math.sqrt(len(change_M))) >= -tolerated:
        return ""
    what = "accuracy" if correct else "mean loss"
    first, last = (float(each.mean()) if correct else -float(each.mean()) for each in (before_M, after_M))
    return f"{what} on {len(change_M)} unseen records went from {first:.3f} to {last:.3f}"


def notices(forget_F: Tensor, retain_R: Tensor, unseen_M: Tensor, request: Request) -> list[str]:
    """What the losses before the first step say about the request, in sentences; empty if there is nothing to say.

    Args:
        forget_F, retain_R, unseen_M: losses under the original, of the forget records, of some of the retain records
            and of unseen ones.
        request: what is to be forgotten.
    """
    found = []
    if len(unseen_M) < FEW_UNSEEN:
        found.append(
            f"Only {len(unseen_M)} unseen records show the method what to aim at (half of the holdout set; "
            f"{FEW_UNSEEN} or more are wanted), so targets are coarse and a loss of quality may go unseen. Pass a "
            "larger holdout set."
        )
    if len(request.forget_set) > len(request.retain_set):
        found.append(
            f"More is forgotten ({len(request.forget_set)}) than kept ({len(request.retain_set)}): retraining from "
            "scratch on what is kept costs little here, and is exact."
        )
    if request.goal == "records" and min(len(forget_F), len(unseen_M)) >= FEW_UNSEEN:
        area = auc_delong(-forget_F.numpy(), -unseen_M.numpy())
        if area.low <= 0.5:
            found.append(
                "Before anything was done, the model's losses did not tell the forget set from unseen records (AUC "
                f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]): by this measure there is little to forget."
            )
    if float(unseen_M.median()) > 10 * max(float(forget_F.median()), float(retain_R.mean()), 0.1):
        found.append(
            f"Unseen records have a median loss of {unseen_M.median():.3g}, forgotten ones "
            f"{forget_F.median():.3g}: so far apart that the holdout set may come from another source, or carry "
            "other labels, than the training set. The forgotten records would be pushed there. Check it."
        )
    return found
