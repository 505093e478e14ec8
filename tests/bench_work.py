"""Tasks of milliseconds for the benchmark's tests, which other processes can import."""

import time
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.utils.data import TensorDataset

from nablatau import Objective, Project, Recipe
from nablatau.bench import Grid
from nablatau.tasks import diabetes
from small import random_texts, small_transformer

TINY = f"{__file__}:tiny"
SLOW = f"{__file__}:slow"
TEXTS = f"{__file__}:texts"
NUMBERED = f"{__file__}:numbered"
THREE = ("nabla_tau", "finetune", "retrain")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def records(size: int, seed: int) -> TensorDataset:
    """Three classes, a fifth of the labels wrong, so that something is memorised."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator)
    wrong = torch.rand(size, generator=generator) < 0.2
    return TensorDataset(inputs, (inputs[:, :3].argmax(dim=1) + wrong) % 3)


def tiny() -> Project:
    """120 records to train on, 160 held out, 80 to test; three classes, groups of ten."""
    build = partial(network)
    return Project(
        model=build(),
        train_set=records(120, 1),
        holdout_set=records(160, 2),
        test_set=records(80, 3),
        objective=Objective.classification(),
        groups=[f"person {number // 10}" for number in range(120)],
        recipe=Recipe(epochs=4, learning_rate=0.1, batch_size=32, build=build),
    )


def numbered() -> Project:
    """The task diabetes, whose labels are numbers, trained for less long."""
    project = diabetes()
    assert project.recipe is not None
    return replace(project, recipe=replace(project.recipe, epochs=20))


def texts() -> Project:
    """60 texts to train on, 60 held out, 20 to test."""
    build = partial(small_transformer, blocks=1)
    return Project(
        model=build(),
        train_set=random_texts(60, 1),
        holdout_set=random_texts(60, 2),
        test_set=random_texts(20, 3),
        objective=Objective.causal_lm(),
        recipe=Recipe(epochs=4, learning_rate=0.01, batch_size=20, optimizer="adamw", build=build),
    )


class Slow(nn.Module):
    """A network that takes its time in each training step."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            time.sleep(0.02)
        outputs: torch.Tensor = self.layers(inputs)
        return outputs


def slow() -> Project:
    """The tiny task with a network that takes its time."""
    project = tiny()
    recipe = Recipe(epochs=4, learning_rate=0.1, batch_size=32, build=Slow)
    return Project(**{**vars(project), "model": Slow(), "recipe": recipe})


def slow_grid() -> Grid:
    """Six cells that take some time."""
    return Grid(tasks=(SLOW,), requests=("random:0.2",), methods=THREE, training_seeds=(0, 1), recovery=False)


def nothing() -> None:
    return None


def no_recipe() -> Project:
    return Project(**{**vars(tiny()), "recipe": None})
