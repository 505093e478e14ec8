"""fashion_mnist: photographs of clothes, 28×28 grey, ten classes, cut to a size that a laptop trains in seconds.

Source: Xiao, Rasul, Vollgraf 2017, 1708.07747; MIT licence. Training records are drawn from the official training part,
holdout and test records from the official test part. Groups are made up: items of one class and of like brightness, as
one seller's product line might be.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.recipes import Recipe
from nablatau.tasks.models import small_convolutional
from nablatau.tasks.sources import images
from nablatau.tasks.splits import image_set, shuffled_parts

GROUPS_A_CLASS = 10


def fashion_mnist() -> Project:
    """Clothes, 28×28, ten classes: 6,000 to train on, 4,000 held out, 6,000 to test; a small convolutional network."""
    arrays = images("fashion_mnist")
    (train,) = shuffled_parts(len(arrays["y_train"]), [6000])
    holdout, test = shuffled_parts(len(arrays["y_test"]), [4000, 6000])
    build = partial(small_convolutional, 1, 10)
    return Project(
        model=build(),
        train_set=image_set(arrays["x_train"][train], arrays["y_train"][train]),
        holdout_set=image_set(arrays["x_test"][holdout], arrays["y_test"][holdout]),
        test_set=image_set(arrays["x_test"][test], arrays["y_test"][test]),
        objective=Objective.classification(),
        groups=_product_lines(arrays["x_train"][train], arrays["y_train"][train]),
        recipe=Recipe(epochs=20, learning_rate=0.1, batch_size=128, build=build),
        on_overlap="drop",
    )


def _product_lines(pixels: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> list[str]:
    """A group for each image: its class, and the tenth of its class's brightness range it lies in."""
    brightness = pixels.reshape(len(pixels), -1).mean(axis=1)
    tenths = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks = brightness[members].argsort(kind="stable").argsort(kind="stable")
        tenths[members] = ranks * GROUPS_A_CLASS // len(members)
    return [f"line {label}.{tenth}" for label, tenth in zip(labels, tenths, strict=True)]
