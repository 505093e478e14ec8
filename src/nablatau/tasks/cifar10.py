"""cifar10, cifar100 and cifar10_small: small photographs, 32×32 colour, ten or a hundred classes.

Source: Krizhevsky 2009. `cifar10` is the paper's set-up: torchvision's ResNet-18 with its ImageNet stem, SGD, 50
epochs, all 50,000 training images; `cifar100` likewise, in batches of 128 as published. The official test part is
shuffled (it can lie sorted by class) and halved into holdout and test set. `cifar10_small` is for CPUs: 6,000 images,
and the paper's network with a quarter of its channels. It is trained without augmentation, because within a CPU's
budget a network that sees other pictures in every epoch remembers none (20 epochs with it: 64 % of the training and
56 % of the test images right; 12 without: 87 and 50 %).
"""

from functools import partial

from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.recipes import Recipe
from nablatau.tasks.augmentations import crop_and_flip
from nablatau.tasks.models import ResNet18
from nablatau.tasks.sources import images
from nablatau.tasks.splits import image_set, shuffled_parts


def cifar10() -> Project:
    """Photographs, 32×32, ten classes: 50,000 to train on, 5,000 held out, 5,000 to test; the paper's ResNet-18."""
    build = partial(ResNet18, 10)
    recipe = Recipe(epochs=50, learning_rate=0.1, batch_size=256, build=build, augment=crop_and_flip)
    return _project("cifar10", 50_000, 5_000, 5_000, recipe)


def cifar100() -> Project:
    """Photographs, 32×32, 100 classes: 50,000 to train on, 5,000 held out, 5,000 to test; the paper's ResNet-18."""
    build = partial(ResNet18, 100)
    recipe = Recipe(epochs=50, learning_rate=0.1, batch_size=128, build=build, augment=crop_and_flip)
    return _project("cifar100", 50_000, 5_000, 5_000, recipe)


def cifar10_small() -> Project:
    """Photographs, 32×32, ten classes: 6,000 to train on, 4,000 held out, 6,000 to test; a narrow ResNet-18."""
    build = partial(ResNet18, 10, width=16)
    recipe = Recipe(epochs=12, learning_rate=0.1, batch_size=64, build=build)
    return _project("cifar10", 6_000, 4_000, 6_000, recipe)


def _project(name: str, train_size: int, holdout_size: int, test_size: int, recipe: Recipe) -> Project:
    arrays = images(name)
    (train,) = shuffled_parts(len(arrays["y_train"]), [train_size])
    holdout, test = shuffled_parts(len(arrays["y_test"]), [holdout_size, test_size])
    assert recipe.build is not None
    return Project(
        model=recipe.build(),
        train_set=image_set(arrays["x_train"][train], arrays["y_train"][train]),
        holdout_set=image_set(arrays["x_test"][holdout], arrays["y_test"][holdout]),
        test_set=image_set(arrays["x_test"][test], arrays["y_test"][test]),
        objective=Objective.classification(),
        recipe=recipe,
        on_overlap="drop",
    )
