"""Blocks: the repeated parts of a deep model, such as a transformer's layers, and the recomputation of what is in them.

A block is a member of an outermost `nn.ModuleList`: that is how transformers of every library hold their layers.
Between blocks there is one tensor to keep; inside, dozens. With `recomputed` a forward pass keeps the first alone, and
the backward pass computes the others once more: a third more time for a fraction of the memory (Chen et al. 2016, arXiv
1604.06174). Numbers stay as they are, dropout's among them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from nablatau.errors import SettingsError


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The members of outermost module lists that have weights and are called, each once; empty where there are none.

    Args:
        model: of any kind.
    """
    found: dict[int, nn.Module] = {}

    def look(module: nn.Module) -> None:
        for child in module.children():
            called = type(child).forward is not nn.Module.forward  # a list of lists is not
            if not (isinstance(module, nn.ModuleList) and called):
                look(child)
            elif next(child.parameters(), None) is not None:
                found[id(child)] = child

    look(model)
    return list(found.values())


def blocks_to_recompute(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model that must have some.

    Args:
        model: of any kind.

    Raises:
        SettingsError: it has no blocks.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise SettingsError(
            f"{type(model).__qualname__} has no blocks (members of an nn.ModuleList, as transformers have), so it is "
            "not known what to keep and what to recompute. Leave recompute_activations out; micro_batch_size saves "
            "memory in any model."
        )
    return blocks


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Blocks keep nothing but their inputs for the backward pass.

    Args:
        model: with blocks. A cache for generation, which Hugging Face's models fill in each pass unless told not to,
            is off: a second pass would find what the first has put into it.

    Raises:
        SettingsError: it has no blocks.
    """
    blocks = blocks_to_recompute(model)
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    with ExitStack() as changes:
        for block in blocks:
            again = partial(checkpoint, block.forward, use_reentrant=False)
            changes.enter_context(_attribute(block, "forward", again))
        for config in configs.values():
            if getattr(config, "use_cache", False):
                changes.enter_context(_attribute(config, "use_cache", False))
        yield


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of this one object has another value inside."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
