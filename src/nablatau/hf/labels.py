"""Labels as a model numbers them, from names or numbers in the columns of a table.

A label is a name that stands in the model's config, or its number. Whatever is neither is an error: a label that is
skipped or numbered otherwise than in training would make the model forget the wrong thing.

Shapes: N records, C classes, L labels.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nablatau.errors import ProjectError, shortened
from nablatau.hf.tables import Table, distinct

SEPARATORS = re.compile(r"\s*[,;|]\s*")


def class_numbers(table: Table, columns: Sequence[str], number_of: Mapping[str, int]) -> Tensor:
    """The class of each record.

    Args:
        table: N records.
        columns: the one column that holds a name or a number.
        number_of: the number of each name, 0 … C−1, as in the model's config.

    Returns:
        (N,) whole numbers from 0 to C−1.

    Raises:
        ProjectError: more than one column, or values that are no class of the model.
    """
    if len(columns) != 1:
        raise ProjectError(
            f"{len(columns)} label columns were named, and a text has one class. Name one, or use --task multi-label."
        )
    values = table.column(columns[0], "--label-column")
    numbers = {value: _number(value, number_of) for value in distinct(list(map(_hashable, values)))}
    _refuse_unknown(table, columns[0], [value for value, number in numbers.items() if number is None], number_of)
    return torch.tensor([numbers[_hashable(value)] for value in values])


def zeros_and_ones(table: Table, columns: Sequence[str], number_of: Mapping[str, int]) -> Tensor:
    """The labels of each record, of which it may have any number.

    Args:
        table: N records.
        columns: one column that holds a list of names or numbers, or a text with "," ";" "|" or spaces between them; or
            one column of zeros and ones for each label, in the order of the labels.
        number_of: the number of each name, 0 … L−1, as in the model's config.

    Returns:
        (N, L) zeros and ones, as whole numbers.

    Raises:
        ProjectError: values that are no label of the model, or a number of columns that is not L.
    """
    if len(columns) > 1:
        return _from_columns(table, columns, len(number_of))
    values = [_listed(value, number_of) for value in table.column(columns[0], "--label-column")]
    numbers = {each: _number(each, number_of) for each in distinct([label for labels in values for label in labels])}
    _refuse_unknown(table, columns[0], [label for label, number in numbers.items() if number is None], number_of)
    targets_NL = torch.zeros(len(values), len(number_of), dtype=torch.int64)
    for row, labels in enumerate(values):
        for label in labels:
            targets_NL[row, numbers[label]] = 1
    return targets_NL


def _from_columns(table: Table, columns: Sequence[str], count: int) -> Tensor:
    if len(columns) != count:
        raise ProjectError(
            f"{len(columns)} label columns were named, and the model has {count} labels. Name one column for each, in "
            "the model's order, or one that lists the labels of a text."
        )
    marks = {0: 0, 1: 1, "0": 0, "1": 1}  # False and 0.0 are 0, True and 1.0 are 1
    read = []
    for column in columns:
        values = list(map(_hashable, table.column(column, "--label-column")))
        unknown = [value for value in distinct(values) if value not in marks]
        if unknown:
            raise ProjectError(
                f"{table.file}: column {column!r} holds {shortened(unknown)}. A column for each label holds 0 or 1."
            )
        read.append([marks[value] for value in values])
    return torch.tensor(read).T.contiguous()


def _number(value: Any, number_of: Mapping[str, int]) -> int | None:
    """The number of a label given by name or number; None where it is neither."""
    if isinstance(value, str) and value in number_of:
        return number_of[value]
    if isinstance(value, str) and re.fullmatch(r"[0-9]+", value):
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and value in number_of.values()
    return value if known else None


def _listed(value: Any, number_of: Mapping[str, int]) -> list[Any]:
    """The labels in a cell: those of a list, or those of a text, which may be a single name with spaces in it."""
    if isinstance(value, (list, tuple)):
        return list(map(_hashable, value))
    if not isinstance(value, str) or value in number_of:
        return [_hashable(value)]
    return (SEPARATORS.split(value.strip()) if SEPARATORS.search(value) else value.split()) if value.strip() else []


def _hashable(value: Any) -> Any:
    """A value that a label can be, or its text, which is none and will be shown as it is."""
    return value if isinstance(value, (str, int, float)) else repr(value)


def _refuse_unknown(table: Table, column: str, unknown: list[Any], number_of: Mapping[str, int]) -> None:
    if unknown:
        names = sorted(number_of, key=lambda name: number_of[name])
        raise ProjectError(
            f"{table.file}: column {column!r} holds {shortened(unknown)}, which the model does not have: its config "
            f"names {shortened(names, 30)}, numbered from 0 to {len(names) - 1}. Write the labels as the model was "
            "trained with them, by name or number; --label-column names another column."
        )
