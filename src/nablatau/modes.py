"""The mode of a model, train or eval, switched for as long as something is asked of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

Mode = Literal["train", "eval"]


@contextmanager
def in_mode(model: nn.Module, mode: Mode, still: Iterable[nn.Module] = ()) -> Iterator[None]:
    """All modules of the model in one mode; each gets its own back afterwards.

    Args:
        model: to be switched.
        mode: for all of it.
        still: modules of it that stay in eval mode, because their statistics must not move.
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(mode == "train")
    for module in still:
        module.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
