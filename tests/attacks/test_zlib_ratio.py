"""The zlib attack: by hand, and repetitive texts."""

from __future__ import annotations

import numpy as np
import pytest

from nablatau.attacks.loss_threshold import loss_threshold
from nablatau.attacks.zlib_ratio import compressed_sizes, zlib_ratio


def test_by_hand() -> None:
    assert zlib_ratio([2.0, 0.0], [50, 10]).tolist() == [-0.04, 0.0]


def test_a_repetitive_text_of_low_loss_does_not_stand_first() -> None:
    texts = [
        "ha " * 60,
        "Ada was born in Quito in 1971 and wrote nine novels, all but one of them on glaciers and whales.",
    ]
    sizes, losses = compressed_sizes(texts), [0.30, 0.40]
    assert sizes[0] < 20 < 60 < sizes[1]
    assert np.argmax(loss_threshold(losses)) == 0
    assert np.argmax(zlib_ratio(losses, sizes)) == 1
    assert compressed_sizes(["ä"])[0] > compressed_sizes(["a"])[0]  # bytes, not characters


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="below 1 at index 1"):
        zlib_ratio([1.0, 1.0], [9, 0])
    with pytest.raises(ValueError, match="losses 2, compressed_sizes 1"):
        zlib_ratio([1.0, 1.0], [9])
