"""How far each forgotten record's margin lies from where retraining puts it, for the default of ∇τ and beside it.

    python benchmarks/default/margins.py RUNS.jsonl digits digits_noisy breast_cancer diabetes   # 3 minutes of a core
    NABLATAU_DATA=FOLDER python benchmarks/default/margins.py RUNS.jsonl adult --seeds 3         # as long
    python benchmarks/default/margins.py benchmarks/records/margins.jsonl                        # the table alone

15 % of the training set is forgotten. Five models are retrained for each seed; a record's distance is
|margin − their mean| in a standard deviation whose square is the mean of the record's own variance and that of all
records; the mean over records is |z|. A sixth retrained model shows what a perfect unlearning scores. Runs are kept in
RUNS.jsonl. Printed are means over training seeds with Student's 95 % interval; every seed has its own original and
forget set. For regression the margin is that of scoring.py.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from runs import Numbers, Runs, markdown

from nablatau import NablaTau, PublishedNablaTau, Runtime
from nablatau.recipes import train
from nablatau.scoring import score
from nablatau.statistics import mean_interval
from nablatau.tasks import find_task

QUIET = Runtime(progress=False)
RETRAINED = 5
METHODS = {"default": NablaTau(), "as published": PublishedNablaTau()}
MODELS = ("original", *METHODS, "retrained")


def distances(task: str, seed: int) -> Numbers:
    """|z| of each model, and the number of records that it is the mean of."""
    project = find_task(task)().trained(seed, runtime=QUIET)
    objective, request = project.objective, project.data.forget_fraction(0.15, seed=seed)
    retrained = [
        train(project.recipe, request.retain_set, objective, seed=1000 * seed + k, runtime=QUIET)
        for k in range(1, RETRAINED + 2)
    ]
    models = {"original": project.model, "retrained": retrained[-1]}
    for name, method in METHODS.items():
        models[name] = method.unlearn(project.model, request, objective, seed=seed, runtime=QUIET).model
    reference = np.stack([score(model, request.forget_set, objective)["margin"] for model in retrained[:-1]])
    variance = reference.var(axis=0, ddof=1)
    spread = np.sqrt((variance + variance.mean()) / 2)
    found = {
        name: float(
            np.mean(np.abs(score(model, request.forget_set, objective)["margin"] - reference.mean(axis=0)) / spread)
        )
        for name, model in models.items()
    }
    return found | {"records": len(request.forget_set)}


def table(runs: Runs) -> str:
    """|z| by task and model."""
    rows = []
    for task in runs.names:
        found = runs.of(task)
        sizes = sorted({int(each["records"]) for each in found})
        rows.append([task, len(found), *sizes, *(mean_interval([each[name] for each in found]) for name in MODELS)])
    return markdown(["task", "seeds", "records forgotten", *MODELS], rows)


def main() -> None:
    """Run what is not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs(asked.runs)
    for task in asked.tasks:
        runs.make(task, range(asked.seeds), partial(distances, task))
    print(table(runs))


if __name__ == "__main__":
    main()
