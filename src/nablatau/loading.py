"""Batches of records: read, collated, on the device, and shared among processes.

Every global batch is cut into one piece a process. Tensors are read by index; anything else by torch's DataLoader,
whose reading processes live as long as the loader and draw fresh randomness in each pass.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from nablatau import batches
from nablatau.batches import Batch
from nablatau.objectives import Objective
from nablatau.records import Records
from nablatau.runtime import is_distributed, process_count, process_rank


class Means(Protocol):
    """What knows a mean over a whole batch from the share of a piece of it."""

    def mean(self, share: Tensor, /) -> Tensor: ...


@dataclass(slots=True)
class RecordBatch:
    """One batch: this process's piece of it, and how large the whole is.

    Attributes:
        data: the collated examples, as the objective made them.
        rows: positions of these examples in the loader's records, a tensor on the CPU.
        records: the records they come from.
        size: number of examples in `data`.
        whole_size: number of examples in the whole batch, over all processes.
        weight: share of this piece's sum in the mean over the whole batch, times the number of processes;
            0 for a piece that stands in where the batch had fewer examples than there are processes.
        means: of a piece of this process's piece, the means of its step, where they are known before (pieces.py).
        is_piece: whether other pieces of this process's piece go forward apart from it.
    """

    data: Batch
    rows: Tensor
    records: Records
    size: int
    whole_size: int
    weight: float
    means: Means | None = None
    is_piece: bool = False

    @property
    def positions(self) -> Sequence[int]:
        """The rows as whole numbers; made anew by each call, which a step of a small network would feel."""
        return self.rows.tolist()


_RESIDENT: WeakKeyDictionary[TensorDataset, tuple[object, tuple[Tensor, ...]]] = WeakKeyDictionary()
"""Copies of data sets that lie on an accelerator as a whole, and of what; kept as long as the data sets live."""
RESIDENT_SHARE = 0.2
"""Of a GPU's free memory, that one data set may take."""


def resident(dataset: TensorDataset, device: torch.device) -> tuple[Tensor, ...]:
    """The tensors of a data set, on an accelerator if there is room, so that no batch has to travel.

    Args:
        dataset: of tensors; a copy of it is made again once they are changed.
        device: where the batches are wanted.
    """
    columns = dataset.tensors
    if device.type == "cpu" or all(column.device == device for column in columns):
        return columns
    copied_from = (device, *((column.data_ptr(), column._version) for column in columns))
    known = _RESIDENT.get(dataset)
    if known is None or known[0] != copied_from:
        size = sum(column.nbytes for column in columns)
        if device.type == "cuda" and size > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return columns
        known = _RESIDENT[dataset] = (copied_from, tuple(column.to(device) for column in columns))
    return known[1]


def split_into_batches(order_N: Tensor, batch_size: int, merge_single: bool) -> list[Tensor]:
    """The positions of each batch of a pass.

    Args:
        order_N: positions in the order of the pass.
        batch_size: examples in a batch; the last may be smaller.
        merge_single: join a last batch of one record to the one before: BatchNorm cannot train on one record.
    """
    wholes = list(torch.split(order_N, batch_size)) if len(order_N) else []
    if merge_single and len(wholes) > 1 and len(wholes[-1]) == 1 < batch_size:
        wholes[-2:] = [torch.cat(wholes[-2:])]
    return wholes


def batch_count(records: int, batch_size: int, merge_single: bool) -> int:
    """How many batches `split_into_batches` makes of so many records."""
    merged = merge_single and batch_size > 1 and records % batch_size == 1 < records
    return -(-records // batch_size) - merged


class Loader:
    """Batches of records, pass after pass, each in a fresh random order or all in the given one.

    Args:
        records: n records.
        objective: its `collate` makes batches.
        batch_size: examples in a batch over all processes; the last of a pass may be smaller.
        device: where the batches go.
        generator: draws the order of each pass, the same in every process; None keeps the given order.
        workers: reading processes.
        merge_single: join a last batch of one record to the one before: BatchNorm cannot train on one record.
    """

    def __init__(
        self,
        records: Records,
        objective: Objective,
        *,
        batch_size: int,
        device: torch.device,
        generator: torch.Generator | None = None,
        workers: int = 0,
        merge_single: bool = False,
    ) -> None:
        self.records, self.objective, self.batch_size = records, objective, batch_size
        self.device, self.generator, self.workers = device, generator, workers
        self.merge_single = merge_single
        self._pieces: list[list[int]] = []
        self._reader: DataLoader[Batch] | None = None

    def __len__(self) -> int:
        """Batches in a pass."""
        return batch_count(len(self.records), self.batch_size, self.merge_single)

    def __iter__(self) -> Iterator[RecordBatch]:
        """One pass over the records."""
        count = len(self.records)
        order = torch.arange(count) if self.generator is None else torch.randperm(count, generator=self.generator)
        return self.batches_of(split_into_batches(order, self.batch_size, self.merge_single))

    def batches_of(self, rows: Sequence[Tensor]) -> Iterator[RecordBatch]:
        """The batches of these records, whatever the loader's own order and size.

        Args:
            rows: for each batch, positions in the loader's records, the same in every process.
        """
        if not rows:
            return
        pieces = [_own_piece(whole) for whole in rows]
        read = self._read([own for own, *_ in pieces], [size for _, size, *_ in pieces])
        for (own, size, whole_size, weight), data in zip(pieces, read, strict=True):
            on_device = batches.to_device(data, self.device)
            yield RecordBatch(on_device, own, self.records, size, whole_size, weight)

    def forever(self) -> Iterator[RecordBatch]:
        """Pass after pass, without end."""
        while True:
            yield from self

    def _read(self, pieces: list[Tensor], sizes: list[int]) -> Iterable[Batch]:
        """The batches of these rows; reading processes live as long as the loader."""
        dataset = self.records.dataset
        if type(dataset) is TensorDataset and batches.only_stacks(self.objective.collate):
            places = torch.from_numpy(self.records.positions)[torch.cat(pieces)]
            columns = [
                map(partial(select_rows, column), torch.split(places.to(column.device), sizes))
                for column in resident(dataset, self.device)
            ]
            return zip(*columns, strict=True)
        self._pieces[:] = [piece.tolist() for piece in pieces]
        if self._reader is None:
            self._reader = DataLoader(
                self.records,  # type: ignore[arg-type]
                batch_sampler=self._pieces,
                collate_fn=self.objective.collate,
                num_workers=self.workers,
                persistent_workers=self.workers > 0,
                generator=torch.Generator().manual_seed(torch.initial_seed()),
            )
        return self._reader


def _own_piece(whole: Tensor) -> tuple[Tensor, int, int, float]:
    """This process's rows of a global batch, their number and that of the whole, and the weight of their sum."""
    whole_size = len(whole)
    if not is_distributed():
        return whole, whole_size, whole_size, 1 / whole_size
    piece = whole.tensor_split(process_count())[process_rank()]
    if not len(piece):
        return whole[:1], 1, whole_size, 0.0
    return piece, len(piece), whole_size, process_count() / whole_size


def select_rows(tensor: Tensor, rows_B: Tensor) -> Tensor:
    """The rows of a tensor at these positions, on its device; laid out in memory as indexing would lay them.

    Args:
        tensor: of any shape, with rows.
        rows_B: positions, on the same device.
    """
    if tensor.ndim < 4 and tensor.is_contiguous():  # half the time; of images it would lose channels last
        return tensor.index_select(0, rows_B)
    return tensor[rows_B]
