"""How far each forgotten record's margin lies from where retraining puts it, for the default of ∇τ and beside it.

    python benchmarks/default/margins.py digits digits_noisy breast_cancer diabetes   # about ten minutes on a core
    NABLATAU_DATA=FOLDER python benchmarks/default/margins.py adult fashion_mnist --seeds 2

15 % of the training set is forgotten. Five models are retrained for each seed; a record's distance is
|margin − their mean| in a standard deviation whose square is the mean of the record's own variance and that of all
records; the mean over records is |z|. A sixth retrained model shows what a perfect unlearning scores. Printed are means
over training seeds with Student's 95 % interval; every seed has its own original and forget set. For regression the
margin is that of scoring.py.
"""

import argparse

import numpy as np
import torch

from nablatau import NablaTau, PublishedNablaTau, Runtime
from nablatau.recipes import train
from nablatau.scoring import score
from nablatau.statistics import mean_interval
from nablatau.tasks import find_task

QUIET = Runtime(progress=False)
RETRAINED = 5


def distances(task: str, seed: int) -> dict[str, float]:
    """|z| of each model."""
    project = find_task(task)().trained(seed, runtime=QUIET)
    objective, request = project.objective, project.data.forget_fraction(0.15, seed=seed)
    retrained = [
        train(project.recipe, request.retain_set, objective, seed=1000 * seed + k, runtime=QUIET)
        for k in range(1, RETRAINED + 2)
    ]
    models = {"original": project.model, "retrained": retrained[-1]}
    for name, method in (("default", NablaTau()), ("as published", PublishedNablaTau())):
        models[name] = method.unlearn(project.model, request, objective, seed=seed, runtime=QUIET).model
    reference = np.stack([score(model, request.forget_set, objective)["margin"] for model in retrained[:-1]])
    variance = reference.var(axis=0, ddof=1)
    spread = np.sqrt((variance + variance.mean()) / 2)
    return {
        name: float(
            np.mean(np.abs(score(model, request.forget_set, objective)["margin"] - reference.mean(axis=0)) / spread)
        )
        for name, model in models.items()
    }


def main() -> None:
    """Print |z| by task and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for task in asked.tasks:
        found = [distances(task, seed) for seed in range(asked.seeds)]
        for name in found[0]:
            print(f"{task:<16} {name:<14} {mean_interval([each[name] for each in found])}", flush=True)


if __name__ == "__main__":
    main()
