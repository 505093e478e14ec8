"""A copy of a model in which an adapter is worked into the weights below it, as those have it who are handed the model.

The same function can be held in two forms: as frozen weights with an adapter beside them, or as one set of weights.
What is done to weights depends on the form. Rounded each on a grid of its own, base and adapter keep apart what the
rounding of their sum throws together, and it is the sum that Zhang et al. 2024, 2410.16454, round; trained alone, an
adapter of low rank can take fewer ways back than all weights can. Whoever has the model can merge it and choose the
stronger attack, so that is what is asked of both forms.

Adapters are known by what PEFT's models offer, `merge_and_unload`. What cannot be merged, as prompts that are learned,
offers none and is copied as it is.
"""

import copy
from typing import Any

from torch import nn

from nablatau.errors import SettingsError


def whole_copy(model: nn.Module) -> nn.Module:
    """A deep copy; of a model with an adapter one set of weights, all of which can be trained.

    Args:
        model: stays as it is, and so does what it shares with others. Without an adapter it is copied with its flags,
            frozen weights frozen.

    Raises:
        SettingsError: the adapter cannot be worked into the weights below it.
    """
    return _merged(copy.deepcopy(model))


def _merged(module: Any) -> nn.Module:
    """The module, changed in place, without the adapters in it."""
    if hasattr(module, "merge_and_unload"):
        return _all_trainable(_without_adapter(module))
    for name, child in list(module.named_children()):
        whole = _merged(child)
        if whole is not child:
            setattr(module, name, whole)
    return module  # type: ignore[no-any-return]


def _without_adapter(adapted: Any) -> nn.Module:
    try:
        whole: nn.Module = adapted.merge_and_unload()
    except (ValueError, NotImplementedError) as error:  # PEFT's, such as of bases that are quantised already
        raise SettingsError(
            "The recovery checks work on the model that an adapter and the weights below it make together, and these "
            f"cannot be merged: {(str(error).splitlines() or [type(error).__name__])[0]} Load the model below in fp32, "
            "or evaluate without these checks: recovery=False."
        ) from error
    return whole


def _all_trainable(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return model
