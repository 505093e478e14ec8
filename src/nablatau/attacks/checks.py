"""What every attack asks of the arrays it is given, before it computes anything.

An attack that meets a NaN, an empty split or two arrays that do not belong together still returns a number,
and the number looks like forgetting. So each of these is a ValueError that says what is wrong, why it
matters and what to do. Letters in shapes: N records, K shadow models, C classes, D input dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

LISTED_INDICES = 8  # how many offending indices a message spells out


def some_of(indices: NDArray[np.intp]) -> str:
    """Spell out the first few indices (numbers, or rows of coordinates) and count the rest."""
    listed = indices[:LISTED_INDICES].tolist()
    shown = ", ".join(str(tuple(index) if isinstance(index, list) else index) for index in listed)
    hidden = len(indices) - LISTED_INDICES
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def finite(values: ArrayLike, name: str, axes: int) -> FloatArray:
    """Return the values as float64 with the given number of axes, none empty and all finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes:
        raise ValueError(
            f"{name} has {array.ndim} axes (shape {array.shape}), {axes} needed: each number must belong to "
            f"one record. Give one entry a record{', flattened with .ravel()' if axes == 1 else ''}."
        )
    if array.size == 0:
        raise ValueError(
            f"{name} is empty (shape {array.shape}): there is nothing to attack. Score the model on that split first."
        )
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        raise ValueError(
            f"{name} is not finite at index {some_of(bad[:, 0] if axes == 1 else bad)}: a NaN has no rank, "
            f"so every score after it is meaningless. Compute it from logits in float32, or find out why the "
            f"model diverged."
        )
    return array


def column(values: ArrayLike, name: str, *, at_least: int = 1) -> FloatArray:
    """Return a finite float64 column (N,) of at least so many records."""
    array = finite(values, name, axes=1)
    if array.size < at_least:
        raise ValueError(
            f"{name} has {array.size} records, at least {at_least} needed: with fewer the attack cannot be "
            f"computed. Use more records, or leave this attack out."
        )
    return array


def same_length(**arrays: NDArray[np.generic]) -> None:
    """Raise unless all arrays have as many records (the last axis) as the first."""
    lengths = {name: array.shape[-1] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(
            f"these must have one entry for each same record but differ in length: {listed}. Numbers of "
            f"different records would be compared. Score all of them over the same records, in the same "
            f"order."
        )


def integers(values: ArrayLike, name: str) -> IntArray:
    """Return whole numbers (N,) as int64; floats with a fraction are refused."""
    array = column(values, name)
    if not (array == np.round(array)).all():
        bad = np.flatnonzero(array != np.round(array))
        raise ValueError(
            f"{name} is not whole at index {some_of(bad)}: class labels are needed, not scores or one-hot "
            f"rows. Use logits.argmax(axis=1) for predictions."
        )
    return array.astype(np.int64)


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
    short = np.flatnonzero(counts < needed)
    if short.size:
        raise ValueError(
            f"{short.size} of {counts.size} records have fewer than {needed} {side} shadow models: index "
            f"{some_of(short)}. Their {side} distribution cannot be estimated, and a guessed one would be "
            f"noise. {remedy}"
        )


def probability(value: float, name: str) -> float:
    """Return a number strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(
            f"{name} must lie strictly between 0 and 1, got {value}: it is a probability, not a percentage."
        )
    return float(value)
