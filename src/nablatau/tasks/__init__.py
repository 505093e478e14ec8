"""Tasks: named set-ups on real data. Each is a function that returns a `Project` whose model is not yet trained.

To add one, write the function and its line here; `nablatau list` prints the first line of its docstring.
"""

from collections.abc import Callable

from nablatau.projects import Project
from nablatau.tasks.cifar10 import cifar10, cifar10_small
from nablatau.tasks.digits import digits
from nablatau.tasks.fashion_mnist import fashion_mnist
from nablatau.tasks.tabular import adult, breast_cancer, california_housing, diabetes

TASKS: dict[str, Callable[[], Project]] = {
    each.__name__: each
    for each in (
        digits,
        fashion_mnist,
        cifar10,
        cifar10_small,
        breast_cancer,
        adult,
        diabetes,
        california_housing,
    )
}
"""Every task by name."""
