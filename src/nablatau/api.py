"""The front doors: `forget` a request, `evaluate` what came of it, and save both.

`forget` works on a copy and returns it with its history; `evaluate` takes any models, also such as nablatau did not
make. Saved folders are whole or not there at all.
"""

import hashlib
import io
import json
import platform
import secrets
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nablatau.checkpoints import WEIGHTS_NAME, save_weights, whole_file, whole_folder
from nablatau.contrasts import contrasts, packed
from nablatau.data import Request
from nablatau.errors import CheckpointError, SettingsError
from nablatau.evaluation import Row, Verdict, judge, sentence, summarise
from nablatau.evidence import Cost, Evidence, collect
from nablatau.fingerprints import Readable, weights_digest
from nablatau.methods import Method, NablaTau
from nablatau.methods.retrain import Retrain
from nablatau.objectives import Objective, describe
from nablatau.pipelines import run_pipelines
from nablatau.recipes import Recipe
from nablatau.recovery import LEARNING_RATES, recover_by_finetuning, recover_by_rounding
from nablatau.report import Page, render
from nablatau.runtime import Runtime, isolated_randomness
from nablatau.training import History

FEWEST_TO_RECOVER = 10
"""Forgotten and unseen records below which it is not asked whether they come back."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """A model that was made to forget, with what it takes to show how.

    Attributes:
        model: the unlearned model, in eval mode.
        history: what happened, step by step.
        request: what was to be forgotten.
        record: settings, seeds, versions, hashes of the model before and after; JSON-able.
        method: with its settings.
        seconds: wall time of the method.
    """

    model: nn.Module = field(repr=False)
    history: History = field(repr=False)
    request: Request = field(repr=False)
    record: dict[str, Any] = field(repr=False)
    method: Method
    seconds: float

    @property
    def cost(self) -> Cost:
        """What the method took."""
        return Cost(
            seconds=self.seconds,
            trained_samples=self.history.trained_samples,
            scored_samples=self.history.scored_samples,
        )

    def save(self, folder: str | Path, evaluation: "Evaluation | None" = None) -> Path:
        """Write weights, record and report into a new folder, which appears whole or not at all.

        `model.safetensors` holds the weights; `run.json` the record, with the forgotten ids hashed;
        `report.html` the page; `ids.salt` the salt of the hashes. Whoever has the salt can test
        whether an id was in the request, so keep it apart from what you hand out.

        Args:
            folder: a folder that does not exist yet.
            evaluation: to be shown in the report.

        Returns:
            The folder.

        Raises:
            CheckpointError: the folder exists, or cannot be made.
        """
        with whole_folder(Path(folder)) as part:
            self.write_into(part, evaluation)
        return Path(folder)

    def write_into(self, folder: Path, evaluation: "Evaluation | None" = None) -> None:
        """Write what `save` writes into a folder that is there.

        Args:
            folder: an empty folder.
            evaluation: to be shown in the report.

        Raises:
            CheckpointError: a file cannot be written, for instance because the disk is full.
        """
        salt = secrets.token_hex(16)
        hashed = {"salted_sha256": salted_digests(self.request.forget_set.ids_at(range(self.forgotten)), salt)}
        record = self.record | {"forget_ids": hashed}
        if evaluation is not None:
            record |= {"evaluated": evaluation.record["evaluated"]}
            record["evaluation"] = evaluation.to_json()
        page = render(_page(record, evaluation, self.history))
        try:
            save_weights(self.model, folder / WEIGHTS_NAME, {"nablatau_run": self.record["model_after"]})
            (folder / "run.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
            (folder / "ids.salt").write_text(salt + "\n", encoding="utf-8")
            (folder / "report.html").write_text(page, encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"The run could not be written: {error}. Nothing was kept of it.") from error

    @property
    def forgotten(self) -> int:
        """Number of records forgotten."""
        return len(self.request.forget_set)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the evidence says.

    Attributes:
        evidence: per-example arrays of each model on each split.
        rows: the numbers, each with interval and sample sizes.
        verdict: what they say together.
        record: of the run that made the unlearned model, where nablatau made it.
        history: of that run.
    """

    evidence: Evidence
    rows: list[Row]
    verdict: Verdict
    record: dict[str, Any] = field(repr=False)
    history: History | None = field(default=None, repr=False)

    @property
    def answer(self) -> str:
        """The verdict, and the numbers that matter most, in plain words."""
        return f"{self.verdict.sentence}\n{sentence(self.evidence, self.rows)}"

    @classmethod
    def of(cls, evidence: Evidence, record: dict[str, Any], history: History | None = None) -> "Evaluation":
        """The evaluation of evidence: arithmetic on its arrays, no model needed."""
        rows, verdict = summarise(evidence), judge(evidence)
        return cls(evidence=evidence, rows=rows, verdict=verdict, record=record, history=history)

    @classmethod
    def load(cls, folder: str | Path) -> "Evaluation":
        """The evaluation of evidence that `save_evidence` wrote.

        Args:
            folder: of saved evidence.

        Raises:
            EvidenceError: it is not whole, was changed, or has a newer format.
        """
        evidence = Evidence.load(folder)
        record = json.loads((Path(folder) / "record.json").read_text(encoding="utf-8"))
        return cls.of(evidence, record)

    def save_evidence(self, folder: str | Path) -> Path:
        """Write the per-example arrays, with their hashes and record ids, and the record, into a new folder.

        Args:
            folder: must not exist yet.

        Raises:
            CheckpointError: the folder exists, or cannot be made.
        """
        with whole_folder(Path(folder)) as part:
            self.evidence.write_into(part)
            (part / "record.json").write_text(json.dumps(self.record, indent=1, default=str), encoding="utf-8")
        return Path(folder)

    def table(self, *, full: bool = False) -> str:
        """The rows that could be computed, and the costs, as text.

        Args:
            full: every row instead of the ones that matter most.
        """
        from rich.console import Console
        from rich.table import Table

        table = Table("", *self.evidence.models, box=None, pad_edge=False)
        for row in self.rows:
            if (full or row.headline) and any(each is not None for each in row.values.values()):
                table.add_row(row.name, *("" if each is None else str(each) for each in row.values.values()))
        costs = [self.evidence.costs.get(model) for model in self.evidence.models]
        table.add_row("Seconds", *("" if cost is None else f"{cost.seconds:.2f}" for cost in costs))
        table.add_row("Examples trained on", *("" if cost is None else f"{cost.trained_samples:,}" for cost in costs))
        stream = io.StringIO()
        Console(file=stream, width=60 + 25 * len(costs), color_system=None).print(table)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def to_json(self) -> dict[str, Any]:
        """The answer, rows and costs as JSON-able values."""
        return {
            "verdict": str(self.verdict.word),
            "answer": self.answer,
            "findings": [finding.to_json() for finding in self.verdict.findings],
            "rows": [row.to_json() for row in self.rows],
            "costs": {model: vars(cost) for model, cost in self.evidence.costs.items()},
        }

    def save(self, file: str | Path) -> Path:
        """Write the report as one self-contained HTML page.

        Args:
            file: ending in .html; replaced if it exists.

        Raises:
            SettingsError: another ending.
        """
        file = Path(file)
        check_page_name(file)
        with whole_file(file) as part:
            part.write_text(render(_page(self.record, self, self.history)), encoding="utf-8")
        return file


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
        method: `NablaTau()`, as published, unless given.
        seed: the same seed on the same machine gives the same bits.
        recipe: how the model was trained; for methods that train from fresh weights.
        runtime: device, precision and the like.
        on_step: called with each step's numbers.

    Returns:
        The unlearned model with history and record; `.save(folder)` writes them.

    Raises:
        SettingsError: the method needs something that is missing, or no parameter can be trained.
        NonFiniteLossError: the run diverged.

    Example:
        >>> import torch, nablatau
        >>> from torch.utils.data import TensorDataset
        >>> inputs, labels = torch.randn(90, 4), torch.arange(90) % 3
        >>> train_set, unseen = TensorDataset(inputs[:60], labels[:60]), TensorDataset(inputs[60:], labels[60:])
        >>> request = nablatau.TrainingData(train_set, unseen).forget_ids([3, 14, 15])
        >>> result = nablatau.forget(torch.nn.Linear(4, 3), request, nablatau.Objective.classification())
        >>> len(result.history)
        3
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


