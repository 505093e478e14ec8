"""Weights rounded to few bits, to the nearest value, per output channel, as they are when a model is made small.

Source: round-to-nearest in Zhang et al. 2024, 2410.16454: language models that still had 21 % of what they should have
forgotten had 83 % of it once rounded to 4 bits. Where we differ: only the values are rounded and the arithmetic stays
in floating point, so that any module and any device will do; all weights of two dimensions or more, not linear alone.
"""

import torch
from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.merging import whole_copy


@torch.no_grad()
def quantised(model: nn.Module, bits: int) -> nn.Module:
    """A copy whose weights are rounded to the nearest of 2^bits − 1 values, symmetric about 0, per output channel.

    Weights of at least 2 dimensions are rounded, in steps of max |w| ÷ (2^(bits−1) − 1) of their channel; biases, norms
    and buffers stay. The copy holds them in the type they had. An adapter is first worked into the weights below it.

    Args:
        model: stays as it is.
        bits: of a weight, 2 … 16.

    Raises:
        SettingsError: bits outside 2 … 16, or an adapter that cannot be merged.
    """
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise SettingsError(
            f"bits must be a whole number, 2 … 16 (with 1 bit, 0 is the only value symmetric about 0), not {bits!r}."
        )
    rounded = whole_copy(model)
    for module in rounded.modules():
        channel = 1 if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0
        for name, weight in module.named_parameters(recurse=False):
            stays = weight.ndim < 2 or "bias" in name or isinstance(module, (nn.LayerNorm, nn.RMSNorm))
            if not stays and weight.is_floating_point():
                weight.copy_(_rounded(weight, bits, channel))
    return rounded


def _rounded(weight: Tensor, bits: int, channel: int) -> Tensor:
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    others = [dimension for dimension in range(weight.ndim) if dimension != channel]
    step = wide.abs().amax(dim=others, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.where(step > 0, (wide / step).round() * step, wide)
