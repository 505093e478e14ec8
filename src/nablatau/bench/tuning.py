"""Tuning: settings found by search on a proxy forget set, never on the real one and never with the retrained model.

The proxy forget set is a random part of the retain set, as large as the real forget set (half of the retain set at the
most); for a class request it is a whole class drawn from those that stay, because forgetting a class is another task.
The method starts from the same original and is to forget the proxy; the really forgotten records take no part at all.

A configuration is scored by what an unlearning that is as good as retraining would reach, judged without a retrained
model (lower is better, 0 is perfect):

    2 |AUC − 0.5| + lost utility  (+ share of the proxy class that is still recognised, for a class request)

AUC: proxy records against records never trained on, by margin (minus the loss where there are no margins), within
classes where the classes allow it. For a random draw a retrained model has AUC 0.5 by exchangeability, and too much
forgetting counts as too little does; 2 |AUC − 0.5| is what an attacker who guesses by one threshold gains at the most
over a coin, if the two distributions differ by a shift. Lost utility: the fall of accuracy or micro F1 from the
original's, or the relative rise of RMSE or mean loss; never below 0. Both parts lie on one scale of 0 to 1 and count
alike.

Unseen records are those of the methods' half of the holdout set. Methods may look at them too (∇τ takes τ from them),
so the score of a method that does is a little too good; the half kept for evaluation stays untouched.

The first configuration is the defaults, so tuning is never worse than they are on the proxy. The others are proposed by
Optuna's TPE (Bergstra et al. 2011) with a seed of its own, within `Method.tunable`. One that diverges, or is refused by
the method's own checks, counts as tried and scores worst. Scale, bounds and weights are ours.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from nablatau.bench.plan import derived_seed
from nablatau.bench.shared_work import SharedWork
from nablatau.bench.store import facts_of
from nablatau.data import Request, TrainingData
from nablatau.errors import BenchmarkError, EvidenceError, NonFiniteLossError, RequestError, SettingsError
from nablatau.evaluation import TASK_SCORES
from nablatau.evaluation.membership import estimate_auc, plain_sides
from nablatau.evidence import collect
from nablatau.methods import Method
from nablatau.objectives import Kind
from nablatau.records import label_names, with_labels
from nablatau.runtime import random_generator
from nablatau.scoring import Scores

WORST = 10.0
"""Score of a configuration that diverged or was refused: above any that was run."""
REFUSALS = (NonFiniteLossError, EvidenceError, RequestError, SettingsError)
HIGHER_IS_BETTER: frozenset[Kind] = frozenset({"single-label", "multi-label", "token-classification"})


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What the search found.

    Attributes:
        method: with the best settings.
        score: of these, lower is better.
        configurations: how many were tried.
    """

    method: Method
    score: float
    configurations: int


def tuned(shared: SharedWork) -> Tuned:
    """The cell's method with the best settings found; searched once, then read from the store.

    Args:
        shared: of a cell with a number of configurations.
    """
    cell, method = shared.cell, shared.method
    description = shared.describe(
        "tuning", request=cell.request, settings=cell.settings, configurations=cell.configurations
    )
    place = shared.store.obtain(description, lambda _: _search(shared))
    facts = facts_of(place)
    return Tuned(
        method=type(method).from_settings(facts["settings"]),
        score=facts["score"],
        configurations=facts["configurations"],
    )


def _search(shared: SharedWork) -> dict[str, Any]:
    """Try the configurations; the facts of the artifact."""
    optuna = import_optuna()
    method, seed = shared.method, derived_seed("tuning", shared.cell.training_seed)
    original, proxy = shared.original(), proxy_request(shared.request, shared.project.data, seed)
    tried = [(_scored(method, original, proxy, shared, seed), method.settings())]
    with _quiet(optuna):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        for _ in range(shared.cell.configurations - 1):
            trial = study.ask()
            settings = method.settings() | _proposed(trial, method)
            score = _scored_settings(type(method), settings, original, proxy, shared, seed)
            study.tell(trial, score)
            tried.append((score, settings))
    score, settings = min(tried, key=lambda pair: pair[0])
    if score >= WORST:
        raise BenchmarkError(
            f"None of {len(tried)} configurations of {method.name} came to an end on the proxy forget set, so there "
            "are no tuned settings. Look at the failure of its defaults, or at the bounds in its `tunable`."
        )
    return {"settings": settings, "score": score, "configurations": len(tried), "tried": tried}


