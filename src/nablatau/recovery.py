"""Recovery: does what was forgotten come back when the model is fine-tuned, rounded, or taught it again?

A model that only hides its forget set gives it back to whoever works on its weights; one that never saw it cannot.

- Fine-tuning on the retain set alone: Łucki et al. 2024, 2409.18025; Deeb & Roger 2024, 2410.08827.
- Weights rounded to 8 and 4 bits, which undoes small changes of weights: Zhang et al. 2024, 2410.16454.
- Relearning, timed in steps: Golatkar et al. 2020, 1911.04933; Chundawat et al. 2023, 2201.05629.

Each works on a copy and hands back arrays; the numbers are made of them in contrasts.py. All three look at the forget
set and the evaluation half of the holdout set, so nothing may be tuned on them. The copy of a model with an adapter has
the adapter worked into its weights (merging.py): what comes back is then the same in whichever form a model is saved.

Why there is no optimizer to choose: AdamW from 1e-3 with batches of 64, whatever the model was trained with. A recipe's
own rate is one for fresh weights: on digits with 30 % random labels, SGD at its 0.1 washed the memory out before it
showed and found 0 of 6 stopped ascents; AdamW found 0 at 1e-2, and all 6 at 1e-3 and at 3e-4. Where 1e-3 breaks a
network instead of waking it, the retain loss, which is being descended, ends higher than it began: the next lower
rate is tried. That choice sees the retain set alone and so treats forgotten and unseen records alike. Modules are in
train mode: where the statistics of BatchNorm hide the memory they are renewed.

Batches go forward and backward in pieces of no more examples than an evaluation reads at once, so that whoever can
score a model has the memory for its batches here; the gradient is that of the whole batch (pieces.py). BatchNorm
would normalise each piece by itself: a model that has it takes its batches whole.

Where we differ from the published relearn time: its code relearns on the whole training set, so that a set of one
percent takes ten times the steps of one of ten. Here about half of every batch are forget records, repeated as needed;
nothing but forget records would be won, for a whole class, by answering that class always.

Shapes: S seeds, T steps at which curves are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nablatau.batches import rows_of
from nablatau.data import Request
from nablatau.errors import EvidenceError, NonFiniteLossError, ObjectiveError, SettingsError
from nablatau.history import History, Step
from nablatau.loading import Loader
from nablatau.merging import whole_copy
from nablatau.objectives import Objective
from nablatau.quantisation import quantised
from nablatau.recipes import Recipe
from nablatau.records import Records
from nablatau.runtime import Runtime, isolated_randomness, process_count, random_generator
from nablatau.scoring import Scores, score
from nablatau.training import batch_mean, mean_loss, run_steps, trainable_parameters

STEPS = (10, 30, 100)
LEARNING_RATES = (1e-3, 1e-4, 1e-5)
BITS = (8, 4)
LADDER = (0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256)
BATCH_SIZE = 64
RETAIN_SAMPLE = 1024
"""Retain records on which it is seen whether fine-tuning broke the model."""


@dataclass(frozen=True, kw_only=True)
class Readout:
    """What a model says of forgotten records and of unseen ones like them.

    Attributes:
        forget: scores of the forget set.
        unseen: scores of the half of the holdout set kept for evaluation; for a class request, those of its classes.
    """

    forget: Scores
    unseen: Scores


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a model said before, and its copies after something was done to them.

    Attributes:
        goal: of the request.
        before: of the model as it was given.
        after: by steps of fine-tuning, or by bits of the rounded weights.
        learning_rate: the one of the fine-tuning; None for rounding. Hand it to the check of a reference model.
        retain_losses: mean loss on up to 1,024 retain records before and after the fine-tuning. Where the second is the
            higher, even the lowest rate broke the model, and that nothing came back says nothing.
    """

    goal: Literal["records", "class", "group"]
    before: Readout = field(repr=False)
    after: dict[int, Readout] = field(repr=False)
    learning_rate: float | None = None
    retain_losses: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Relearning:
    """Curves on the forget set while models are trained on it again, mixed with the retain set.

    Attributes:
        steps: (T,) steps at which the curves were read, from 0.
        seeds: (S,) seeds of order, dropout and, for a fresh model, weights.
        losses: by model, (S, T) mean loss on the forget set.
        accuracies: by model, (S, T) share of right predictions; empty where there are no single classes.
        learning_rate: of all of them.
    """

    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    losses: dict[str, npt.NDArray[np.float64]] = field(repr=False)
    accuracies: dict[str, npt.NDArray[np.float64]] = field(repr=False)
    learning_rate: float = LEARNING_RATES[0]


