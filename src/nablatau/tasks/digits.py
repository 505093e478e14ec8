"""digits: 1,797 handwritten digits of 8×8 pixels that scikit-learn ships; trained and forgotten in seconds.

Source: UCI optical recognition of handwritten digits, test part. Groups: thirteen people wrote these, one after
another; who wrote which is not recorded, so thirteen equal runs in the source's order stand in for the writers.
"""

from functools import partial

import numpy as np
import torch
from torch.utils.data import TensorDataset

from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.recipes import Recipe
from nablatau.tasks.models import perceptron
from nablatau.tasks.splits import shuffled_parts

WRITERS = 13


def digits() -> Project:
    """Handwritten digits, 8×8, ten classes: 500 to train on, 700 held out, 597 to test; a two-layer perceptron."""
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels, labels = torch.from_numpy(source.data).float() / 8 - 1, torch.from_numpy(source.target)
    train, holdout, test = shuffled_parts(len(labels), [500, 700, 597])
    sets = [TensorDataset(pixels[rows], labels[rows]) for rows in (train, holdout, test)]
    build = partial(perceptron, 64, 128, 10)
    return Project(
        model=build(),
        train_set=sets[0],
        holdout_set=sets[1],
        test_set=sets[2],
        objective=Objective.classification(),
        groups=[f"writer {int(position) * WRITERS // len(labels)}" for position in np.asarray(train)],
        recipe=Recipe(epochs=40, learning_rate=0.1, batch_size=64, build=build),
    )
