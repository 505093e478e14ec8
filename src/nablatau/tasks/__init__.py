"""Tasks: named set-ups on real data. Each is a function that returns a `Project` whose model is not yet trained.

To add one, write the function and its line here; `nablatau list` prints the first line of its docstring.
"""

import difflib
from collections.abc import Callable

from nablatau.errors import ProjectError
from nablatau.projects import Project
from nablatau.tasks.cifar10 import cifar10, cifar10_small, cifar100
from nablatau.tasks.digits import digits, digits_marked, digits_noisy
from nablatau.tasks.fashion_mnist import fashion_mnist
from nablatau.tasks.goemotions import goemotions
from nablatau.tasks.tabular import adult, breast_cancer, california_housing, diabetes
from nablatau.tasks.tofu import tofu, tofu_small

TASKS: dict[str, Callable[[], Project]] = {
    each.__name__: each
    for each in (
        digits,
        digits_noisy,
        digits_marked,
        fashion_mnist,
        cifar10,
        cifar10_small,
        cifar100,
        goemotions,
        breast_cancer,
        adult,
        diabetes,
        california_housing,
        tofu,
        tofu_small,
    )
}
"""Every task by name."""


def find_task(name: str) -> Callable[[], Project]:
    """The task of this name.

    Raises:
        ProjectError: there is none; the message names the nearest and all known ones.
    """
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ProjectError(f"There is no task {name!r}.{hint} Known: {', '.join(sorted(TASKS))}.")
