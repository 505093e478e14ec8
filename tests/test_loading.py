"""Batches: where their examples stand, how rows are read, and means over them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from nablatau import Objective
from nablatau.loading import Loader, select_rows
from nablatau.records import Records
from nablatau.runtime import random_generator
from nablatau.training import batch_mean, mean_of_outputs
from small import random_set


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(10),
        torch.randn(10, 3),
        torch.randn(3, 10).t(),
        torch.randn(10, 3, 4, 4),
        torch.randn(10, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.randn(10, 1, 4, 4).to(memory_format=torch.channels_last),
    ],
)
def test_selected_rows_are_those_of_indexing_in_the_same_layout(tensor: Tensor) -> None:
    rows = torch.tensor([7, 0, 0, 9])
    found, expected = select_rows(tensor, rows), tensor[rows]
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_a_batch_knows_where_its_examples_stand(objective: Objective) -> None:
    records = Records.all_of(random_set(23, 1)).subset(np.arange(20)[::-1])
    loader = Loader(
        records, objective, batch_size=8, device=torch.device("cpu"), generator=random_generator(0, "order")
    )
    for batch in loader:
        inputs = torch.stack([records[position][0] for position in batch.positions])
        assert torch.equal(batch.data[0], inputs)
        assert (batch.size, batch.whole_size, batch.weight) == (len(inputs), len(inputs), 1 / len(inputs))


def test_the_mean_of_outputs_is_the_mean_of_the_batch(objective: Objective, model: nn.Module) -> None:
    (batch,) = Loader(Records.all_of(random_set(9, 1)), objective, batch_size=9, device=torch.device("cpu"))
    inputs, targets = batch.data
    found = mean_of_outputs(objective, model(inputs), targets, batch)
    assert torch.equal(found, batch_mean(objective, model, batch))


def plain_loader(records: Records, objective: Objective) -> Loader:
    return Loader(records, objective, batch_size=4, device=torch.device("cpu"))


def as_tensors(source: Records) -> Any:
    return source.dataset


def read_one_by_one(source: Records) -> Any:
    return ConcatDataset([source.dataset])  # type: ignore[list-item]


@pytest.mark.parametrize("form", [as_tensors, read_one_by_one])
def test_batches_of_any_rows(objective: Objective, form: Any) -> None:
    """Rows may repeat, and batches may have any size, whatever the loader's own; its own passes go on as before."""
    source = Records.all_of(random_set(23, 1))
    records = Records.all_of(form(source)).subset(np.arange(20)[::-1])
    loader = plain_loader(records, objective)
    wanted = [[3, 3, 0], [19], [7, 2, 5, 11, 13, 17]]
    for _ in range(2):
        found = list(loader.batches_of([torch.tensor(rows) for rows in wanted]))
        assert [batch.positions for batch in found] == wanted
        for batch in found:
            assert torch.equal(batch.data[0], torch.stack([records[position][0] for position in batch.positions]))
            assert (batch.size, batch.whole_size, batch.weight) == (len(batch.rows), len(batch.rows), 1 / batch.size)
            assert batch.records is records
    assert [batch.positions for batch in loader] == [list(range(i, i + 4)) for i in range(0, 20, 4)]


def test_of_no_rows_and_of_no_records_there_are_no_batches(objective: Objective) -> None:
    records = Records.all_of(random_set(5, 1))
    assert list(plain_loader(records, objective).batches_of([])) == []
    nothing = plain_loader(records.subset([]), objective)
    assert (list(nothing), len(nothing)) == ([], 0)