def import_optuna() -> Any:
    """The module optuna.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise SettingsError("--tune needs Optuna, which is not installed: pip install 'nablatau[sweep]'.") from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """No line on standard error for each trial."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _proposed(trial: Any, method: Method) -> dict[str, float]:
    """Values for what can be tuned: whole numbers where both bounds are."""
    values = {}
    for name, bounds in method.tunable.items():
        whole = isinstance(bounds.low, int) and isinstance(bounds.high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        values[name] = suggest(name, bounds.low, bounds.high, log=bounds.log)
    return values


def _scored_settings(
    kind: type[Method], settings: dict[str, Any], original: nn.Module, proxy: Request, shared: SharedWork, seed: int
) -> float:
    try:
        method = kind.from_settings(settings)
    except SettingsError:
        return WORST  # two settings that exclude each other; counted as tried
    return _scored(method, original, proxy, shared, seed)


def _scored(method: Method, original: nn.Module, proxy: Request, shared: SharedWork, seed: int) -> float:
    try:
        done = method.unlearn(
            original, proxy, shared.project.objective, seed=seed, recipe=shared.recipe, runtime=shared.runtime
        )
        return proxy_score(original, done.model, proxy, shared)
    except REFUSALS:
        return WORST  # diverged, or a setting that this request does not allow; counted as tried


def proxy_score(original: nn.Module, unlearned: nn.Module, proxy: Request, shared: SharedWork) -> float:
    """How far a model is from one that never saw the proxy forget set, by the formula at the head of this file.

    Args:
        original: before.
        unlearned: after.
        proxy: from `proxy_request`.
        shared: of the cell.
    """
    models = {"original": original, "unlearned": unlearned}
    objective = shared.project.objective
    evidence = collect(models, proxy, objective, runtime=shared.runtime)
    before, after = (evidence.scores[model]["unseen"] for model in models)
    kept = np.arange(len(after))
    score = 0.0
    if len(evidence.comparable) > 1:
        score += 2 * abs(estimate_auc(plain_sides(evidence, "unlearned")).value - 0.5)
    if proxy.goal == "class":
        kept = np.setdiff1d(kept, evidence.comparable)
        score += recognised(objective.kind, evidence.scores["unlearned"]["forget"], proxy.classes)
    return score + lost_utility(objective.kind, _rows(before, kept), _rows(after, kept))


def lost_utility(kind: Kind, before: Scores, after: Scores) -> float:
    """The fall of a share, or the relative rise of an error; 0 where the model became better, or nothing is known.

    Args:
        kind: of the objective.
        before, after: what original and unlearned model say of the same records.
    """
    score = TASK_SCORES[kind][2]
    old, new = score(before), score(after)
    if old is None or new is None:
        return 0.0
    if kind in HIGHER_IS_BETTER:
        return max(0.0, old.value - new.value)
    return max(0.0, new.value - old.value) / max(abs(old.value), 1e-12)


def recognised(kind: Kind, scores: Scores, classes: Sequence[Hashable]) -> float:
    """Share of a class's records to which the model still gives that class; 0 for tasks without classes.

    Args:
        kind: of the objective.
        scores: what the model says of the class's records.
        classes: the one class.
    """
    if kind == "single-label":
        return float(scores["correct"].mean())
    if kind == "multi-label":
        return float(scores["prediction"][:, np.array(classes, dtype=np.int64)].mean())
    return 0.0


def _rows(scores: Scores, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Scores:
    return Scores([scores.ids[row] for row in rows], {name: array[rows] for name, array in scores.arrays.items()})


# ---------------------------------------------------------------------- the proxy


def proxy_request(request: Request, data: TrainingData, seed: int) -> Request:
    """A request to forget what may stay: its forget set is a part of the real retain set, the rest is retained.

    The real forget set is in neither. Unseen records are those of the methods' half of the holdout set.

    Args:
        request: the real one.
        data: that it was made from.
        seed: of the draw.
    """
    retain, unseen = request.retain_set, request.holdout_set
    generator = random_generator(seed, "proxy forget set")
    classes: list[Hashable] = []
    if request.goal == "class":
        labels = data.class_labels[retain.positions]
        known = [each for each in label_names(labels) if each not in set(request.classes)]
        classes = [known[int(torch.randint(len(known), (1,), generator=generator))]]
        forget = np.flatnonzero(with_labels(labels, classes))
    else:
        size = max(1, min(len(request.forget_set), len(retain) // 2))
        forget = np.sort(torch.randperm(len(retain), generator=generator)[:size].numpy())
    comparable = data.comparable(unseen.positions, classes)
    return replace(
        request,
        forget_set=retain.subset(forget),
        retain_set=retain.subset(np.setdiff1d(np.arange(len(retain)), forget)),
        evaluation_set=unseen,
        goal="class" if classes else "records",
        description={"by": "class" if classes else "fraction", "forget_duplicates": False},
        classes=classes,
        comparable=np.zeros(0, np.int64) if comparable is None else comparable,
        duplicate_ids=(),
    )
