"""Time of training K shadow models as stacks beside a hand-written PyTorch loop, one after another, in one process.

    python benchmarks/shadow_training.py             # a table, and one JSON record a line after it

Both train K models from fresh weights, each on its own half of the records drawn by coin, as many passes and steps, and
the fresh weights, the trial and the checks count. They alternate, so that what else the machine does falls on both
alike; the figure is the median over rounds of the ratio of their times (loop ÷ stack: above 1 the stack is faster),
with the interval of that median (order statistics, 95 %).
"""

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from nablatau import Objective, Runtime
from nablatau.recipes import Recipe
from nablatau.records import Records
from nablatau.shadows import inclusion_by_coin, train_shadows
from nablatau.tasks.models import perceptron, small_convolutional


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained: recipe, records, and how many models a stack holds (None: all)."""

    recipe: Recipe
    dataset: Callable[[], TensorDataset]
    at_once: int | None = None


def digits() -> TensorDataset:
    """500 real digits, as the task of that name has them."""
    source = load_digits()
    return TensorDataset(torch.from_numpy(source.data[:500]).float() / 8 - 1, torch.from_numpy(source.target[:500]))


def random_images() -> TensorDataset:
    """256 images of the size of Fashion-MNIST's; what they show does not matter to the time."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (256,), generator=generator)
    return TensorDataset(torch.randn(256, 1, 28, 28, generator=generator), labels)


PERCEPTRON = partial(perceptron, 64, 128, 10)
CONVOLUTIONAL = Recipe(epochs=1, learning_rate=0.1, batch_size=64, build=partial(small_convolutional, 1, 10))
CASES = {
    "digits perceptron, SGD": Case(
        recipe=Recipe(epochs=40, learning_rate=0.1, batch_size=64, build=PERCEPTRON), dataset=digits
    ),
    "digits perceptron, AdamW": Case(
        recipe=Recipe(epochs=40, learning_rate=1e-3, batch_size=64, optimizer="adamw", build=PERCEPTRON), dataset=digits
    ),
    "small CNN": Case(recipe=CONVOLUTIONAL, dataset=random_images),
    "small CNN, stacks of 4": Case(recipe=CONVOLUTIONAL, dataset=random_images, at_once=4),
}


def one_after_another(case: Case, dataset: TensorDataset, mask: Any, device: str) -> list[nn.Module]:
    """What a user would write."""
    recipe, models = case.recipe, []
    inputs, labels = (tensor.to(device) for tensor in dataset.tensors)
    for number, row in enumerate(mask):
        torch.manual_seed(number)
        model = recipe.build().to(device).train()
        own, optimizer = torch.from_numpy(np.flatnonzero(row)), recipe.optimizer_for(model)
        for _ in range(recipe.epochs):
            for batch in own[torch.randperm(len(own))].split(recipe.batch_size):
                loss = functional.cross_entropy(model(inputs[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        models.append(model.eval())
    return models


def as_stacks(case: Case, dataset: TensorDataset, mask: Any, device: str) -> list[nn.Module]:
    """The same by nablatau."""
    shadows = train_shadows(
        case.recipe,
        Records.all_of(dataset),
        Objective.classification(),
        mask,
        seeds=range(len(mask)),
        runtime=Runtime(progress=False, device=device),
        at_once=case.at_once,
    )
    if not shadows.batched:
        raise SystemExit(f"not trained as stacks: {shadows.reason}")
    return shadows.models


def seconds_of(train: Callable[..., Any], *arguments: Any) -> float:
    gc.collect()
    start = time.perf_counter()
    train(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, models: int, rounds: int, device: str) -> dict[str, Any]:
    case = CASES[name]
    dataset = case.dataset()
    arguments = (case, dataset, inclusion_by_coin(models, len(dataset), seed=0), device)
    trainers = [one_after_another, as_stacks]
    for train in trainers:
        train(*arguments)  # warm-up, not counted
    taken: list[list[float]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            taken[which].append(seconds_of(trainers[which], *arguments))
    ratios = np.sort(np.array(taken[0]) / np.array(taken[1]))
    low = int(binom.ppf(0.025, rounds, 0.5))
    return {
        "case": name,
        "models": models,
        "device": torch.cuda.get_device_name() if device != "cpu" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
        "seconds one after another": round(float(np.median(taken[0])), 4),
        "seconds as stacks": round(float(np.median(taken[1])), 4),
        "ratio": round(float(np.median(ratios)), 3),
        "ratio low": round(float(ratios[max(0, low - 1)]), 3),
        "ratio high": round(float(ratios[min(rounds - 1, rounds - low)]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", choices=CASES, action="append", help="leave out for all")
    arguments = parser.parse_args()
    records = []
    for name in arguments.case or CASES:
        record = measure(name, arguments.models, arguments.rounds, arguments.device)
        records.append(record)
        print(
            f"{record['case']:<26} one after another {record['seconds one after another']:>8.3f} s   "
            f"as stacks {record['seconds as stacks']:>7.3f} s   "
            f"ratio {record['ratio']:.2f} [{record['ratio low']:.2f}, {record['ratio high']:.2f}]",
            flush=True,
        )
    for record in records:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
