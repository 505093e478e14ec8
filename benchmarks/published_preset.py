"""∇τ as published on every task: forget 3, 15, 30 %, a class, a group; original, unlearned, retrained; over seeds.

    NABLATAU_DATA=FOLDER python benchmarks/published_preset.py RECORDS.jsonl [--tasks digits …] [--seeds 5]
    python benchmarks/published_preset.py RECORDS.jsonl --table

A seed trains its own original and reference model, draws its own forget set and runs ∇τ once. Records are appended one
a line; a cell that is there already is not run again. The table gives the mean over seeds with the 95 % t interval.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

import nablatau
from nablatau.data import Request, TrainingData
from nablatau.evaluation import AUC_NAME, TASK_SCORES
from nablatau.tasks import TASKS

DEFAULT_TASKS = ("digits", "fashion_mnist", "breast_cancer", "adult", "diabetes", "california_housing")


def largest_group(data: TrainingData, seed: int) -> Request:
    """A group of middling size: the one at place `seed` among those between 1 and 10 % of the records."""
    names, counts = np.unique(np.array(data.groups), return_counts=True)
    usable = [name for name, count in zip(names, counts, strict=True) if 0.004 <= count / len(data.groups) <= 0.2]
    return data.forget_group(str(usable[seed % len(usable)]))


REQUESTS: dict[str, Callable[[TrainingData, int], Request]] = {
    "3 %": lambda data, seed: data.forget_fraction(0.03, seed=seed),
    "15 %": lambda data, seed: data.forget_fraction(0.15, seed=seed),
    "30 %": lambda data, seed: data.forget_fraction(0.30, seed=seed),
    "a class": lambda data, seed: data.forget_class(int(np.unique(data.class_labels)[seed % 10 % _classes(data)])),
    "a group": largest_group,
}


def _classes(data: TrainingData) -> int:
    return len(np.unique(data.class_labels))


def cells(tasks: list[str], seeds: int) -> Iterator[tuple[str, int]]:
    return ((task, seed) for task in tasks for seed in range(seeds))


def run(task: str, seed: int, done: set[tuple[str, str, int]], file: Path) -> None:
    project = TASKS[task]()
    applicable = [
        name
        for name in REQUESTS
        if not (name == "a class" and project.objective.kind != "single-label")
        and not (name == "a group" and project.groups is None)
        and (task, name, seed) not in done
    ]
    if not applicable:
        return
    project = project.trained(seed)
    for name in applicable:
        request = REQUESTS[name](project.data, seed)
        published = nablatau.PublishedNablaTau()
        result = nablatau.forget(project.model, request, project.objective, method=published, seed=seed)
        evaluation = nablatau.evaluate(
            project.model,
            result,
            request,
            project.objective,
            recipe=project.recipe,
            test_set=project.test_set,
            seed=seed + 1000,
        )
        record = {"task": task, "request": name, "seed": seed, "run": result.record, **evaluation.to_json()}
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, default=str) + "\n")
        print(task, name, seed, evaluation.answer, flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: one line a task, request and model."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["task"], record["request"]].append(record)
    lines = [
        "| task | forget | model | retain | forget | test | AUC | attack on losses | share of retraining | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (task, request), cell in groups.items():
        for model in ("original", "unlearned", "retrained"):
            label = TASK_SCORES[cell[0]["run"]["objective"]["kind"]][0]
            names = [f"{label}, {split} set" for split in ("retain", "forget", "test")]
            values = [
                over_seeds(cell, name, model) for name in [*names, AUC_NAME, "Logistic-regression attack on losses"]
            ]
            cost = [
                each["costs"]["unlearned"]["trained_samples"] / each["costs"]["retrained"]["trained_samples"]
                for each in cell
            ]
            share = f"{100 * np.mean(cost):.0f} %" if model == "unlearned" else ""
            name = f"{label}: {task}" if label != "Accuracy" else task
            lines.append(f"| {name} | {request} | {model} | {' | '.join(values)} | {share} | {len(cell)} |")
    return "\n".join(lines)


def over_seeds(cell: list[dict[str, Any]], name: str, model: str) -> str:
    """Mean and half-width of the 95 % t interval over seeds."""
    found = [row["values"][model] for record in cell for row in record["rows"] if row["name"] == name]
    values = [each["value"] for each in found if each is not None]
    if len(values) < 2:
        return "–"
    half = student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):.3f} ± {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("--tasks", nargs="+", default=DEFAULT_TASKS, choices=TASKS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table:
        done = {(each["task"], each["request"], each["seed"]) for each in read(arguments.records)}
        for task, seed in cells(arguments.tasks, arguments.seeds):
            run(task, seed, done, arguments.records)
    print(table(read(arguments.records)))


if __name__ == "__main__":
    main()
