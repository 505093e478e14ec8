"""A network that remembers single records, and requests for some of these."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from nablatau import Objective, Recipe, TrainingData
from nablatau.data import Request
from nablatau.recipes import train
from nablatau.records import Records
from small import random_set

WIDE = torch.float64


def deep_network(batch_norm: bool = False) -> nn.Module:
    """Three matrices, so that their median size is one of theirs."""
    norm = [nn.BatchNorm1d(16)] if batch_norm else []  # before which a bias has only rounding for a gradient
    layers = [nn.Linear(6, 16, bias=not batch_norm), *norm, nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).to(WIDE)


def noisy_set(size: int, seed: int) -> TensorDataset:
    """Records of which a third have a random label, so that there is something to remember."""
    inputs, labels = random_set(size, seed, WIDE).tensors
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(3, (size,), generator=generator)
    return TensorDataset(inputs, torch.where(torch.rand(size, generator=generator) < 1 / 3, drawn, labels))


def remembered(share: float = 0.2, *, batch_norm: bool = False) -> tuple[nn.Module, Request]:
    """A network that remembers its training set, and a request for some of that."""
    data = TrainingData(noisy_set(90, 1), noisy_set(80, 2))
    recipe = Recipe(epochs=30, learning_rate=0.1, batch_size=16, build=lambda: deep_network(batch_norm))
    model = train(recipe, Records.all_of(data.train_set), Objective.classification(), seed=4)
    return model, data.forget_fraction(share, seed=3)
