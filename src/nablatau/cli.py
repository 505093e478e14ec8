"""The command line: parse, make settings, one call, print. Nothing is computed here.

Exit codes: 0 done · 1 a request, setting, project, data set or file is wrong, and the message says what to do ·
2 the command line itself is wrong · 3 a run stopped at a loss that is no number · 130 interrupted. `evaluate` and
`report` follow the verdict: 0 for EQUIVALENT and NOT DETECTED, 10 to 15 for the others (`Word`), so that they can gate.
Results go to standard output, progress and errors to standard error.
"""

import dataclasses
import json
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

if TYPE_CHECKING:
    from nablatau.data import Request
    from nablatau.methods import Method
    from nablatau.projects import Project
    from nablatau.results import Evaluation
    from nablatau.runtime import Runtime

Tier = Literal[1, 2, 3]
SHADOWS = 16
EXIT_WRONG, EXIT_USAGE, EXIT_DIVERGED, EXIT_INTERRUPTED = 1, 2, 3, 130

app = App(
    name="nablatau",
    help="Make a trained model forget chosen training records, and show with evidence whether it did.",
    help_epilogue=(
        "Exit codes: 0 done, 1 wrong input, 2 wrong command line, 3 the loss became no number. evaluate and report: "
        "0 equivalent or not detected, 10 audit invalid, 11 leak detected, 12 over-forgetting, 13 recoverable, "
        "14 utility lost, 15 no power."
    ),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which records must go; exactly one of these."""

    forget_ids: Path | None = None
    "File with one id a line."
    forget_class: tuple[str, ...] = ()
    "Every record of this class; may be repeated."
    forget_group: tuple[str, ...] = ()
    "Every record of this group; may be repeated."
    fraction: float | None = None
    "A random share of the training set, such as 0.03."
    fraction_seed: int = 0
    "Seed of the draw of that share."
    forget_duplicates: bool = False
    "Also forget retained records with the same inputs as a forgotten one."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """Where to run, and what to print."""

    seed: int = 0
    "Of the run; the same seed gives the same bits."
    device: str | None = None
    "Such as cpu or cuda; unless given, the device the model lies on."
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    "Of the forward passes."
    clip_norm: float | None = None
    "Largest norm of the gradient; no clipping unless given."
    workers: int = 0
    "Processes that read data beside the run."
    evaluation_batch_size: int = 1024
    "Examples in a forward pass without gradients."
    json: Annotated[bool, Parameter(negative="")] = False
    "Print one JSON object instead of text."


Target = Annotated[str, Parameter(help="FILE.py:FUNCTION or MODULE:FUNCTION that returns a Project; or a task's name.")]


@app.command
def demo(*, out: Path | None = None, how: How | None = None) -> None:
    """Train a model on real digits, forget 15 % of its records, and show original, unlearned and retrained.

    Args:
        out: new folder for weights, record and report; nablatau-demo, or with a number behind it, unless given.
    """
    how = how or How()
    folder = out or _free_folder("nablatau-demo")
    choice = Choice(fraction=0.15)
    _forget("digits", choice, _method(None, None, None), folder, 2, how)


@app.command
def forget(
    target: Target,
    *,
    out: Path,
    choice: Choice | None = None,
    method: str | None = None,
    preset: str | None = None,
    batch_size: int | None = None,
    tier: Tier = 1,
    how: How | None = None,
) -> None:
    """Make a model forget, and write weights, record and report into a new folder.

    Args:
        out: new folder.
        method: name of a method (see list); nabla_tau unless given.
        preset: settings of nabla_tau: paper or paper-text.
        batch_size: examples in a batch; the method's own unless given.
        tier: evidence for the report: 1 the model alone; 2 also a reference model, retrained by the project's recipe;
            3 also 16 shadow pipelines.
    """
    _forget(target, choice or Choice(), _method(method, preset, batch_size), out, tier, how or How())


@app.command
def evaluate(
    target: Target,
    *,
    weights: Path,
    choice: Choice | None = None,
    reference: Path | None = None,
    tier: Tier = 1,
    method: str | None = None,
    preset: str | None = None,
    out: Path | None = None,
    evidence: Path | None = None,
    how: How | None = None,
) -> int:
    """Show whether given weights have forgotten, whatever made them. The exit code follows the verdict.

    Args:
        weights: .safetensors file of the model that is said to have forgotten.
        reference: .safetensors file of a model trained from scratch without the records.
        tier: 1 the model alone; 2 also a reference model, given or retrained by the project's recipe; 3 also 16 shadow
            pipelines that train by the recipe and unlearn by the method.
        method: for tier 3, what made the weights; nabla_tau unless given.
        preset: for tier 3, settings of nabla_tau.
        out: file for the report, ending in .html.
        evidence: new folder for the per-example arrays, from which `nablatau report` makes the report again.
    """
    import copy

    from nablatau.api import evaluate as evaluate_models
    from nablatau.checkpoints import check_free, load_weights
    from nablatau.results import check_page_name

    how = how or How()
    if out is not None:
        check_page_name(out)
    if evidence is not None:
        check_free(evidence)
    project = _project(target, how)
    request = _request(project, choice or Choice())
    unlearned = load_weights(copy.deepcopy(project.model), weights)
    known = None if reference is None else load_weights(copy.deepcopy(project.model), reference)
    evaluation = evaluate_models(
        project.model,
        unlearned,
        request,
        project.objective,
        reference=known,
        recipe=_recipe(project) if tier == 3 or (tier == 2 and known is None) else None,
        shadows=SHADOWS if tier == 3 else 0,
        method=_method(method, preset, None) if tier == 3 else None,
        test_set=project.test_set,
        seed=how.seed,
        runtime=_runtime(how),
    )
    places = {}
    if evidence is not None:
        places["evidence"] = str(evaluation.save_evidence(evidence))
    if out is not None:
        places["report"] = str(evaluation.save(out))
    _print(how, evaluation, request.duplicate_ids, places)
    return evaluation.verdict.word.exit_code


@app.command
def report(evidence: Path, *, out: Path | None = None, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Make the report again from saved evidence alone. The exit code follows the verdict.

    Args:
        evidence: folder that `nablatau evaluate --evidence` wrote.
        out: file for the report, ending in .html.
        json: print one JSON object instead of text.
    """
    from nablatau.results import Evaluation

    evaluation = Evaluation.load(evidence)
    places = {"report": str(evaluation.save(out))} if out is not None else {}
    _print(How(json=json), evaluation, (), places)
    return evaluation.verdict.word.exit_code


@app.command
def selftest(
    *,
    task: str = "digits_noisy",
    seeds: int = 10,
    device: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Audit the audit: known-good and known-bad models, and how often the verdict flags each.

    Args:
        task: name of a task (see list).
        seeds: number of repetitions.
        device: such as cpu or cuda.
        json: print one JSON object instead of text.
    """
    from nablatau.runtime import Runtime
    from nablatau.selftest import audit_the_audit
    from nablatau.tasks import find_task

    found = audit_the_audit(find_task(task), seeds=seeds, runtime=Runtime(device=device))
    if json:
        _print_json({"task": task, "seeds": seeds, "candidates": [each.to_json() for each in found]})
    else:
        print(f"{task}, {seeds} seeds: share flagged [95 %, Clopper-Pearson], and the verdicts given")
        for each in found:
            verdicts = ", ".join(f"{word} {count}" for word, count in each.words.most_common())
            mark = "" if each.as_expected else "   NOT AS EXPECTED"
            print(f"  {each.name:<11} expected {each.expected:<21} flagged {each.flagged}   {verdicts}{mark}")
    return 0 if all(each.as_expected for each in found) else EXIT_WRONG


@app.command(name="list")
def list_names(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List tasks, methods and presets.

    Args:
        json: print one JSON object instead of text.
    """
    from nablatau.methods import METHODS, PRESETS
    from nablatau.tasks import TASKS

    tables = {
        "tasks": {name: _first_line(make) for name, make in TASKS.items()},
        "methods": {name: _first_line(method) for name, method in METHODS.items()},
        "presets": {name: _first_line(make) for name, make in PRESETS.items()},
    }
    if json:
        _print_json(tables)
        return
    for title, table in tables.items():
        print(title)
        width = max(map(len, table))
        for name, line in table.items():
            print(f"  {name:<{width}}  {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process unless given.

    Returns:
        The exit code.
    """
    from nablatau.errors import NablatauError, NonFiniteLossError

    try:
        code = app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return EXIT_USAGE
    except NonFiniteLossError as error:
        print(f"nablatau: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except NablatauError as error:
        print(f"nablatau: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("nablatau: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


# ---------------------------------------------------------------------- from words to settings


def _forget(target: str, choice: Choice, method: "Method", out: Path, tier: Tier, how: How) -> None:
    from nablatau.api import evaluate as evaluate_models
    from nablatau.api import forget as forget_records
    from nablatau.checkpoints import whole_folder

    with whole_folder(out) as folder:  # made before any work, so that a place that cannot be written is known at once
        runtime = _runtime(how)
        project = _project(target, how)
        request = _request(project, choice)
        recipe = _recipe(project) if tier > 1 else project.recipe
        result = forget_records(
            project.model, request, project.objective, method=method, seed=how.seed, recipe=recipe, runtime=runtime
        )
        evaluation = evaluate_models(
            project.model,
            result,
            request,
            project.objective,
            recipe=recipe if tier > 1 else None,
            shadows=SHADOWS if tier == 3 else 0,
            test_set=project.test_set,
            seed=how.seed,
            runtime=runtime,
        )
        result.write_into(folder, evaluation)
    _print(how, evaluation, request.duplicate_ids, {"folder": str(out), "report": str(out / "report.html")})


def _project(target: str, how: How) -> "Project":
    """The project of this name, its model trained where it is a task."""
    from nablatau.projects import load_project
    from nablatau.tasks import TASKS

    if target in TASKS:
        return TASKS[target]().trained(how.seed, runtime=_runtime(how))
    return load_project(target, list(TASKS))


def _request(project: "Project", choice: Choice) -> "Request":
    """The request that the options ask for."""
    from nablatau.errors import RequestError

    ways = [choice.forget_ids, choice.forget_class or None, choice.forget_group or None, choice.fraction]
    if sum(way is not None for way in ways) != 1:
        raise RequestError(
            "Say which records must go by exactly one of --forget-ids FILE, --forget-class CLASS, "
            "--forget-group GROUP, --fraction SHARE."
        )
    data, copies = project.data, choice.forget_duplicates
    if choice.forget_ids is not None:
        return data.forget_ids(_read_ids(choice.forget_ids, data.ids), forget_duplicates=copies)
    if choice.forget_class:
        labels = data.class_labels
        return data.forget_class(
            *_as_type_of(labels.ravel()[:1].tolist(), choice.forget_class), forget_duplicates=copies
        )
    if choice.forget_group:
        groups = _as_type_of(list(data.groups or ())[:1], choice.forget_group)
        return data.forget_group(*groups, forget_duplicates=copies)
    assert choice.fraction is not None
    return data.forget_fraction(choice.fraction, seed=choice.fraction_seed, forget_duplicates=copies)


def _read_ids(file: Path, known: Sequence[Hashable] | None) -> list[Hashable]:
    """The ids in a file, one a line, of the type that the data set's ids have."""
    from nablatau.errors import RequestError

    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The file of ids cannot be read: {error}. It is a text file with one id a line.") from error
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise RequestError(f"{file} holds no id, so there is nothing to forget. Write one id a line.")
    return _as_type_of([0] if known is None else list(known)[:1], words)


def _as_type_of(examples: Sequence[Any], words: Sequence[str]) -> list[Hashable]:
    """The words as numbers where the examples are numbers."""
    from nablatau.errors import RequestError

    if not examples or not isinstance(examples[0], int):
        return list(words)
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise RequestError(f"Whole numbers are needed here (ids, classes or groups are): {error}.") from error


def _method(name: str | None, preset: str | None, batch_size: int | None) -> "Method":
    from nablatau.errors import SettingsError
    from nablatau.methods import find_method, find_preset

    if preset is not None and name not in (None, "nabla_tau"):
        raise SettingsError(f"Presets are settings of nabla_tau; {name} has none. Leave --preset out.")
    method = find_preset(preset or "paper") if name in (None, "nabla_tau") else find_method(str(name))()
    if batch_size is None:
        return method
    if not hasattr(method, "batch_size"):
        raise SettingsError(f"{name} has no batch size of its own. Leave --batch-size out.")
    return dataclasses.replace(method, batch_size=batch_size)  # type: ignore[call-arg]


def _recipe(project: "Project") -> Any:
    from nablatau.errors import SettingsError

    if project.recipe is None:
        raise SettingsError(
            "A reference is retrained by the project's recipe, and it has none. Return Project(recipe=Recipe(…), …), "
            "or leave --tier at 1."
        )
    return project.recipe


def _runtime(how: How) -> "Runtime":
    from nablatau.runtime import Runtime

    return Runtime(
        device=how.device,
        precision=how.precision,
        clip_norm=how.clip_norm,
        workers=how.workers,
        evaluation_batch_size=how.evaluation_batch_size,
    )


def _print(how: How, evaluation: "Evaluation", copies: Sequence[Hashable], places: dict[str, str]) -> None:
    """The evaluation, and where it was written."""
    if how.json:
        _print_json(evaluation.to_json() | {"run": evaluation.record, "duplicate_ids": list(copies)} | places)
        return
    if copies:
        shown = ", ".join(map(str, copies[:10])) + (", …" if len(copies) > 10 else "")
        print(
            f"nablatau: {len(copies)} retained records have the same inputs as a forgotten one (ids {shown}); while "
            "they stay, what they share is not forgotten. --forget-duplicates takes them along.",
            file=sys.stderr,
        )
    print(evaluation.answer, "", evaluation.table(), "", sep="\n")
    print("95 % intervals; how each was obtained is in the report.")
    for name, place in places.items():
        print(f"{name.capitalize()}: {place}")


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, indent=1, default=str))


def _free_folder(name: str) -> Path:
    """The name, or the first with a number behind it that is free."""
    numbered = (Path(name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
    return next(folder for folder in numbered if not folder.exists())


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
