"""Tier 3 on images: what shadow pipelines see of the published methods on the small CIFAR-10 set.

    NABLATAU_DATA=DATA python benchmarks/image_pipelines.py FOLDER    # an hour on 2 cores; goes on where it stopped
    NABLATAU_DATA=DATA python benchmarks/image_pipelines.py FOLDER --pipelines 2 --epochs 1 --table    # a trial

Trains the original on 6,000 images, a reference without 15 % of them, and K pipelines (train, then unlearn by each
method a third of the records under attack), one model a core. Each model's margins are kept in FOLDER as
one .npz, so nothing is computed twice. The table has, for each candidate: AUC by margins alone, LiRA-t (trained on
against never seen) and U-LiRA (unlearned against never seen), each with DeLong's interval.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from nablatau import Finetune, PublishedNablaTau
from nablatau.attacks.lira import lira_online
from nablatau.attacks.u_lira import ShadowState, u_lira
from nablatau.pipelines import deal_records
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.runtime import Runtime
from nablatau.scoring import score
from nablatau.statistics import auc_delong
from nablatau.tasks import find_task

METHODS = (PublishedNablaTau(), Finetune())
RUNTIME = Runtime(progress=False)


def set_up(pipelines: int, epochs: int | None):
    """The task, its request and the deal: the same in every process."""
    project = find_task("cifar10_small")()
    recipe = project.recipe if epochs is None else replace(project.recipe, epochs=epochs)
    request = project.data.forget_fraction(0.15)
    return project.objective, recipe, request, deal_records(request, pipelines=pipelines)


def run(job: int, folder: Path, pipelines: int, epochs: int | None) -> None:
    """Train one model, unlearn in it, and keep the margins. Job −2 is the original, −1 the reference."""
    file = folder / f"{job}.npz"
    if file.exists():
        return
    torch.set_num_threads(1)
    objective, recipe, request, deal = set_up(pipelines, epochs)
    if job == -2:
        records, asked = whole_training_set(request), request
    elif job == -1:
        records, asked = request.retain_set, None
    else:
        records, asked = deal.records.subset(np.flatnonzero(deal.included[job])), deal.request_of(job)
    model = train(recipe, records, objective, seed=100 + job, runtime=RUNTIME)
    attacked = deal.records.subset(deal.targets)
    margins = {"trained": score(model, attacked, objective)["margin"]}
    for method in METHODS if asked is not None else ():
        done = method.unlearn(model, asked, objective, seed=100 + job, runtime=RUNTIME)
        margins[method.name] = score(done.model, attacked, objective)["margin"]
    part = file.with_suffix(".part.npz")
    np.savez(part, **margins)
    part.rename(file)
    print(f"job {job}: {len(records):,} records", flush=True)


def whole_training_set(request):
    """Forget and retain set together."""
    both = np.concatenate([request.retain_set.positions, request.forget_set.positions])
    dataset = request.retain_set.dataset
    return Records(dataset, np.sort(both), range(len(dataset)))


def table(folder: Path, pipelines: int, epochs: int | None) -> None:
    """Print what the attacks say of each candidate."""
    _, _, _, deal = set_up(pipelines, epochs)
    margins = {job: np.load(folder / f"{job}.npz") for job in range(-2, pipelines)}
    trained = np.stack([margins[k]["trained"] for k in range(pipelines)])
    count = len(deal.forget_positions)

    def auc(scores) -> str:
        found = auc_delong(scores[:count], scores[count:])
        return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"

    candidates = {"original": margins[-2]["trained"], "retrained": margins[-1]["trained"]}
    candidates |= {method.name: margins[-2][method.name] for method in METHODS}
    print(f"n = {count} forgotten and {len(deal.targets) - count} unseen records, K = {pipelines}")
    print("| candidate | margins alone | LiRA-t | U-LiRA |\n|---|---|---|---|")
    for name, target in candidates.items():
        kept = deal.states != ShadowState.OUT
        cells = [auc(target), auc(lira_online(target, trained, kept))]
        if name in margins[-2]:
            unlearned = np.stack([margins[k][name] for k in range(pipelines)])
            cells.append(auc(u_lira(target, unlearned, deal.states)))
        print(f"| {name} | " + " | ".join([*cells, "–"][:3]) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pipelines", type=int, default=16)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--table", action="store_true", help="only print the table")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    jobs = [] if asked.table else range(-2, asked.pipelines)
    Parallel(n_jobs=2)(delayed(run)(job, asked.folder, asked.pipelines, asked.epochs) for job in jobs)
    table(asked.folder, asked.pipelines, asked.epochs)