def evaluate(
    original: nn.Module,
    unlearned: Forgotten | nn.Module,
    request: Request,
    objective: Objective,
    *,
    reference: nn.Module | None = None,
    recipe: Recipe | None = None,
    test_set: Readable | None = None,
    shadows: int = 0,
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
        recipe: trains such a reference where none is given.
        test_set: records for the task's score alone.
        shadows: number of shadow pipelines for tier 3, 16 for a start; they train by `recipe`.
        method: what the pipelines unlearn with; the one of a result of `forget` unless given.
        recovery: also look whether the records come back by fine-tuning on the retain set, or by rounding the weights.
        seed: of the reference, the pipelines and the recovery checks.
        runtime: device, precision and the like.

    Returns:
        The evaluation; `.table()` prints it, `.save("report.html")` writes the page.

    Raises:
        EvidenceError: nothing unseen is left to compare with, or a loss is not finite.
        SettingsError: the result was made for another request.
    """
    result = unlearned if isinstance(unlearned, Forgotten) else None
    if result is not None and result.request is not request:
        raise SettingsError(
            "The result was made for another request than the one to be evaluated, so the numbers would be about other "
            "records. Pass the request that was given to forget()."
        )
    models = {"original": original, "unlearned": unlearned.model if isinstance(unlearned, Forgotten) else unlearned}
    costs = {"unlearned": result.cost} if result else {}
    if reference is None and recipe is not None:
        made = Retrain().unlearn(original, request, objective, seed=seed, recipe=recipe, runtime=runtime)
        reference = made.model
        costs["retrained"] = Cost(seconds=made.seconds, trained_samples=made.history.trained_samples)
    if reference is not None:
        models["retrained"] = reference
    with isolated_randomness(seed):
        evidence = collect(models, request, objective, test_set=test_set, costs=costs, runtime=runtime)
        if recovery and min(len(request.forget_set), len(evidence.comparable)) >= FEWEST_TO_RECOVER:
            evidence.arrays.update(recovery_arrays(models, request, objective, seed=seed, runtime=runtime))
        if shadows:
            method = method or (result.method if result else None)
            if recipe is None or method is None:
                raise SettingsError(
                    "Shadow pipelines train as the original was trained and unlearn as the audited model was: pass recipe= "
                    "and, where the model does not come from forget(), method=."
                )
            done = run_pipelines(
                method,
                request,
                objective,
                recipe=recipe,
                like=original,
                pipelines=shadows,
                seed=seed,
                runtime=runtime,
            )
            evidence.arrays.update(done.arrays())
    record = result.record if result else {"request": describe_request(request), "versions": versions()}
    how = {
        "seed": seed,
        "shadows": shadows,
        "recovery": recovery,
        "models": {name: weights_digest(model) for name, model in models.items()},
        "reference_recipe": recipe.settings() if recipe is not None and "retrained" in costs else None,
        "runtime": vars(runtime or Runtime()),
    }
    return Evaluation.of(evidence, record | {"evaluated": how}, result.history if result else None)


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
    theirs = recover_by_finetuning(reference, request, objective, seed=seed, learning_rates=rates, runtime=runtime)
    rounded_too = recover_by_rounding(reference, request, objective, runtime=runtime)
    return {
        "recovery_finetuning": packed(contrasts(tuned, theirs)),
        "recovery_rounding": packed(contrasts(rounded, rounded_too)),
    }


def check_page_name(file: Path) -> None:
    """Refuse a report that would not be opened as a page.

    Raises:
        SettingsError: the name does not end in .html.
    """
    if file.suffix not in (".html", ".htm"):
        raise SettingsError(f"The report is an HTML page; {file} must end in .html.")


def describe_request(request: Request) -> dict[str, Any]:
    """A request as it stands in a run's record: how it was made and sizes, no ids."""
    return {
        **request.description,
        "goal": request.goal,
        "forget": len(request.forget_set),
        "retain": len(request.retain_set),
        "holdout_for_methods": len(request.holdout_set),
        "holdout_for_evaluation": 0 if request.evaluation_set is None else len(request.evaluation_set),
        "duplicates_in_retain_set": len(request.duplicate_ids),
    }


def salted_digests(ids: list[Hashable], salt: str) -> list[str]:
    """SHA-256 of salt and id for each id, in hexadecimal, sorted so that their order tells nothing."""
    return sorted(hashlib.sha256(f"{salt}:{each}".encode()).hexdigest() for each in ids)


def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    packages = {name: metadata.version(name) for name in ("nablatau", "torch", "numpy", "scipy", "scikit-learn")}
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or platform.machine()
    return packages | {"python": platform.python_version(), "platform": platform.platform(), "hardware": device}


def _page(record: dict[str, Any], evaluation: Evaluation | None, history: History | None) -> Page:
    shown = {name: value for name, value in record.items() if name != "evaluation"}
    if evaluation is None:
        return Page(record=shown, history=history)
    return Page(
        record=shown,
        evidence=evaluation.evidence,
        rows=evaluation.rows,
        verdict=evaluation.verdict,
        history=history,
    )
