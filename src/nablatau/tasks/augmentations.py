"""Random transforms of whole batches on their device, for training recipes; drawn from the given generator alone.

The paper's own: crop after padding by four pixels, and horizontal flip. Each image of a batch gets its own draw, as it
would if images were transformed one by one.
"""

import torch
from torch import Tensor
from torch.nn import functional


def crop_and_flip(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image shifted by up to four pixels either way (zeros move in) and mirrored with probability one half.

    Args:
        batch: (images_BCHW, labels_B).
        generator: on the CPU.
    """
    images, labels = batch
    return flip(crop(images, generator), generator), labels


def crop(images_BCHW: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """A random window of each padded image, of the image's own size."""
    size, _, height, width = images_BCHW.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, size), generator=generator).to(images_BCHW.device)
    rows = offsets[0, :, None] + torch.arange(height, device=images_BCHW.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images_BCHW.device)
    padded = functional.pad(images_BCHW, [padding] * 4).permute(0, 2, 3, 1)
    each = torch.arange(size, device=images_BCHW.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(images_BCHW), generator=generator).to(images_BCHW.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images_BCHW.flip(3), images_BCHW)
