"""What the command line prints: an evaluation, a benchmark's plan, JSON for machines."""

import json
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nablatau.options import How

if TYPE_CHECKING:
    from nablatau.bench import Grid, Workers
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
