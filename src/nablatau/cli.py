"""The command line: parse, make settings, one call, print. Nothing is computed here.

Exit codes: 0 done · 1 a request, setting, project, data set or file is wrong, and the message says what to do ·
2 the command line itself is wrong · 3 a run stopped at a loss that is no number · 5 the model has forgotten and is
saved, but the evidence could not be gathered · 130 interrupted. `evaluate` and `report` follow the verdict: 0 for
EQUIVALENT and NOT DETECTED, 10 to 15 for the others (`Word`), so that they can gate; `bench` gives 4 where some of its
cells failed.
Under torchrun `demo`, `forget` and `evaluate` run in all processes together, and the first prints and writes.
Results go to standard output, progress and errors to standard error.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from nablatau.opening import check_merge, project_of, recipe_for, request_for, runtime_for, texts_of, with_weights
from nablatau.options import Choice, GridWords, How, TextWords, method_of, pipelines_method, recipe_of
from nablatau.printing import evaluate_line, not_evaluated, print_evaluation, print_json, print_plan

if TYPE_CHECKING:
    from nablatau.hf import TextProject
    from nablatau.methods import Method
    from nablatau.results import Evaluation, Forgotten

Tier = Literal[1, 2, 3]
SHADOWS = 16
EXIT_WRONG, EXIT_USAGE, EXIT_DIVERGED, EXIT_SOME_FAILED, EXIT_NOT_EVALUATED, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130

app = App(
    name="nablatau",
    help="Make a trained model forget chosen training records, and show with evidence whether it did.",
    help_epilogue=(
        "Exit codes: 0 done, 1 wrong input, 2 wrong command line, 3 the loss became no number, 4 some cells "
        "of a bench failed, 5 saved but not evaluated. evaluate and report: 0 equivalent or not detected, "
        "10 audit invalid, 11 leak detected, 12 over-forgetting, 13 recoverable, 14 utility lost, 15 no power."
    ),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)


Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)]
Target = Annotated[
    str | None, Parameter(help="FILE.py:FUNCTION or MODULE:FUNCTION that returns a Project; or a task's name.")
]


@app.command
def demo(*, out: Path | None = None, how: How | None = None) -> None:
    """Train a model on real digits, forget 15 % of its records, and show original, unlearned and retrained.

    Args:
        out: new folder for weights, record and report; nablatau-demo, or with a number behind it, unless given.
    """
    import torch

    torch.set_num_threads(1)  # more gain nothing on a network this small, and wait for each other on a busy machine
    how = how or How()
    folder = out or _free_folder("nablatau-demo")
    choice = Choice(fraction=0.15)
    made_by = method_of(None, None, None)
    _forget("digits", TextWords(), choice, made_by, folder, 2, how, named={}, recovery=True, merge=False)


@app.command
def forget(
    target: Target = None,
    *,
    out: Path,
    texts: TextWords | None = None,
    choice: Choice | None = None,
    method: str | None = None,
    preset: str | None = None,
    batch_size: int | None = None,
    settings: Settings = (),
    tier: Tier = 1,
    recovery: bool = True,
    merge: Annotated[bool, Parameter(negative="")] = False,
    how: How | None = None,
) -> None:
    """Make a model forget, and write weights, record and report into a new folder.

    Args:
        out: new folder.
        method: name of a method (see list); nabla_tau unless given.
        preset: default (nothing to tune), or the published algorithm: paper for images, paper-text for text.
        batch_size: examples in a batch; the method's own unless given.
        settings: NAME=VALUE, a setting of the method, such as learning_rate=1e-3; may be repeated.
        tier: evidence for the report: 1 the model alone; 2 also a reference model, retrained by the project's recipe;
            3 also 16 shadow pipelines.
        recovery: also look whether the records come back; this trains copies of the whole model.
        merge: of a Hugging Face model with an adapter, save the whole model, the adapter worked into it.
    """
    words = texts or TextWords()
    made_by = method_of(method, preset, batch_size, settings)
    named = {"method": method, "preset": preset, "batch_size": batch_size, "set": settings}
    choice, how = choice or Choice(), how or How()
    _forget(target, words, choice, made_by, out, tier, how, named=named, recovery=recovery, merge=merge)


@app.command
def evaluate(
    target: Target = None,
    *,
    weights: Path,
    texts: TextWords | None = None,
    choice: Choice | None = None,
    reference: Path | None = None,
    tier: Tier = 1,
    method: str | None = None,
    preset: str | None = None,
    batch_size: int | None = None,
    settings: Settings = (),
    out: Path | None = None,
    evidence: Path | None = None,
    recovery: bool = True,
    how: How | None = None,
) -> int:
    """Show whether given weights have forgotten, whatever made them. The exit code follows the verdict.

    Args:
        weights: .safetensors file of the model that is said to have forgotten; of a Hugging Face model, its folder too.
        reference: the same of a model trained from scratch without the records.
        tier: 1 the model alone; 2 also a reference model, given or retrained by the project's recipe; 3 also 16 shadow
            pipelines that train by the recipe and unlearn by the method.
        method: for tier 3, what made the weights; nabla_tau unless given.
        preset: for tier 3, a preset in place of a method.
        batch_size: for tier 3, examples in a batch of the method; its own unless given.
        settings: for tier 3, NAME=VALUE, a setting of the method; may be repeated.
        out: file for the report, ending in .html.
        evidence: new folder for the per-example arrays, from which `nablatau report` makes the report again.
        recovery: also look whether the records come back; this trains copies of the whole model.
    """
    from nablatau.api import evaluate as evaluate_models
    from nablatau.checkpoints import check_free
    from nablatau.processes import joined_processes
    from nablatau.results import check_page_name
    from nablatau.runtime import process_rank

    how = how or How()
    made_by = pipelines_method(tier, method, preset, batch_size, settings)
    if out is not None:
        check_page_name(out)
    if evidence is not None:
        check_free(evidence)
    with joined_processes(how.device):
        words = texts or TextWords()
        opened = texts_of(target, words)
        project = opened.project if opened else project_of(target, how)
        request = request_for(project, opened, choice or Choice())
        unlearned = with_weights(project, opened, weights)
        known = None if reference is None else with_weights(project, opened, reference)
        evaluation = evaluate_models(
            project.model,
            unlearned,
            request,
            project.objective,
            reference=known,
            recipe=recipe_of(project) if tier == 3 or (tier == 2 and known is None) else None,
            shadows=SHADOWS if tier == 3 else 0,
            method=made_by,
            test_set=project.test_set,
            recovery=recovery,
            seed=how.seed,
            runtime=runtime_for(how, opened),
        )
        places = {}
        if evidence is not None:
            places["evidence"] = str(evaluation.save_evidence(evidence))
        if out is not None:
            places["report"] = str(evaluation.save(out))
        print_evaluation(how, evaluation, request.duplicate_ids, places)
        return evaluation.verdict.word.exit_code if process_rank() == 0 else 0


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
    print_evaluation(How(json=json), evaluation, (), places)
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
        print_json({"task": task, "seeds": seeds, "candidates": [each.to_json() for each in found]})
    else:
        print(f"{task}, {seeds} seeds: share flagged [95 %, Clopper-Pearson], and the verdicts given")
        for each in found:
            verdicts = ", ".join(f"{word} {count}" for word, count in each.words.most_common())
            mark = "" if each.as_expected else "   NOT AS EXPECTED"
            print(f"  {each.name:<11} expected {each.expected:<21} flagged {each.flagged}   {verdicts}{mark}")
    return 0 if all(each.as_expected for each in found) else EXIT_WRONG


@app.command
def bench(
    target: Annotated[str | None, Parameter(help="FILE.py:NAME or MODULE:NAME of a Grid, in place of words.")] = None,
    *,
    folder: Path,
    words: GridWords | None = None,
    jobs: int | None = None,
    device: str | None = None,
    dask: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    retry_failed: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Compare methods: tasks by requests by methods by seeds, into records and one page. Goes on where it was stopped.

    Args:
        folder: for records, models, evidence and page.
        jobs: processes on this machine; as many as it has cores unless given.
        device: such as cpu or cuda; with cuda each process takes a GPU of its own.
        dask: address of a Dask scheduler, such as tcp://127.0.0.1:8786, whose workers are used instead.
        dry_run: print the plan and how long it will take, and run nothing.
        retry_failed: run again what failed.
        json: print one JSON object instead of text.
    """
    from nablatau.bench import Grid, Workers, run
    from nablatau.bench.plan import load_grid
    from nablatau.errors import SettingsError

    words = words or GridWords()
    if (target is None) == (words == GridWords()):
        raise SettingsError("Say what to compare: --tasks NAME … --requests random:0.1 …, or FILE.py:NAME of a Grid.")
    grid = Grid(**words.for_grid()) if target is None else load_grid(target)
    workers = Workers(jobs=jobs, device=device, dask=dask)
    if dry_run:
        return print_plan(grid, folder, workers, json)

    def on_record(record: dict[str, Any], count: int, total: int) -> None:
        what = f"{record['task']} {record['request']} {record['method']} ({record['settings_from']})"
        seeds = f"seeds {record['training_seed']}, {record['unlearning_seed']}"
        came = record["verdict"] or "FAILED: {type}: {message}".format(**record["reason"])
        print(f"[{count}/{total}] {what}, {seeds}: {came}", file=sys.stderr)

    outcome = run(grid, folder, workers=workers, retry_failed=retry_failed, on_record=on_record)
    failed = len(outcome.failed)
    if json:
        counts = {"cells": len(outcome.records), "run": outcome.run, "failed": failed}
        print_json(counts | {"left_out": outcome.left_out, "page": str(outcome.page)})
    else:
        again = "; --retry-failed runs them again" if failed else ""
        print(f"{len(outcome.records)} cells, {outcome.run} run now, {failed} failed{again}.\nPage: {outcome.page}")
    return EXIT_SOME_FAILED if failed else 0