# ---------------------------------------------------------------------- fine-tuning on the retain set


def recover_by_finetuning(
    model: nn.Module,
    request: Request,
    objective: Objective,
    *,
    seed: int = 0,
    steps: Sequence[int] = STEPS,
    learning_rates: Sequence[float] = LEARNING_RATES,
    runtime: Runtime | None = None,
) -> Recovery:
    """Fine-tune a copy on the retain set, and read it out at some steps of the one run.

    Args:
        model: unlearned, or a reference; it stays as it is.
        request: with the half of the holdout set that is kept for evaluation.
        objective: what a batch and a loss are.
        seed: of order, dropout and transforms; the same seed gives the same bits.
        steps: at which to read out, rising, the first above 0.
        learning_rates: of AdamW, tried in this order until the retain loss ends no higher than it began.
        runtime: device, precision and batch size of scoring, which no piece of a training batch exceeds.

    Raises:
        SettingsError: steps or rates that cannot be, or no parameter of the model can be trained.
        EvidenceError: fewer than 2 forgotten or unseen records, or scores that are not finite.
        NonFiniteLossError: the fine-tuning diverged at the last rate too.
    """
    runtime = runtime or Runtime()
    _check_steps(steps, 1)
    _check_rates(learning_rates)
    read = _reader(request, objective, runtime)
    before = read(model)
    for rate in learning_rates:
        training = _Training(objective=objective, seed=seed, steps=steps, rate=rate, runtime=runtime)
        try:
            after, losses = _finetuned(model, request, read, training)
        except (NonFiniteLossError, EvidenceError):
            if rate == learning_rates[-1]:
                raise
            continue
        if losses[1] <= losses[0]:
            break
    return Recovery(goal=request.goal, before=before, after=after, learning_rate=rate, retain_losses=losses)


def _finetuned(
    model: nn.Module, request: Request, read: Callable[[nn.Module], Readout], training: "_Training"
) -> tuple[dict[int, Readout], tuple[float, float]]:
    """Readouts by step, and the retain loss before and after, of one run at one rate."""
    after: dict[int, Readout] = {}
    some = torch.randperm(len(request.retain_set), generator=random_generator(training.seed, "retain sample"))
    sample = request.retain_set.subset(some[:RETAIN_SAMPLE].numpy())
    runtime, device = training.runtime, training.runtime.device_for(model)
    loader = Loader(sample, training.objective, batch_size=runtime.evaluation_batch_size, device=device)
    with isolated_randomness(training.seed):
        working = whole_copy(model).to(device)
        first = mean_loss(working, loader, runtime)
        training.run(working, request.retain_set, lambda at: after.update({at: read(working)}))
        return after, (first, mean_loss(working, loader, runtime))


# ---------------------------------------------------------------------- rounded weights


def recover_by_rounding(
    model: nn.Module,
    request: Request,
    objective: Objective,
    *,
    bits: Sequence[int] = BITS,
    runtime: Runtime | None = None,
) -> Recovery:
    """Read out copies of the model with weights rounded to few bits.

    Args:
        model, request, objective, runtime: as in `recover_by_finetuning`.
        bits: of the weights, one copy for each entry.

    Raises:
        SettingsError: no bits, or bits outside 2 … 16.
        EvidenceError: fewer than 2 forgotten or unseen records, or scores that are not finite.
    """
    read = _reader(request, objective, runtime or Runtime())
    if not bits:
        raise SettingsError("bits must name one number of bits or more, such as (8, 4).")
    after = {each: read(quantised(model, each)) for each in bits}
    return Recovery(goal=request.goal, before=read(model), after=after)


