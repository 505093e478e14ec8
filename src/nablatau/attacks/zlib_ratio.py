"""The zlib attack: a text that the model finds simple although it is not is called a member.

Source: Carlini et al. 2012.07805: the loss over the length of the text as zlib compresses it, so that
repetitive texts, of low loss under any model, do not stand first.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics.checks import FloatArray, IntArray, finite_vector, integer_vector, listed, same_length


def zlib_ratio(losses: ArrayLike, compressed_sizes: ArrayLike) -> FloatArray:
    """Score each text by minus its loss over its compressed size.

    Arguments:
        losses: shape (N,), mean losses of the texts' tokens under the audited model, in nats.
        compressed_sizes: shape (N,), in bytes, above 0, see `compressed_sizes`.
    Returns: shape (N,), higher = more likely remembered.
    Raises: ValueError for unequal lengths, losses that are not finite, or sizes that are not whole numbers above 0.
    Source: Carlini et al., 2012.07805.
    """
    losses_N = finite_vector(losses, "losses")
    sizes_N = integer_vector(compressed_sizes, "compressed_sizes")
    same_length(losses=losses_N, compressed_sizes=sizes_N)
    if (sizes_N < 1).any():
        raise ValueError(
            f"compressed_sizes is below 1 at index {listed(sizes_N < 1)}; no text compresses to nothing. Take it from "
            "compressed_sizes(texts)."
        )
    return -losses_N / sizes_N


def compressed_sizes(texts: Sequence[str]) -> IntArray:
    """Count the bytes of each text, in UTF-8, as zlib compresses it at its default level: shape (N,)."""
    return np.array([len(zlib.compress(text.encode("utf-8"))) for text in texts], dtype=np.int64)
