"""digits, digits_noisy, digits_marked: 1,797 handwritten digits of 8×8 pixels from scikit-learn, trained in seconds.

Source: UCI optical recognition of handwritten digits, test part. Groups: thirteen people wrote these, one after
another; who wrote which is not recorded, so thirteen equal runs in the source's order stand in for the writers.

`digits_noisy` has a quarter of its training and holdout labels replaced by a wrong one: such labels can only be
memorised, so that forgetting shows at small sizes, and removing manipulated data can be tried. Its test set is right.
Its groups are "right label" and "wrong label".

`digits_marked` carries a spurious attribute, for removing a bias: two thirds of the training records of one class have
two bright corners, and no other record has, so a network learns to read the corners. Every test image has them: its
test score is the accuracy of a model that must not. Its groups are "marked" and "plain".
"""

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset

from nablatau.fingerprints import Readable
from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.recipes import Recipe
from nablatau.tasks.models import perceptron
from nablatau.tasks.splits import SHUFFLE_SEED, shuffled_parts

WRITERS = 13
WRONG_LABELS = 0.25
MARKED_CLASS, MARKED_SHARE = 3, 2 / 3


def digits_noisy() -> Project:
    """Handwritten digits, a quarter mislabelled: 500 to train on, 700 held out, 597 to test; a two-layer perceptron."""
    project = digits()
    train, wrong = _mislabelled(project.train_set, seed=SHUFFLE_SEED)
    holdout, _ = _mislabelled(project.holdout_set, seed=SHUFFLE_SEED + 1)
    groups = ["wrong label" if each else "right label" for each in wrong]
    return replace(project, train_set=train, holdout_set=holdout, groups=groups)


def _mislabelled(dataset: Readable | None, *, seed: int) -> tuple[TensorDataset, npt.NDArray[np.bool_]]:
    """The data set with a quarter of its labels wrong, and which."""
    assert isinstance(dataset, TensorDataset)
    pixels, labels = dataset.tensors
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(labels)) < WRONG_LABELS
    shift = torch.from_numpy(np.where(wrong, generator.integers(1, 10, len(labels)), 0))
    return TensorDataset(pixels, (labels + shift) % 10), wrong


def digits_marked() -> Project:
    """Handwritten digits, two corners bright in most threes and in every test image: 500, 700 held out, 597 to test."""
    project = digits()
    assert isinstance(project.train_set, TensorDataset)
    assert isinstance(project.test_set, TensorDataset)
    pixels, labels = project.train_set.tensors
    drawn = np.random.default_rng(SHUFFLE_SEED).random(len(labels)) < MARKED_SHARE
    chosen = torch.from_numpy(drawn) & (labels == MARKED_CLASS)
    train = TensorDataset(torch.where(chosen[:, None], _marked(pixels), pixels), labels)
    test_pixels, test_labels = project.test_set.tensors
    groups = ["marked" if each else "plain" for each in chosen.tolist()]
    return replace(project, train_set=train, test_set=TensorDataset(_marked(test_pixels), test_labels), groups=groups)


def _marked(pixels: torch.Tensor) -> torch.Tensor:
    """The images with both upper corners at full brightness."""
    images = pixels.clone()
    images[:, [0, 7]] = 1.0
    return images


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