# ---------------------------------------------------------------------- relearning


def relearn(
    models: Mapping[str, nn.Module],
    request: Request,
    objective: Objective,
    *,
    recipe: Recipe | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: Sequence[int] = LADDER,
    learning_rates: Sequence[float] = LEARNING_RATES,
    runtime: Runtime | None = None,
) -> Relearning:
    """Train copies of models on the forget set again, mixed with the retain set, and follow the forget set.

    Args:
        models: by name: "original" and "unlearned", and "retrained" where there is one; they stay as they are.
        request: forget and retain set.
        objective: what a batch and a loss are.
        recipe: adds "fresh", a model with new weights for each seed.
        seeds: one run of each model for each.
        steps: at which to read the curves, rising, from 0.
        learning_rates: of AdamW, tried in this order until no loss of any run is infinite or no number, so that one
            rate holds for all; the published code has Adam at 1e-3.
        runtime: device, precision and batch size of scoring, which no piece of a training batch exceeds.

    Raises:
        SettingsError: no model, steps or rates that cannot be, or layers for which `recipe` cannot draw fresh weights.
        NonFiniteLossError, EvidenceError: a run diverged at the last rate too.
    """
    runtime = runtime or Runtime()
    _check_steps(steps, 0)
    _check_rates(learning_rates)
    if not models or not seeds or "fresh" in models:
        raise SettingsError("relearn() needs one model and one seed at least; the name 'fresh' is its own.")
    for rate in learning_rates:
        runs = [_Training(objective=objective, seed=seed, steps=steps, rate=rate, runtime=runtime) for seed in seeds]
        try:
            arrays = _all_relearned(models, request, recipe, runs)
        except (NonFiniteLossError, EvidenceError):
            if rate == learning_rates[-1]:
                raise
            continue
        break
    losses = {name: array[:, :, 0] for name, array in arrays.items()}
    known = {name: array[:, :, 1] for name, array in arrays.items() if objective.kind == "single-label"}
    return Relearning(steps=tuple(steps), seeds=tuple(seeds), losses=losses, accuracies=known, learning_rate=rate)


def _all_relearned(
    models: Mapping[str, nn.Module], request: Request, recipe: Recipe | None, runs: Sequence["_Training"]
) -> dict[str, npt.NDArray[np.float64]]:
    """By model, (S, T, 2): loss and accuracy of each run."""
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for run in runs:
        for name in [*models, "fresh"] if recipe is not None else [*models]:
            with isolated_randomness(run.seed):
                like = models.get(name, next(iter(models.values())))
                given = recipe.fresh_model(like) if recipe is not None and name == "fresh" else like
                curve = _relearned(given, request, run)
            curves.setdefault(name, []).append(curve)
    return {name: np.array(each) for name, each in curves.items()}


def _relearned(model: nn.Module, request: Request, training: "_Training") -> list[tuple[float, float]]:
    """Mean loss and, where there is one, accuracy on the forget set at each of the steps."""
    curve: list[tuple[float, float]] = []
    working = whole_copy(model).to(training.runtime.device_for(model))

    def read(_: int) -> None:
        scores = score(working, request.forget_set, training.objective, training.runtime)
        right = scores["correct"].mean() if "correct" in scores else np.nan
        curve.append((float(scores["loss"].mean()), float(right)))

    training.run(working, _half_and_half(request.forget_set, request.retain_set), read)
    return curve


def _half_and_half(forget: Records, retain: Records) -> Records:
    """Both, the fewer ones repeated until they are about as many as the others."""
    most = max(len(forget), len(retain))
    repeated = [np.tile(each.positions, round(most / len(each))) for each in (forget, retain)]
    return replace(retain, positions=np.concatenate(repeated))


