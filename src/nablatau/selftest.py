"""The audit audited: known-good and known-bad models, and how often the verdict flags each.

A verdict is worth its false alarms and its power. On a task, over seeds, each of these is evaluated at tier 2:

    retrained    another model trained without the records, by another seed: must not be flagged
    identity     the original, handed in as if it had forgotten: must be flagged
    constant     the same answer to everything: must be flagged
    relabelled   the original with its outputs shifted by one class: must be flagged
    wrecked      gradient ascent on the forget set, far beyond unseen losses: must be flagged
    ascended     gradient ascent stopped where the mean loss equals that of unseen records: must be flagged
    fine-tuned   descent on the retain set by the published schedule: flagged where there is power

"Flagged" is any word but EQUIVALENT, NOT DETECTED and NO POWER.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nablatau.api import evaluate
from nablatau.data import Request
from nablatau.evaluation import Word
from nablatau.history import History, Step
from nablatau.loading import Loader
from nablatau.methods import Finetune, Retrain
from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.runtime import Runtime, isolated_randomness, random_generator
from nablatau.statistics import Interval, clopper_pearson
from nablatau.training import batch_mean, mean_loss, run_steps, trainable_parameters

Expectation = Literal["never", "always", "where there is power"]
SILENT = {Word.EQUIVALENT, Word.NOT_DETECTED, Word.NO_POWER}
ASCENT_RATE = 1e-3
MOST_ASCENT_STEPS = 2000
WRECKED = 20.0
"""Multiple of the unseen records' mean loss to which the wrecked model is pushed."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One kind of model in the test.

    Attributes:
        name: as listed at the head of this file.
        expected: how often it should be flagged.
        words: how often each verdict was given, over seeds.
    """

    name: str
    expected: Expectation
    words: Counter[str]

    @property
    def flagged(self) -> Interval:
        """Share of seeds in which it was flagged, with Clopper and Pearson's interval."""
        seeds = sum(self.words.values())
        return clopper_pearson(seeds - sum(self.words[word] for word in SILENT), seeds)

    @property
    def as_expected(self) -> bool:
        """Whether the interval allows what is expected: at most 10 % for never, at least 90 % for always."""
        if self.expected == "never":
            return self.flagged.low <= 0.1
        return self.expected != "always" or self.flagged.high >= 0.9

    def to_json(self) -> dict[str, Any]:
        """The candidate as JSON-able values."""
        return {
            "name": self.name,
            "expected": self.expected,
            "flagged": vars(self.flagged),
            "as_expected": self.as_expected,
            "words": dict(self.words),
        }


def audit_the_audit(
    make: Callable[[], Project],
    *,
    seeds: int = 10,
    fraction: float = 0.3,
    runtime: Runtime | None = None,
    on_seed: Callable[[int], None] | None = None,
) -> list[Candidate]:
    """Evaluate known-good and known-bad models over seeds.

    Args:
        make: a task; its model, reference and candidates are trained anew for each seed.
        seeds: number of repetitions, each with its own original, forget set and models.
        fraction: share of the training set that is forgotten.
        runtime: device, precision and the like.
        on_seed: called after each seed.
    """
    words: dict[str, Counter[str]] = {name: Counter() for name in EXPECTED}
    for seed in range(seeds):
        project = make().trained(seed, runtime=runtime)
        request = project.data.forget_fraction(fraction, seed=seed)
        reference = _retrained(project, request, 1_000 + seed, runtime)
        for name, model in _candidates(project, request, seed, runtime):
            found = evaluate(
                project.model,
                model,
                request,
                project.objective,
                reference=reference,
                test_set=project.test_set,
                seed=seed,
                runtime=runtime,
            )
            words[name][found.verdict.word] += 1
        if on_seed is not None:
            on_seed(seed)
    return [Candidate(name=name, expected=EXPECTED[name], words=words[name]) for name in EXPECTED]


EXPECTED: dict[str, Expectation] = {
    "retrained": "never",
    "identity": "always",
    "constant": "always",
    "relabelled": "always",
    "wrecked": "always",
    "ascended": "always",
    "fine-tuned": "where there is power",
}
"""By name of the candidate."""


def _candidates(
    project: Project, request: Request, seed: int, runtime: Runtime | None
) -> Iterator[tuple[str, nn.Module]]:
    model, objective = project.model, project.objective
    yield "retrained", _retrained(project, request, 2_000 + seed, runtime)
    yield "identity", model
    yield "constant", _constant(model)
    yield "relabelled", nn.Sequential(copy.deepcopy(model), _ShiftedOutputs())
    yield "wrecked", ascended(model, request, objective, seed=seed, times=WRECKED, runtime=runtime)
    yield "ascended", ascended(model, request, objective, seed=seed, times=1.0, runtime=runtime)
    yield "fine-tuned", Finetune().unlearn(model, request, objective, seed=seed, runtime=runtime).model


def _retrained(project: Project, request: Request, seed: int, runtime: Runtime | None) -> nn.Module:
    done = Retrain().unlearn(
        project.model, request, project.objective, seed=seed, recipe=project.recipe, runtime=runtime
    )
    return done.model


def _constant(model: nn.Module) -> nn.Module:
    """The model with every weight at 0: it answers alike whatever it is asked."""
    constant = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.zero_()
    return constant


class _ShiftedOutputs(nn.Module):
    """Each class answers for the one before it."""

    def forward(self, logits_BC: Tensor) -> Tensor:
        return logits_BC.roll(1, dims=-1)


def ascended(
    model: nn.Module,
    request: Request,
    objective: Objective,
    *,
    seed: int,
    times: float = 1.0,
    runtime: Runtime | None = None,
) -> nn.Module:
    """A copy after gradient ascent on the forget set, stopped at a multiple of the unseen records' mean loss.

    Args:
        model: the original.
        request: its forget set is ascended on; the methods' half of its holdout set gives the mean loss.
        objective: what a batch and a loss are.
        seed: of the order.
        times: multiple of the mean loss at which to stop.
        runtime: device, precision and the like.
    """
    runtime = runtime or Runtime()
    device = runtime.device_for(model)
    working = copy.deepcopy(model).to(device)
    order = random_generator(seed, "ascent")
    loader = Loader(request.forget_set, objective, batch_size=64, device=device, generator=order)
    whole = Loader(request.forget_set, objective, batch_size=1024, device=device)
    unseen = Loader(request.holdout_set, objective, batch_size=1024, device=device)
    target = times * mean_loss(working, unseen, runtime)

    def steps() -> Iterator[Step]:
        for number, batch in enumerate(loader.forever()):
            if number >= MOST_ASCENT_STEPS or mean_loss(working, whole, runtime) >= target:
                return
            yield Step({"forget": batch}, ASCENT_RATE)

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        return {"loss": -batch_mean(objective, model, step.batches["forget"])}

    with isolated_randomness(seed):
        run_steps(
            working,
            steps(),
            step_loss,
            torch.optim.AdamW(trainable_parameters(working)),
            runtime=runtime,
            device=device,
            mode="eval",
            history=History(),
            total=MOST_ASCENT_STEPS,
            description="ascending",
        )
    return working.eval()
