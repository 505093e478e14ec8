"""What the command line prints: an evaluation, or why there is none; a benchmark's plan, JSON for machines."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nablatau.options import Choice, How, TextWords

if TYPE_CHECKING:
    from nablatau.bench import Grid, Workers
    from nablatau.errors import NotEvaluatedError
    from nablatau.results import Evaluation


def print_evaluation(how: How, evaluation: "Evaluation", copies: Sequence[Hashable], places: dict[str, str]) -> None:
    """The evaluation, and where it was written; of several processes the first says it."""
    from nablatau.runtime import process_rank

    if process_rank() != 0:
        return
    if how.json:
        print_json(evaluation.to_json() | {"run": evaluation.record, "duplicate_ids": list(copies)} | places)
        return
    if copies:
        shown = ", ".join(map(str, copies[:10])) + (", …" if len(copies) > 10 else "")
        print(
            f"nablatau: {len(copies)} retained records have the same inputs as a forgotten one (ids {shown}); while "
            "they stay, what they share is not forgotten. --forget-duplicates takes them along.",
            file=sys.stderr,
        )
    print(evaluation.answer, "", evaluation.table(), "", sep="\n")
    for note in evaluation.record.get("notes", ()):
        print(note)
    print("95 % intervals; how each was obtained is in the report.")
    for name, place in places.items():
        print(f"{name.capitalize()}: {place}")


def not_evaluated(error: BaseException, out: Path, line: str) -> "NotEvaluatedError":
    """What is said where the evidence of a model that has forgotten could not be gathered.

    Args:
        error: that ended it.
        out: folder that the model lies in.
        line: command line that tries it again.
    """
    from nablatau.errors import NablatauError, NotEvaluatedError

    what = str(error) if isinstance(error, NablatauError) else f"{type(error).__name__}: {error}"
    reason = "interrupted." if isinstance(error, KeyboardInterrupt) else what
    return NotEvaluatedError(
        f"The model has forgotten and is saved in {out}, with its record and without evidence. Gathering that ended "
        f"early: {reason}\n"
        "To evaluate the model type the line below. --no-recovery leaves out the checks that train copies of it, and a "
        f"smaller --evaluation-batch-size takes less memory.\n{line}"
    )


def evaluate_line(
    target: str | None,
    words: TextWords,
    choice: Choice,
    how: How,
    out: Path,
    further: Mapping[str, Any],
) -> str:
    """The command line that evaluates what `nablatau forget` with these options wrote.

    Args:
        target, words, choice, how, out: as they were given.
        further: options of the evaluation by name, left out where None.
    """
    from nablatau.checkpoints import WEIGHTS_NAME

    weights = out if words.hf else out / WEIGHTS_NAME
    options: dict[str, Any] = {"weights": weights, "out": out / "evaluation.html", **further}
    for given in (words, choice, how):
        fields = dataclasses.fields(given)
        options |= {
            each.name: getattr(given, each.name) for each in fields if getattr(given, each.name) != each.default
        }
    typed = ["nablatau", "evaluate", *([] if target is None else [target])]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        several = value if isinstance(value, tuple) else () if value is None else (value,)
        typed += [word for each in several for word in ([flag] if each is True else [flag, str(each)])]
    return shlex.join(typed)


def print_plan(grid: "Grid", folder: Path, workers: "Workers", as_json: bool) -> int:
    """What would be run, and how long it would take."""
    from nablatau.bench import make_plan
    from nablatau.bench.estimate import estimate

    plan = make_plan(grid)
    found = estimate(plan, folder, workers)
    if as_json:
        print_json(vars(found) | {"plan": [str(cell) for cell in plan.cells], "left_out": plan.left_out})
        return 0
    print(*plan.cells, sep="\n")
    print(*(f"left out: {place}: {reason}" for place, reason in plan.left_out.items()), sep="\n")
    guessed = f"; {', '.join(found.guessed)} taken to cost as much as retraining" if found.guessed else ""
    print(
        f"{found.cells} cells to run, {found.there} there already; {found.parts} models or pools to train first.\n"
        f"About {found.seconds / 60:.1f} minutes{guessed}."
    )
    return 0


def print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, indent=1, default=str))
