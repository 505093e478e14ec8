"""What the default is for beside single records: wrong labels, a bias, ten requests one after another, tiny requests.

    python benchmarks/default/scenarios.py RECORDS.jsonl            # two minutes on a core, five seeds each

Each scenario has its own measure, for the original, ∇τ (default), ∇τ as published, and a retrained model:

- wrong labels (digits_noisy): all mislabelled records are forgotten; accuracy on the test set, whose labels are right;
- bias (digits_marked): all records with the spurious mark are forgotten; accuracy on test images that all carry it;
- sequence (digits): ten requests of 1 % of the training set, each on the model and the records that the
  last one left, beside one request for the same 10 %; mean |difference| of retain, forget and test accuracy and AUC to
  a retrained model;
- tiny (digits): requests of 1, 10 and 50 records; test accuracy, and the share of records whose margin lies within the
  range of ten retrained models, widened by its own spread (a third retrained model is judged beside them).

Numbers are means over training seeds with Student's 95 % interval; every seed has its own original and forget set.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from nablatau import NablaTau, PublishedNablaTau, Retrain, Runtime, TrainingData
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.scoring import score
from nablatau.statistics import auc_delong, mean_interval
from nablatau.tasks import find_task

SEEDS = range(5)
QUIET = Runtime(progress=False)
METHODS = {"default": NablaTau(), "as published": PublishedNablaTau()}


def accuracy(model, records, objective) -> float:
    """Share of records classified rightly."""
    return float(score(model, records, objective)["correct"].mean())


def by_group(task: str, group: str, seed: int) -> dict[str, float]:
    """Test accuracy before and after a whole group is forgotten."""
    project = find_task(task)().trained(seed, runtime=QUIET)
    request, test = project.data.forget_group(group), Records.all_of(project.test_set)
    models = {"original": project.model}
    for name, method in (*METHODS.items(), ("retrained", Retrain())):
        done = method.unlearn(
            project.model, request, project.objective, seed=seed, recipe=project.recipe, runtime=QUIET
        )
        models[name] = done.model
    return {name: accuracy(model, test, project.objective) for name, model in models.items()}


def numbers(model, request, test, objective) -> list[float]:
    """Accuracy on retain, forget and test set, and AUC of forgotten against unseen records by their loss."""
    losses = [-score(model, part, objective)["loss"] for part in (request.forget_set, request.evaluation_set)]
    parts = (request.retain_set, request.forget_set, test)
    return [*(accuracy(model, part, objective) for part in parts), auc_delong(*losses).value]


def sequence(seed: int) -> dict[str, float]:
    """Average gap to retrain, in points, after ten requests of 1 % and after one of 10 %."""
    project = find_task("digits")().trained(seed, runtime=QUIET)
    objective, test, size = project.objective, Records.all_of(project.test_set), len(project.train_set)
    whole = project.data.forget_fraction(0.1, seed=seed)
    forgotten = whole.forget_set.positions
    reference, second = (
        Retrain().unlearn(project.model, whole, objective, seed=1000 * seed + k, recipe=project.recipe).model
        for k in (1, 2)
    )
    found = {"original": project.model, "retrained again": second}
    for name, method in METHODS.items():
        found[f"{name}, at once"] = method.unlearn(project.model, whole, objective, seed=seed, runtime=QUIET).model
        model, left = project.model, np.arange(size)
        for part in np.array_split(np.random.default_rng(seed).permutation(forgotten), 10):
            dataset = Records(project.train_set, left, range(size))
            data = TrainingData(dataset, project.holdout_set, ids=left.tolist())
            model = method.unlearn(model, data.forget_ids(part.tolist()), objective, seed=seed, runtime=QUIET).model
            left = np.setdiff1d(left, part)
        found[f"{name}, ten times"] = model
    aim = numbers(reference, whole, test, objective)
    return {
        name: 100 * float(np.mean(np.abs(np.subtract(numbers(model, whole, test, objective), aim))))
        for name, model in found.items()
    }


def tiny(count: int, seed: int) -> dict[str, float]:
    """Change of test accuracy in points against retraining, and share of margins within the retrained range, in %."""
    project = find_task("digits")().trained(seed, runtime=QUIET)
    objective, test = project.objective, Records.all_of(project.test_set)
    request = project.data.forget_fraction(count / len(project.train_set), seed=seed)
    retrained = [
        train(project.recipe, request.retain_set, objective, seed=1000 * seed + k, runtime=QUIET) for k in range(11)
    ]
    margins = np.stack([score(model, request.forget_set, objective)["margin"] for model in retrained])
    spread = margins[:10].std(axis=0, ddof=1)
    low, high = margins[:10].min(axis=0) - spread, margins[:10].max(axis=0) + spread
    models = {"original": project.model, "retrained": retrained[10]}
    for name, method in METHODS.items():
        models[name] = method.unlearn(project.model, request, objective, seed=seed, runtime=QUIET).model
    level = np.mean([accuracy(model, test, objective) for model in retrained[:10]])
    found = {}
    for name, model in models.items():
        margin = score(model, request.forget_set, objective)["margin"]
        found[f"{name}: within"] = 100 * float(((low <= margin) & (margin <= high)).mean())
        found[f"{name}: test"] = 100 * (accuracy(model, test, objective) - level)
    return found


SCENARIOS = {
    "wrong labels": lambda seed: by_group("digits_noisy", "wrong label", seed),
    "bias": lambda seed: by_group("digits_marked", "marked", seed),
    "sequence": sequence,
    "tiny, 1": lambda seed: tiny(1, seed),
    "tiny, 10": lambda seed: tiny(10, seed),
    "tiny, 50": lambda seed: tiny(50, seed),
}


def main() -> None:
    """Run what is not in the records yet, and print means with intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = asked.records.read_text().splitlines() if asked.records.exists() else []
    done = {(each["scenario"], each["seed"]): each for each in map(json.loads, lines)}
    with asked.records.open("a") as stream:
        for name, run in SCENARIOS.items():
            for seed in SEEDS:
                if (name, seed) not in done:
                    done[name, seed] = {"scenario": name, "seed": seed, "numbers": run(seed)}
                    stream.write(json.dumps(done[name, seed]) + "\n")
                    stream.flush()
            found = [done[name, seed]["numbers"] for seed in SEEDS]
            for column in found[0]:
                print(f"{name:<24} {column:<24} {mean_interval([each[column] for each in found])}", flush=True)


if __name__ == "__main__":
    main()
