"""Arrays to tensor data sets: shuffled once with a fixed seed, cut, and scaled by training statistics alone."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset

SHUFFLE_SEED = 20240321  # the day of the paper's first version; any would do, so long as it stays


def shuffled_parts(size: int, parts: Sequence[int]) -> list[npt.NDArray[np.int64]]:
    """Disjoint random positions: as many for each part as asked, in one fixed order for all users.

    Args:
        size: number of records.
        parts: number of records of each part; together at most `size`.
    """
    order = np.random.default_rng(SHUFFLE_SEED).permutation(size)
    return np.split(order[: sum(parts)], np.cumsum(parts)[:-1])


def image_set(pixels: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> TensorDataset:
    """Images uint8 (N, H, W, C) as float32 (N, C, H, W) scaled to −1 … 1, with their labels."""
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 127.5 - 1
    return TensorDataset(images, torch.from_numpy(labels.astype(np.int64)))


def standardised(
    features: npt.NDArray[np.float64], train: npt.NDArray[np.int64], *others: npt.NDArray[np.int64]
) -> list[torch.Tensor]:
    """Rows of each part as float32, each column with mean 0 and standard deviation 1 over the training rows."""
    mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
    scaled = (features - mean) / np.where(spread > 0, spread, 1)
    return [torch.from_numpy(scaled[rows].astype(np.float32)) for rows in (train, *others)]
