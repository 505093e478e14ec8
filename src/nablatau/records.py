"""Records: a view of some records of a data set with their ids, and the class labels of records.

Labels are looked for where data sets usually hold them, before any record is read: in `targets` or `labels`,
or in the last tensor of a `TensorDataset`.
"""

import numbers
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch.utils.data import Subset, TensorDataset

from nablatau.batches import split_target
from nablatau.errors import RequestError
from nablatau.fingerprints import Readable

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Records:
    """Some records of a data set, in order, with their ids; itself a map-style data set.

    Attributes:
        dataset: the data set they come from, of N examples.
        positions: (n,) positions in that data set.
        ids: (N,) an id for each example of the data set.
    """

    dataset: Readable
    positions: Positions
    ids: Sequence[Hashable]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Any:
        return self.dataset[int(self.positions[position])]

    def ids_at(self, positions: Iterable[int]) -> list[Hashable]:
        """The ids of the records at these positions of this view."""
        return [self.ids[int(self.positions[position])] for position in positions]

    def subset(self, positions: npt.ArrayLike) -> "Records":
        """The records at these positions of this view."""
        return replace(self, positions=self.positions[np.asarray(positions, dtype=np.int64)])

    @classmethod
    def all_of(cls, dataset: Readable, ids: Sequence[Hashable] | None = None) -> "Records":
        """Every record of a data set; ids are positions unless given."""
        return cls(dataset, np.arange(len(dataset)), range(len(dataset)) if ids is None else ids)


def read_labels(dataset: Readable) -> npt.NDArray[Any]:
    """The labels of a data set: its `targets` or `labels`, its last tensor, or read record by record.

    Args:
        dataset: map-style data set of N labelled examples.

    Returns:
        (N,) labels, or (N, C) zeros and ones of a multi-label set.

    Raises:
        RequestError: the examples have no label that can be told apart.
    """
    if isinstance(dataset, Records):
        return np.asarray(read_labels(dataset.dataset)[dataset.positions])
    if isinstance(dataset, Subset):
        return np.asarray(read_labels(cast(Readable, dataset.dataset))[np.asarray(dataset.indices)])
    if type(dataset) is TensorDataset:
        return dataset.tensors[-1].numpy(force=True)
    for name in ("targets", "labels"):
        column = getattr(dataset, name, None)
        if column is not None and not callable(column) and len(column) == len(dataset):
            return as_labels(column)
    labels = [split_target(dataset[position])[1] for position in range(len(dataset))]
    if any(label is None for label in labels):
        raise RequestError(
            "The examples have no label that can be told apart, so records cannot be chosen by class. Pass "
            "TrainingData(..., labels=[one label a record]), or yield (inputs, label) or {'…': …, 'label': …}."
        )
    arrays = [np.asarray(label) for label in labels]
    if len({array.shape for array in arrays}) > 1:
        raise RequestError(
            "The labels of the examples have different shapes, as those of the tokens of texts do, so records cannot "
            "be chosen by class. Choose them by ids or groups, or pass TrainingData(..., labels=[one label a record])."
        )
    return np.stack(arrays)


def as_labels(column: Any) -> npt.NDArray[Any]:
    """Labels as an array: numbers as they are, (N, C) zeros and ones as a table, anything else as N objects.

    Args:
        column: array, tensor, or sequence of N labels.
    """
    values = as_list(column)
    array = np.asarray(column) if hasattr(column, "shape") else None
    if array is not None and array.ndim == 2:
        return array
    if all(isinstance(value, (str, numbers.Integral)) for value in values):
        return np.asarray(values)
    labels = np.empty(len(values), dtype=object)
    labels[:] = values
    return labels


def as_list(column: Any) -> list[Any]:
    """An array, tensor, table column or sequence as a list of plain Python values."""
    return list(column.tolist() if hasattr(column, "tolist") else column)


def with_labels(labels: npt.NDArray[Any], classes: Sequence[Hashable]) -> npt.NDArray[np.bool_]:
    """(N,) whether a record has one of these classes."""
    if labels.ndim == 1:
        wanted = set(classes)
        return np.array([label in wanted for label in labels.tolist()])
    return np.asarray(labels[:, np.array(classes, dtype=np.int64)].any(axis=1))


def label_names(labels: npt.NDArray[Any]) -> list[Hashable]:
    """The classes that occur."""
    if labels.ndim == 1:
        return sorted(set(labels.tolist()), key=lambda label: (not isinstance(label, int), str(label).zfill(12)))
    return list(np.flatnonzero(labels.any(axis=0)).tolist())