# ---------------------------------------------------------------------- what all of them share


@dataclass(frozen=True, kw_only=True)
class _Training:
    """How copies are trained here: AdamW at one rate, in train mode."""

    objective: Objective
    seed: int
    steps: Sequence[int]
    rate: float
    runtime: Runtime

    def run(self, model: nn.Module, records: Records, read: Callable[[int], None]) -> None:
        """Descend the loss on the records in `model`, and call `read` at the steps."""
        device, order = self.runtime.device_for(model), random_generator(self.seed, "recovery batches")
        size, workers = min(BATCH_SIZE, len(records)), self.runtime.workers
        loader = Loader(records, self.objective, batch_size=size, device=device, generator=order, workers=workers)

        def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            return {"loss": batch_mean(self.objective, model, step.batches["train"])}

        run_steps(
            model,
            self._steps(loader, read),
            step_loss,
            torch.optim.AdamW(trainable_parameters(model), lr=self.rate),
            runtime=self._saving(model, records, size),
            device=device,
            mode="train",
            history=History(),
            total=self.steps[-1],
            description="recovering",
            additive=True,
        )

    def _saving(self, model: nn.Module, records: Records, size: int) -> Runtime:
        """The runtime with what saves memory and changes no number, in train mode, with batches of this size."""
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            return replace(self.runtime, micro_batch_size=None, recompute_activations=False)
        given, processes = self.runtime.micro_batch_size, process_count()
        at_once = -(-self.runtime.evaluation_batch_size // processes)
        if given is not None:
            return replace(self.runtime, micro_batch_size=min(given, at_once))
        fits = size <= at_once * processes or not _can_be_cut(records, self.objective)
        return self.runtime if fits else replace(self.runtime, micro_batch_size=at_once)

    def _steps(self, loader: Loader, read: Callable[[int], None]) -> Iterator[Step]:
        """Steps with full batches: a last one of one record would stop BatchNorm; the loop asks once after the last."""
        full = (batch for batch in loader.forever() if batch.whole_size == loader.batch_size)
        for taken in range(self.steps[-1]):
            if taken in self.steps:
                read(taken)
            yield Step({"train": next(full)}, self.rate)
        read(self.steps[-1])


def _reader(request: Request, objective: Objective, runtime: Runtime) -> Callable[[nn.Module], Readout]:
    """What reads out a model, once it is known that there are records to read it out on."""
    unseen = request.evaluation_set
    if unseen is not None:
        unseen = unseen.subset(() if request.comparable is None else request.comparable)
    count = 0 if unseen is None else len(unseen)
    if unseen is None or min(len(request.forget_set), count) < 2:
        raise EvidenceError(
            f"{len(request.forget_set)} forgotten and {count} unseen records like them: what came back is told by "
            "comparing the two, which needs 2 of each, and 30 for any statement. Pass the request that TrainingData "
            "made, not the one handed to a method, and a holdout set with records of the forgotten classes."
        )
    records = unseen
    return lambda model: Readout(
        forget=score(model, request.forget_set, objective, runtime), unseen=score(model, records, objective, runtime)
    )


def _can_be_cut(records: Records, objective: Objective) -> bool:
    """Whether batches are of tensors that count examples; others, such as of graphs, go as they are."""
    try:
        rows_of(objective.collate([records[0], records[1]]), 2, slice(1))
    except ObjectiveError:
        return False
    return True


def _check_rates(rates: Sequence[float]) -> None:
    if not rates or not all(rate > 0 for rate in rates):
        raise SettingsError(f"learning_rates must be one or more numbers above 0, not {rates!r}.")


def _check_steps(steps: Sequence[int], first: int) -> None:
    rising = all(low < high for low, high in pairwise(steps))
    if not steps or steps[0] < first or not rising or steps[-1] < 1:
        raise SettingsError(f"steps must rise from {first} or above, each read once in one run, not {tuple(steps)!r}.")
