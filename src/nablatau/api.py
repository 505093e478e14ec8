"""The front doors: `forget` a request, `evaluate` what came of it.

`forget` works on a copy and returns it with its history; `evaluate` takes any models, also such as nablatau did not
make.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from nablatau.belonging import misfit
from nablatau.contrasts import RELEARNING_NOT_RUN, contrasts, packed, packed_relearning
from nablatau.data import Request
from nablatau.errors import EvidenceError, NonFiniteLossError, SettingsError
from nablatau.evaluation import SECOND
from nablatau.evidence import Cost, collect
from nablatau.fingerprints import Readable, weights_digest
from nablatau.methods import Method, NablaTau
from nablatau.methods.retrain import Retrain
from nablatau.objectives import Objective, describe
from nablatau.pipelines import FEWEST_PIPELINES, deal_records, run_pipelines, train_pipelines
from nablatau.processes import naming_lost_processes
from nablatau.recipes import Recipe
from nablatau.recovery import LADDER, LEARNING_RATES, recover_by_finetuning, recover_by_rounding, relearn
from nablatau.results import Evaluation, Forgotten, describe_request, versions
from nablatau.runtime import Runtime, isolated_randomness
from nablatau.scoring import score
from nablatau.swapping import swapped_arrays

FEWEST_TO_RECOVER = 10
"""Forgotten and unseen records below which it is not asked whether they come back."""
RELEARN_STEPS = tuple(step for step in LADDER if step <= 128)
"""A retrained model took 91 at most on the digits; beyond the last the index is a bound."""


@naming_lost_processes()
def forget(
    model: nn.Module,
    request: Request,
    objective: Objective,
    *,
    method: Method | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
) -> Forgotten:
    """Make a model forget the records of a request.

    Args:
        model: trained on the request's forget and retain set; it stays as it is.
        request: from `TrainingData(…).forget_…(…)`.
        objective: what a batch and a loss are, such as `Objective.classification()`.
        method: `NablaTau()`, which has nothing to tune, unless given.
        seed: the same seed on the same machine gives the same bits.
        recipe: how the model was trained; for methods that train from fresh weights.
        runtime: device, precision and the like.
        on_step: called with each step's numbers.

    Returns:
        The unlearned model with history and record; `.save(folder)` writes them.

    Raises:
        SettingsError: the method needs something that is missing, or no parameter can be trained.
        NonFiniteLossError: the run diverged.
        ProcessError: another of several processes was lost.

    Example:
        >>> import torch, nablatau
        >>> from torch.utils.data import TensorDataset
        >>> inputs, labels = torch.randn(90, 4), torch.arange(90) % 3
        >>> train_set, unseen = TensorDataset(inputs[:60], labels[:60]), TensorDataset(inputs[60:], labels[60:])
        >>> request = nablatau.TrainingData(train_set, unseen).forget_ids([3, 14, 15])
        >>> result = nablatau.forget(torch.nn.Linear(4, 3), request, nablatau.Objective.classification())
        >>> print(result.history.notes[1])
        Only 15 unseen records show the method what to aim at (half of the holdout set; 30 or more are wanted), ...
    """
    method = method or NablaTau()
    runtime = runtime or Runtime()
    before = weights_digest(model)
    done = method.unlearn(model, request, objective, seed=seed, recipe=recipe, runtime=runtime, on_step=on_step)
    record = {
        "format": 1,
        "method": done.settings,
        "seed": seed,
        "request": describe_request(request),
        "objective": describe(objective),
        "recipe": recipe.settings() if recipe is not None and "recipe" in method.needs else None,
        "runtime": vars(runtime),
        "model_before": before,
        "model_after": weights_digest(done.model),
        "seconds": done.seconds,
        "steps": len(done.history),
        "notes": done.history.notes,
        "active_hinge_share": done.history.active_hinge_share,
        "trained_samples": done.history.trained_samples,
        "scored_samples": done.history.scored_samples,
        "versions": versions(),
    }
    return Forgotten(
        model=done.model,
        history=done.history,
        request=request,
        record=record,
        method=method,
        seconds=done.seconds,
    )


@naming_lost_processes()
def evaluate(
    original: nn.Module,
    unlearned: Forgotten | nn.Module,
    request: Request,
    objective: Objective,
    *,
    reference: nn.Module | None = None,
    second_reference: nn.Module | None = None,
    recipe: Recipe | None = None,
    test_set: Readable | None = None,
    shadows: int = 0,
    swap: bool = False,
    method: Method | None = None,
    recovery: bool = True,
    seed: int = 0,
    runtime: Runtime | None = None,
) -> Evaluation:
    """Show whether a model has forgotten: original, unlearned and, where there is one, retrained side by side.

    Args:
        original: the model before.
        unlearned: the result of `forget`, or any model that is said to have forgotten the request.
        request: what was to be forgotten.
        objective: what a batch, a loss and a prediction are.
        reference: a model trained from scratch on the retain set.
        second_reference: another, of another seed: how far two retrained models are apart is the floor of distances.
        recipe: trains such a reference where none is given.
        test_set: records for the task's score alone.
        shadows: number of shadow pipelines for tier 3, 16 for a start; they train by `recipe`.
        swap: also train one more original, on unseen records in place of the forgotten ones, and unlearn those (SWAP).
        method: what the pipelines and SWAP unlearn with; the one of a result of `forget` unless given.
        recovery: also look whether the records come back by fine-tuning on the retain set, or by rounding the weights.
        seed: of the reference, the pipelines and the recovery checks.
        runtime: device, precision and the like.

    Returns:
        The evaluation; `.table()` prints it, `.save("report.html")` writes the page.

    Raises:
        EvidenceError: nothing unseen is left to compare with, or a loss is not finite.
        SettingsError: the result was made for another request, or by these settings the recipe cannot train.
        ProcessError: another of several processes was lost.
    """
    result = unlearned if isinstance(unlearned, Forgotten) else None
    method = method or (result.method if result else None)
    _check(result, request, recipe, method, shadows, swap=swap)
    if second_reference is not None and reference is None and recipe is None:
        raise SettingsError("A second reference is compared with the first: pass reference=… or recipe=… too.")
    if recipe is not None and (reference is None or shadows or swap):
        recipe.check(original, runtime or Runtime())
    models = {"original": original, "unlearned": unlearned.model if isinstance(unlearned, Forgotten) else unlearned}
    costs = {"unlearned": result.cost} if result else {}
    if reference is None and recipe is not None:
        made = Retrain().unlearn(original, request, objective, seed=seed, recipe=recipe, runtime=runtime)
        reference = made.model
        costs["retrained"] = Cost(seconds=made.seconds, trained_samples=made.history.trained_samples)
    if reference is not None:
        models["retrained"] = reference
    if second_reference is not None:
        models[SECOND] = second_reference
    with isolated_randomness(seed):
        evidence = collect(models, request, objective, test_set=test_set, costs=costs, runtime=runtime)
        if recovery and min(len(request.forget_set), len(evidence.comparable)) >= FEWEST_TO_RECOVER:
            evidence.arrays.update(recovery_arrays(models, request, objective, seed=seed, runtime=runtime))
        learned = np.concatenate([evidence.scores["original"][split]["loss"] for split in ("forget", "retain")])
        note = misfit(original, learned, request.forget_set, objective)
    if recipe is not None and objective.kind == "single-label":
        evidence.arrays.update(untrained_arrays(recipe, original, request, objective, seed=seed, runtime=runtime))
    if recipe is not None and method is not None:
        evidence.arrays.update(
            _trained_arrays(
                method, request, objective, recipe, original, seed=seed, runtime=runtime, shadows=shadows, swap=swap
            )
        )
    evaluated = {
        "seed": seed,
        "swap": swap,
        "shadows": shadows,
        "recovery": recovery,
        "models": {name: weights_digest(model) for name, model in models.items()},
        "reference_recipe": recipe.settings() if recipe is not None and "retrained" in costs else None,
        "runtime": vars(runtime or Runtime()),
    }
    record = result.record if result else {"request": describe_request(request), "versions": versions()}
    if note:
        record = record | {"notes": [note, *record.get("notes", ())]}
    return Evaluation.of(evidence, record | {"evaluated": evaluated}, result.history if result else None)


def _check(
    result: Forgotten | None,
    request: Request,
    recipe: Recipe | None,
    method: Method | None,
    shadows: int,
    *,
    swap: bool,
) -> None:
    """Refuse before any work what cannot be evaluated."""
    if result is not None and result.request is not request:
        raise SettingsError(
            "The result was made for another request than the one to be evaluated, so the numbers would be about other "
            "records. Pass the request that was given to forget()."
        )
    if (shadows or swap) and (recipe is None or method is None):
        raise SettingsError(
            "Shadow pipelines and SWAP train as the original was trained and unlearn as the audited model was: pass "
            "recipe=…, and method=… where the model does not come from forget()."
        )
    if shadows and shadows < FEWEST_PIPELINES:
        raise SettingsError(
            f"{shadows} shadow pipelines are too few: each record must be left out, kept and unlearned twice, which "
            f"takes {FEWEST_PIPELINES}. Use 16, or no shadows."
        )


def _trained_arrays(
    method: Method,
    request: Request,
    objective: Objective,
    recipe: Recipe,
    like: nn.Module,
    *,
    seed: int,
    runtime: Runtime | None,
    shadows: int,
    swap: bool,
) -> dict[str, Any]:
    """What takes further originals, trained as this one was: shadow pipelines, and SWAP; of either if it is wanted."""
    found: dict[str, Any] = {}
    if shadows:
        deal = deal_records(request, pipelines=shadows, seed=seed)
        trained = train_pipelines(deal, objective, recipe=recipe, like=like, runtime=runtime)
        found |= run_pipelines(method, deal, trained, objective, recipe=recipe, runtime=runtime).arrays()
    if swap:
        found |= swapped_arrays(method, request, objective, recipe=recipe, like=like, seed=seed, runtime=runtime)
    return found


def recovery_arrays(
    models: dict[str, nn.Module], request: Request, objective: Objective, *, seed: int, runtime: Runtime | None
) -> dict[str, Any]:
    """The recovery checks of the unlearned model, those of the reference taken off where there is one.

    Args:
        models: with "unlearned", and "retrained" where there is a reference.
        request, objective, seed, runtime: as of `evaluate`.
    """
    tuned = recover_by_finetuning(models["unlearned"], request, objective, seed=seed, runtime=runtime)
    rounded = recover_by_rounding(models["unlearned"], request, objective, runtime=runtime)
    reference = models.get("retrained")
    if reference is None:
        return {"recovery_finetuning": packed(contrasts(tuned)), "recovery_rounding": packed(contrasts(rounded))}
    rates = (tuned.learning_rate,) if tuned.learning_rate else LEARNING_RATES
    known = {name: models[name] for name in ("original", "unlearned", "retrained")}
    relearned = _relearned_arrays(known, request, objective, seed=seed, runtime=runtime)
    theirs = recover_by_finetuning(reference, request, objective, seed=seed, learning_rates=rates, runtime=runtime)
    rounded_too = recover_by_rounding(reference, request, objective, runtime=runtime)
    return {
        "recovery_finetuning": packed(contrasts(tuned, theirs)),
        "recovery_rounding": packed(contrasts(rounded, rounded_too)),
    } | relearned


def _relearned_arrays(
    models: dict[str, nn.Module], request: Request, objective: Objective, *, seed: int, runtime: Runtime | None
) -> dict[str, Any]:
    """The curves of relearning, or why there are none: a row that was not run, and all others stand."""
    try:
        found = relearn(models, request, objective, seeds=(seed,), steps=RELEARN_STEPS, runtime=runtime)
    except (NonFiniteLossError, EvidenceError):
        tried = ", ".join(f"{rate:g}" for rate in LEARNING_RATES)
        reason = f"a loss became infinite or no number while a copy learned, at each of the learning rates {tried}"
        return {RELEARNING_NOT_RUN: np.array(reason)}  # the error itself names forgotten records
    return packed_relearning(found)


def untrained_arrays(
    recipe: Recipe,
    like: nn.Module,
    request: Request,
    objective: Objective,
    *,
    seed: int,
    runtime: Runtime | None,
) -> dict[str, Any]:
    """What a model with fresh weights says of the forgotten records; nothing where there are too many logits to keep.

    Args:
        recipe: draws the weights.
        like: a model of the same architecture, used where the recipe has no `build`.
        request, objective, seed, runtime: as of `evaluate`.
    """
    with isolated_randomness(seed, alike=True):
        scores = score(recipe.fresh_model(like), request.forget_set, objective, runtime)
    return {"untrained_logits": scores["logits"]} if "logits" in scores else {}