@app.command(name="list")
def list_names(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List tasks, methods, presets, attacks and metrics.

    Args:
        json: print one JSON object instead of text.
    """
    from nablatau.listing import known_names

    tables = known_names()
    if json:
        print_json(tables)
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
    from nablatau.errors import NablatauError, NonFiniteLossError, NotEvaluatedError

    try:
        code = app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return EXIT_USAGE
    except NonFiniteLossError as error:
        print(f"nablatau: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except NotEvaluatedError as error:
        if not isinstance(error.__cause__, (NablatauError, KeyboardInterrupt)):
            traceback.print_exception(error.__cause__)  # nobody meant it, so it is shown where it arose
        print(f"nablatau: {error}", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else EXIT_NOT_EVALUATED
    except NablatauError as error:
        print(f"nablatau: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("nablatau: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


# ---------------------------------------------------------------------- from words to settings


def _forget(
    target: str | None,
    words: TextWords,
    choice: Choice,
    method: "Method",
    out: Path,
    tier: Tier,
    how: How,
    *,
    named: dict[str, Any],
    recovery: bool,
    merge: bool,
) -> None:
    from nablatau.api import evaluate as evaluate_models
    from nablatau.api import forget as forget_records
    from nablatau.processes import in_first_process, joined_processes, one_folder

    with joined_processes(how.device):
        with one_folder(out) as folder:  # before any work, so that a place that cannot be written is known at once
            opened = texts_of(target, words)
            check_merge(opened, merge)
            runtime = runtime_for(how, opened)
            project = opened.project if opened else project_of(target, how)
            request = request_for(project, opened, choice)
            recipe = recipe_for(project, runtime, tier)
            result = forget_records(
                project.model, request, project.objective, method=method, seed=how.seed, recipe=recipe, runtime=runtime
            )
            result = opened.described(result) if opened else result
            if folder is not None and opened:
                opened.write_into(folder, result, merge=merge)
            elif folder is not None:
                result.write_into(folder)
        try:  # whatever happens from here on, the model is there
            evaluation = evaluate_models(
                project.model,
                result,
                request,
                project.objective,
                recipe=recipe if tier > 1 else None,
                shadows=SHADOWS if tier == 3 else 0,
                test_set=project.test_set,
                recovery=recovery,
                seed=how.seed,
                runtime=runtime,
            )
            in_first_process(lambda: _add(evaluation, result, opened, out))
        except (Exception, KeyboardInterrupt) as error:
            further = {"tier": tier if tier > 1 else None, "no_recovery": None if recovery else True}
            line = evaluate_line(target, words, choice, how, out, further | (named if tier == 3 else {}))
            raise not_evaluated(error, out, line) from error
        print_evaluation(
            how, evaluation, request.duplicate_ids, {"folder": str(out), "report": str(out / "report.html")}
        )


def _add(evaluation: "Evaluation", result: "Forgotten", opened: "TextProject | None", out: Path) -> None:
    if opened:
        opened.add_evaluation(out, result, evaluation)
    else:
        result.add_evaluation(out, evaluation)


def _free_folder(name: str) -> Path:
    """The name, or the first with a number behind it that is free."""
    numbered = (Path(name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
    return next(folder for folder in numbered if not folder.exists())


if __name__ == "__main__":
    sys.exit(main())
