"""∇τ with nothing to tune: hot descent on the retain set, then a push of each forgotten record to where unseen ones go.

What it takes from "∇τ: Gradient-based and Task-Agnostic machine Unlearning" (Trippa et al., arXiv 2403.14339): ascent
on the records to forget beside descent on those to keep, adaptive and bounded by the losses of unseen records, for
any task that has a loss. The algorithm as published is in nabla_tau_paper.py; it matches one mean loss by ascent from
the old minimum, and by that takes single records further from where retraining would put them. Here instead:

1. **Look.** Losses of forget set, retain set (a sample) and holdout set under the original.
2. **Leave.** Descent on the retain set in train mode at a rate that rises to `turn` (heat.py), held back while the
   running retain loss is above a level half-way from the retain to the holdout loss: memory of single records goes,
   the rest stays.
3. **Look again**, half-way. The forget records are ordered by their loss *now*: those that only memory had held have
   lost most. The record of rank i gets as target the loss of rank i among unseen records: the smaller of what these
   have now and had at the start, so that targets cannot run away with the model.
4. **Settle.** The rate falls to 0. Forget records join the retain batches, each `visits` times in all, and are pushed
   by push · ReLU(target − loss) with the weight that a retain record has, so the push on a record depends neither on
   how many are forgotten nor on the batch size, and ends at its target. A small forget set is visited more often, each
   time with less weight: a step sees how far the last ones came, else the few visits of records that are alike, such
   as all of one author, push them together beyond their targets. The last tenth is descent alone, so that
   BatchNorm's statistics are those of records that stay.
5. **Look back.** If the model got worse on unseen records, or the loss became no number, the run starts again from
   the original with a quarter of the heat; after three such runs the original comes back, and a note says so.

Whatever it noticed and did stands in `history.notes`. It sees neither a test set nor a retrained model, nor the half
of the holdout set that is for evaluation. Experiments, also those that failed, are in docs/log.md.

Shapes: B examples in a batch, F forget records, N records of forget and retain set together.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from nablatau.errors import NonFiniteLossError, SettingsError
from nablatau.history import Step
from nablatau.loading import Loader, RecordBatch
from nablatau.methods.base import Job, Method
from nablatau.methods.heat import Heat, share_of_peak, turning_optimizer
from nablatau.methods.precautions import loss_of_utility, notices, qualities, refuse_not_finite
from nablatau.methods.steps import movable_state, take_steps
from nablatau.modes import Mode
from nablatau.recipes import check_counts, check_positive
from nablatau.records import Records
from nablatau.runtime import random_generator
from nablatau.training import values_of, whole_mean

RISE, LOOK, RETAIN_ALONE = 0.25, 0.5, 0.9
"""Shares of the steps: until the peak, until targets are set, and until the push ends."""
LEAST_BESIDE = 0.5
"""Forget records in each step of the push, as a share of its retain records, where the forget set is as large."""
MOST_PASSES = 20
"""Over a small retain set, beyond which it would be cheaper to train anew."""
COOLER = 0.25
"""Factor on the turn for another run after one that failed."""
RUNS = 3
EXPLAINED = (
    "nabla_tau, the default, descended on the retained records at a rate high enough to leave the old minimum, then "
    "let the rate fall and pushed each forgotten record up to the loss that unseen records of its rank have. Rates, "
    "steps and targets came from the model, the request and the losses seen on the way; nothing was tuned."
)
UNKNOWN_QUALITY = (
    "whether quality was kept is not known, for want of unseen records of classes that stay: pass a larger holdout "
    "set, for a class request with holdout_labels."
)


@dataclass(frozen=True, kw_only=True)
class NablaTau(Method):
    """Hot descent on the retain set, then a bounded push of each forget record; nothing that a user must set.

    Attributes:
        passes: over the retain set.
        least_records: retain records to take steps on, where that is more: small sets get more passes, up to 20.
        turn: largest rate, as a share of each tensor's size a step (heat.py).
        heat: level of the running loss above which the rate is held back: 0 is the retain loss, 1 the holdout loss.
        push: weight of a forget record below its target, relative to a retain record.
        visits: times that each forget record is pushed; in a small forget set more often, with as much less weight.
        keep_lengths: scale weights back to the length they had after each step.
        batch_size: retain records in a step; None for a 200th of the training set, between 8 and 256. Another size
            takes as many records in other steps, and the turn times the root of the ratio.
    """

    name: ClassVar[str] = "nabla_tau"
    source: ClassVar[str] = "nablatau; after Trippa et al. 2024, arXiv 2403.14339"
    shardable: ClassVar[bool] = True

    passes: float = 2.5
    least_records: int = 8000
    turn: float = 0.08
    heat: float = 0.5
    push: float = 1.0
    visits: float = 4.0
    keep_lengths: bool = True
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_positive(passes=self.passes, turn=self.turn)
        check_counts(least_records=self.least_records)
        if self.batch_size is not None:
            check_counts(batch_size=self.batch_size)
        for name in ("heat", "push", "visits"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must be 0 or more, not {getattr(self, name)!r}.")
        for name in ("passes", "turn", "heat", "push", "visits"):
            if not math.isfinite(getattr(self, name)):
                raise SettingsError(f"{name} must be finite, not {getattr(self, name)!r}.")

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        plan = _Plan.of(self, job)
        before = _Before.of(model, plan, job)
        job.history.notes += [EXPLAINED, *notices(before.forget, before.retain, before.holdout, job.request)]
        original = movable_state(model)
        for run in range(RUNS):
            turn = plan.turn * COOLER**run
            try:
                account = self._attempt(model, plan, before, turn, job)
            except NonFiniteLossError as error:
                model.load_state_dict(original, strict=False)
                refuse_not_finite(_losses(model, plan.loader, plan, job), plan.loader.records, "train")
                why = f"the loss became no number at step {error.step}"
            else:
                share = len(job.request.forget_set) / job.request.training_size
                why = loss_of_utility(before.utility, qualities(model, plan.kept_loader, job), share)
                if not why:
                    job.history.notes.append(account)
                    return model
            model.load_state_dict(original, strict=False)
            again = "It was undone, and run again with a quarter of the heat." if run < RUNS - 1 else "It was undone."
            job.history.notes.append(f"A run with turns of up to {turn:.2g} failed: {why}. {again}")
        job.history.notes.append(
            "No run kept the model's quality, so the model came back AS IT WAS: nothing has been forgotten. Look at "
            "the records for values that are not finite, or use another method: retrain, with the training recipe."
        )
        return model

    def _attempt(self, model: nn.Module, plan: "_Plan", before: "_Before", turn: float, job: Job) -> str:
        """One run from the original, in place; what was done and why it stopped, as a sentence."""
        remembered, unseen = float(before.retain.mean()), float(before.holdout.mean())
        control = Heat(remembered + self.heat * (unseen - remembered))
        target_N = torch.full((len(plan.loader.records),), -math.inf)
        halfway_F = torch.empty(0)
        reads, lighter = plan.forget_reads(self.visits)

        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            batch = step.batches["retain"]
            loss_B = job.objective.loss(model, batch.data, batch.size)
            forget_B = (batch.rows >= plan.retain_count).to(loss_B.device)
            short_B = torch.relu(target_N[batch.rows].to(loss_B) - loss_B)
            parts = batch.whole_size / plan.batch_size
            retain_loss = whole_mean(torch.where(forget_B, torch.zeros_like(loss_B), loss_B), batch) * parts
            short = whole_mean(torch.where(forget_B, short_B, torch.zeros_like(loss_B)), batch) * parts
            return {"loss": retain_loss + self.push * lighter * short, "retain_loss": retain_loss, "shortfall": short}

        def on_step(row: dict[str, float]) -> None:
            control.see(row["retain_loss"])
            if job.on_step is not None:
                job.on_step(row)

        def rate(step: int) -> float:
            return turn * control.share * share_of_peak((step + 0.5) / plan.steps, RISE)

        def steps() -> Iterator[Step]:
            for number, batch in enumerate(plan.retain_steps(0, plan.look_at)):
                yield Step({"retain": batch}, rate(number), {"heat": control.share})
            nonlocal halfway_F
            halfway_F, now_M = (_losses(model, each, plan, job) for each in (plan.forget_loader, plan.holdout_loader))
            aim_M = torch.minimum(before.holdout.sort().values, now_M.sort().values)
            target_N[plan.retain_count :] = targets_by_rank(halfway_F, aim_M)
            for number, batch in enumerate(plan.joined_steps(reads), plan.look_at):
                yield Step({"retain": batch}, rate(number), {"heat": control.share})

        take_steps(
            model,
            replace(job, on_step=on_step),
            steps(),
            step_loss,
            turning_optimizer(model, keep_lengths=self.keep_lengths),
            total=plan.steps,
            mode=plan.mode,
            description="forgetting",
            additive=True,
        )
        after_F = _losses(model, plan.forget_loader, plan, job)
        return (
            f"Mean loss of the {len(after_F)} forgotten records: {before.forget.mean():.3g} before, "
            f"{halfway_F.mean():.3g} half-way, {after_F.mean():.3g} at the end, where their targets averaged "
            f"{target_N[plan.retain_count :].mean():.3g} and unseen records had {unseen:.3g} before. It stopped after "
            f"{plan.steps} steps, {plan.passes:.3g} passes over the retained records, as planned from their number; "
            + ("quality on unseen records was kept." if len(before.utility) > 1 else UNKNOWN_QUALITY)
        )


# ---------------------------------------------------------------------- formulas


def targets_by_rank(forget_loss_F: Tensor, unseen_loss_M: Tensor) -> Tensor:
    """The loss that each forget record should have: that of the same rank among unseen records.

    Args:
        forget_loss_F: losses of the forget records; their order decides.
        unseen_loss_M: losses of unseen records, sorted.

    Returns:
        (F,) for rank i of F the value at ⌊(i + ½) · M / F⌋.
    """
    rank_F = forget_loss_F.argsort(stable=True).argsort(stable=True)
    return unseen_loss_M[((rank_F + 0.5) / len(rank_F) * len(unseen_loss_M)).long()]


def chosen_batch_size(training_size: int) -> int:
    """A 200th of the training set, to the nearest power of two, between 8 and 256."""
    return int(2 ** min(8, max(3, round(math.log2(training_size / 200)))))


# ---------------------------------------------------------------------- what is looked at


@dataclass(frozen=True, kw_only=True)
class _Before:
    """Under the original: losses of all forget records, of a sample of the retain set, of unseen ones; its utility."""

    forget: Tensor
    retain: Tensor
    holdout: Tensor
    utility: Tensor

    @classmethod
    def of(cls, model: nn.Module, plan: "_Plan", job: Job) -> "_Before":
        """Raises NonFiniteLossError where a loss is none before any step."""
        loaders = {"forget": plan.forget_loader, "retain": plan.sample_loader, "holdout": plan.holdout_loader}
        losses = {part: _losses(model, loader, plan, job) for part, loader in loaders.items()}
        for part, loss_N in losses.items():
            refuse_not_finite(loss_N, loaders[part].records, part)
        return cls(**losses, utility=qualities(model, plan.kept_loader, job))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is read when: positions in the retain records and, behind them, the forget records."""

    loader: Loader
    forget_loader: Loader
    holdout_loader: Loader
    sample_loader: Loader
    kept_loader: Loader
    retain_count: int
    batch_size: int
    steps: int
    turn: float
    mode: Mode
    seed: int
    job: Job = field(repr=False)

    @classmethod
    def of(cls, method: NablaTau, job: Job) -> "_Plan":
        request = job.request
        chosen = chosen_batch_size(request.training_size)
        batch_size = min(method.batch_size or chosen, len(request.retain_set))
        retain = len(request.retain_set)
        records = max(method.passes * retain, min(method.least_records, MOST_PASSES * retain))
        mode: Mode = "train" if batch_size > 1 else "eval"
        order = torch.randperm(len(request.retain_set), generator=random_generator(job.seed, "retain sample"))
        sample = request.retain_set.subset(order[: len(request.holdout_set)].sort().values.numpy())
        size = job.runtime.evaluation_batch_size
        return cls(
            loader=job.loader(_joined(request.retain_set, request.forget_set), batch_size, mode=mode),
            forget_loader=job.loader(request.forget_set, size),
            holdout_loader=job.loader(request.holdout_set, size),
            sample_loader=job.loader(sample, size),
            kept_loader=job.loader(request.holdout_set.subset(request.holdout_kept), size),
            retain_count=len(request.retain_set),
            batch_size=batch_size,
            steps=max(10, round(records / batch_size)),
            turn=method.turn * math.sqrt(batch_size / min(chosen, len(request.retain_set))),
            mode=mode,
            seed=job.seed,
            job=job,
        )

    @property
    def passes(self) -> float:
        """Over the retain set."""
        return self.steps * self.batch_size / self.retain_count

    @property
    def look_at(self) -> int:
        """The step at which targets are set."""
        return round(LOOK * self.steps)

    def loss(self, model: nn.Module, batch: RecordBatch) -> Tensor:
        """loss_B of a batch."""
        return self.job.objective.loss(model, batch.data, batch.size)

    def retain_steps(self, first: int, last: int) -> Iterator[RecordBatch]:
        """Retain batches of these steps."""
        return self.loader.batches_of(self._retain_rows()[first:last])

    @property
    def forget_count(self) -> int:
        """Records in the forget set."""
        return len(self.loader.records) - self.retain_count

    @property
    def pushing(self) -> int:
        """The steps, from the second look on, that forget records join."""
        return round(RETAIN_ALONE * self.steps) - self.look_at

    def forget_reads(self, visits: float) -> tuple[int, float]:
        """Forget records that join the steps in all, and the weight of each, so that the push is that of `visits`."""
        wanted = round(visits * self.forget_count)
        beside = min(self.forget_count, int(LEAST_BESIDE * self.batch_size))
        total = max(wanted, beside * self.pushing) if wanted else 0
        return total, wanted / max(1, total)

    def joined_steps(self, total: int) -> Iterator[RecordBatch]:
        """Retain batches of the steps from the second look on, joined by so many forget records, each equally often."""
        retain, pushing = self._retain_rows()[self.look_at :], self.pushing
        order = self._shuffled(self.forget_count, total, "forget batches") + self.retain_count
        ends = [total * (step + 1) // pushing for step in range(pushing)]
        forget = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        forget += [order[:0]] * (len(retain) - pushing)
        return self.loader.batches_of([torch.cat(pair) for pair in zip(retain, forget, strict=True)])

    def _retain_rows(self) -> list[Tensor]:
        rows = self._shuffled(self.retain_count, self.steps * self.batch_size, "retain batches")
        return list(torch.split(rows, self.batch_size))

    def _shuffled(self, count: int, total: int, stream: str) -> Tensor:
        """Pass after pass in fresh random order, cut at a total."""
        generator = random_generator(self.seed, stream)
        passes = [torch.randperm(count, generator=generator) for _ in range(-(-total // count))]
        return torch.cat(passes)[:total] if passes else torch.empty(0, dtype=torch.int64)


def _joined(retain: Records, forget: Records) -> Records:
    """The retain records and, behind them, the forget records, as one view."""
    if retain.dataset is forget.dataset and retain.ids is forget.ids:
        return Records(retain.dataset, np.concatenate([retain.positions, forget.positions]), retain.ids)
    ids = retain.ids_at(range(len(retain))) + forget.ids_at(range(len(forget)))
    return Records.all_of(ConcatDataset([retain, forget]), ids)  # type: ignore[list-item]


def _losses(model: nn.Module, loader: Loader, plan: _Plan, job: Job) -> Tensor:
    """The loss of each of a loader's records, counted in the history."""
    job.history.scored_samples += len(loader.records)
    return values_of(model, loader, job.runtime, plan.loss)
