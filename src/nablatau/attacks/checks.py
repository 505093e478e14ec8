"""What attacks with shadow models, or on tokens, ask of their arrays beside what every array is asked
(statistics/checks.py).

A record whose distribution is guessed, or a mask of another shape, still gives a number, and the number looks like
forgetting. Letters in shapes: N records, K shadow models, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics.checks import BoolArray, FloatArray, IntArray, finite_vector, listed


def token_values(texts: Sequence[ArrayLike], name: str) -> tuple[FloatArray, IntArray]:
    """Return the values of all texts' tokens, one text after the other, and the texts' lengths (N,)."""
    vectors = [np.asarray(text, dtype=np.float64) for text in texts]
    wrong = np.array([vector.ndim != 1 or not len(vector) for vector in vectors])
    if not len(vectors) or wrong.any():
        raise ValueError(
            f"{name} needs for each text a vector with one value a token, and "
            + (f"texts {listed(wrong)} have none. Leave them out." if len(vectors) else "there are no texts.")
        )
    return finite_vector(np.concatenate(vectors), name), np.array([len(vector) for vector in vectors], dtype=np.int64)


def inclusion_mask(values: ArrayLike, name: str, shape: tuple[int, ...]) -> BoolArray:
    """Return a boolean mask of the given shape from booleans or 0 and 1."""
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(
            f"{name} has shape {array.shape}, {shape} needed: it says for each model and record whether the "
            f"model was trained on it. Give one row a model and one column a record, in the order of the "
            f"values."
        )
    if not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{name} holds values other than 0 and 1 (False and True): a record is in the training set or it "
            f"is not. Give a boolean array."
        )
    return array.astype(np.bool_)


def enough_models(counts: IntArray, needed: int, side: str, remedy: str) -> None:
    """Raise unless every record has the needed number of shadow models on that side (counts: shape (N,))."""
    short = counts < needed
    if short.any():
        raise ValueError(
            f"{short.sum()} of {counts.size} records have fewer than {needed} {side} shadow models: index "
            f"{listed(short)}. Their {side} distribution cannot be estimated, and a guessed one would be "
            f"noise. {remedy}"
        )
