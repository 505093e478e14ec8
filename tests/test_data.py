"""Requests: what goes, what stays, and every bad input with its message."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset, TensorDataset

from nablatau import TrainingData
from nablatau.errors import OverlapError, RequestError
from nablatau.records import read_labels
from small import random_set


def ids_of(records: Any) -> list[Any]:
    return records.ids_at(range(len(records)))


@given(st.sets(st.integers(0, 29), min_size=1, max_size=29))
def test_forget_and_retain_partition_the_training_set(ids: set[int]) -> None:
    request = TrainingData(random_set(30, 1), random_set(8, 2)).forget_ids(ids)
    assert set(ids_of(request.forget_set)) == ids
    assert sorted(ids_of(request.forget_set) + ids_of(request.retain_set)) == list(range(30))
    assert request.training_size == 30


def test_own_ids_choose_their_records() -> None:
    names = [f"user-{i}" for i in range(90)]
    train = random_set(90, 1)
    request = TrainingData(train, random_set(40, 2), names).forget_ids(["user-7", "user-3"])
    assert ids_of(request.forget_set) == ["user-3", "user-7"]
    assert torch.equal(request.forget_set[1][0], train[7][0])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3, 90], r"no training record has the id \[90\] \(ids are positions 0 … 89\)"),
        ([-1], r"no training record has the id \[-1\]"),
        ([4, 5, 4], r"named more than once: \[4\]"),
        (["3"], r"no training record has the id \['3'\]"),
        ([], "The forget set is empty"),
        (range(90), "The retain set is empty"),
    ],
)
def test_bad_ids(data: TrainingData, ids: list[Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        data.forget_ids(ids)


def test_all_that_is_wrong_with_the_ids_is_said_at_once(data: TrainingData) -> None:
    with pytest.raises(RequestError, match="no training record") as caught:
        data.forget_ids([1, 1, 200])
    assert "more than once" in str(caught.value)


def test_fraction_is_seeded(data: TrainingData) -> None:
    first, again, other = (ids_of(data.forget_fraction(0.3, seed=seed).forget_set) for seed in (5, 5, 6))
    assert first == again != other
    assert len(first) == 27
    assert len(data.forget_fraction(0.0001).forget_set) == 1
    assert len(data.forget_fraction(0.9).forget_set) == 81


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 15, float("nan")])
def test_bad_fraction(data: TrainingData, fraction: float) -> None:
    with pytest.raises(RequestError, match="above 0 and below 1"):
        data.forget_fraction(fraction)


def test_class_group_and_predicate(data: TrainingData) -> None:
    labels = data.class_labels
    by_class = data.forget_class(0, 2)
    assert by_class.goal == "class"
    assert ids_of(by_class.forget_set) == np.flatnonzero(labels != 1).tolist()
    assert ids_of(data.forget_group("person 3").forget_set) == list(range(27, 36))
    chosen = data.forget_where(lambda example: bool(example[0][0] > 1)).forget_set
    assert all(example[0][0] > 1 for example in (chosen[i] for i in range(len(chosen))))


def test_labels_of_a_multi_label_set_and_of_examples_without_attributes() -> None:
    inputs = torch.arange(12.0).reshape(6, 2)
    labels = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1], [1, 0]])
    holdout = TensorDataset(inputs + 100, labels)
    assert ids_of(TrainingData(TensorDataset(inputs, labels), holdout).forget_class(1).forget_set) == [1, 2, 4]
    dicts = [{"x": row, "label": int(i % 2)} for i, row in enumerate(inputs)]
    other = [{"x": row + 100, "label": 0} for row in inputs]
    assert ids_of(TrainingData(dicts, other).forget_class(1).forget_set) == [1, 3, 5]


def test_names_that_do_not_occur(data: TrainingData) -> None:
    with pytest.raises(RequestError, match=r"has the class \[7\]\. Known: \[0, 1, 2\]"):
        data.forget_class(7)
    with pytest.raises(RequestError, match=r"has the group \['nobody'\]"):
        data.forget_group("nobody")
    with pytest.raises(RequestError, match="No class was named"):
        data.forget_class()
    without = TrainingData(data.train_set, data.holdout_set)
    with pytest.raises(RequestError, match="no group column"):
        without.forget_group("person 1")
    unlabelled = TrainingData([torch.tensor([float(i)]) for i in range(4)], [torch.tensor([9.0]), torch.tensor([8.0])])
    with pytest.raises(RequestError, match="no label that can be told apart"):
        unlabelled.forget_class(1)


def test_the_holdout_set_is_halved_and_methods_see_one_half(data: TrainingData) -> None:
    request = data.forget_ids([0])
    assert request.evaluation_set is not None
    halves = ids_of(request.holdout_set), ids_of(request.evaluation_set)
    assert sorted(halves[0] + halves[1]) == list(range(40))
    assert len(halves[0]) == 20
    assert request.for_methods().evaluation_set is None
    assert request.description["holdout_split_seed"] == 0


def test_a_missing_holdout_set_is_refused_with_the_reason() -> None:
    with pytest.raises(RequestError, match="A part of the training set cannot serve"):
        TrainingData(random_set(9, 1))
    train = random_set(9, 1)
    with pytest.raises(OverlapError, match="9 of 9 holdout records are also training records"):
        TrainingData(train, train)
    with pytest.raises(RequestError, match="at least 2 are needed"):
        TrainingData(random_set(9, 1), random_set(1, 2))


def test_overlap_is_found_by_content_and_not_by_position() -> None:
    train, unseen = random_set(30, 1), random_set(10, 2)
    inputs = torch.cat([unseen.tensors[0], train.tensors[0][4:6]])
    mixed = TensorDataset(inputs, torch.zeros(12, dtype=torch.int64))  # labels differ: a copy all the same
    with pytest.raises(OverlapError, match="2 of 12 holdout records") as caught:
        TrainingData(train, mixed)
    assert caught.value.positions == [10, 11]
    dropped = TrainingData(train, mixed, on_overlap="drop").forget_ids([0])
    assert dropped.description["holdout_dropped"] == 2
    unchecked = TrainingData(train, mixed, check_content=False).forget_ids([0])
    assert unchecked.description["holdout_dropped"] == 0
    with pytest.raises(RequestError, match="'error' or 'drop'"):
        TrainingData(train, unseen, on_overlap="ignore")  # type: ignore[arg-type]


def test_copies_in_the_retain_set_are_reported_and_can_be_forgotten_too() -> None:
    inputs = random_set(20, 1).tensors[0].clone()
    inputs[[7, 12]] = inputs[3].clone()
    data = TrainingData(TensorDataset(inputs, torch.arange(20) % 3), random_set(10, 2))
    assert list(data.forget_ids([3]).duplicate_ids) == [7, 12]
    both = data.forget_ids([3], forget_duplicates=True)
    assert ids_of(both.forget_set) == [3, 7, 12]
    assert list(both.duplicate_ids) == []
    assert list(data.forget_ids([5]).duplicate_ids) == []


def test_columns_that_do_not_fit() -> None:
    train, holdout = random_set(6, 1), random_set(4, 2)
    with pytest.raises(RequestError, match="ids has 5 entries for 6 records"):
        TrainingData(train, holdout, list(range(5)))
    with pytest.raises(RequestError, match=r"ids repeat: \[1\]"):
        TrainingData(train, holdout, [0, 1, 1, 2, 3, 4])
    with pytest.raises(RequestError, match="groups has 1 entries"):
        TrainingData(train, holdout, groups=["a"])
    with pytest.raises(RequestError, match="without a length or without access by position"):
        TrainingData(iter([1, 2]), holdout)  # type: ignore[arg-type]


def test_random_transforms_are_refused() -> None:
    class Augmented(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
            return torch.randn(3), 0

    with pytest.raises(RequestError, match="Record 0 differs when it is read again"):
        TrainingData(Augmented(), random_set(4, 1))
    assert TrainingData(Augmented(), random_set(4, 1), check_content=False).forget_ids([1])


def test_records_of_any_form_are_hashed() -> None:
    @dataclasses.dataclass
    class Visit:
        text: str
        image: np.ndarray
        label: int

    def make(offset: int) -> list[Visit]:
        return [Visit(f"visit {i}", np.full(4, i + offset), i % 2) for i in range(6)]

    assert TrainingData(make(0), make(10)).forget_class(1)
    with pytest.raises(OverlapError, match="6 of 6"):
        TrainingData(make(0), [Visit(f"visit {i}", np.full(4, i), 1) for i in range(6)])
    with pytest.raises(RequestError, match="A record holds a object"):
        TrainingData([(object(), 1)] * 3, make(1))


def test_columns_may_be_arrays_and_tensors() -> None:
    train, holdout = random_set(6, 1), random_set(4, 2)
    for ids in (np.arange(10, 16), torch.arange(10, 16)):
        data = TrainingData(train, holdout, ids, groups=torch.arange(6) // 2)
        assert ids_of(data.forget_ids(np.array([11, 13])).forget_set) == [11, 13]
        assert ids_of(data.forget_ids(torch.tensor([12])).forget_set) == [12]
        assert ids_of(data.forget_group(1).forget_set) == [12, 13]
    with pytest.raises(RequestError, match=r"ids repeat: \[1\]"):
        TrainingData(train, holdout, np.array([0, 1, 1, 2, 3, 4]))


def test_labels_of_any_kind_keep_their_records_apart() -> None:
    train, holdout = random_set(6, 1), random_set(4, 2)
    pairs = [(0, 1), (0, 2), (1, 1), (0, 1), (1, 1), (0, 2)]
    data = TrainingData(train, holdout, labels=pairs)
    assert ids_of(data.forget_class((0, 1)).forget_set) == [0, 3]
    subset = Subset(train, [5, 3, 1])
    assert read_labels(subset).tolist() == train.tensors[1][[5, 3, 1]].tolist()


def test_classes_are_compared_with_unseen_records_of_the_same_classes() -> None:
    train, holdout = random_set(30, 1), random_set(40, 2)
    labels = holdout.tensors[1].numpy()
    request = TrainingData(train, holdout).forget_class(0, 2)
    assert request.evaluation_set is not None
    assert request.comparable is not None
    compared = labels[request.evaluation_set.positions[request.comparable]]
    assert set(compared) == {0, 2}
    assert len(compared) == np.isin(labels[request.evaluation_set.positions], [0, 2]).sum()
    ages = ["old" if i % 3 else "young" for i in range(30)]
    assert TrainingData(train, holdout, labels=ages).forget_class("old").comparable is None
    known = TrainingData(train, holdout, labels=ages, holdout_labels=["old"] * 10 + ["young"] * 30)
    positions = known.forget_class("old").comparable
    assert positions is not None
    assert 0 < len(positions) < 10
    everything = TrainingData(train, holdout).forget_ids([1]).comparable
    assert everything is not None
    assert everything.tolist() == list(range(20))


def test_which_holdout_records_a_model_without_the_forget_set_should_know() -> None:
    train, holdout = random_set(30, 1), random_set(40, 2)
    labels = holdout.tensors[1].numpy()
    request = TrainingData(train, holdout).forget_class(0, 2)
    half = labels[request.holdout_set.positions]
    assert request.holdout_gone is not None
    assert request.holdout_gone.tolist() == np.flatnonzero(half != 1).tolist()
    assert request.holdout_kept.tolist() == np.flatnonzero(half == 1).tolist()
    assert request.for_methods().holdout_kept.tolist() == request.holdout_kept.tolist()
    ages = ["old" if i % 3 else "young" for i in range(30)]
    unknown = TrainingData(train, holdout, labels=ages).forget_class("old")
    assert (unknown.holdout_gone, unknown.holdout_kept.tolist()) == (None, [])
    known = TrainingData(train, holdout, labels=ages, holdout_labels=["old"] * 10 + ["young"] * 30).forget_class("old")
    assert known.holdout_kept.tolist() == np.flatnonzero(known.holdout_set.positions >= 10).tolist()
    for every in (TrainingData(train, holdout).forget_ids([1]), TrainingData(train, holdout).forget_fraction(0.2)):
        assert (every.holdout_gone, every.holdout_kept.tolist()) == (None, list(range(20)))


def test_arrays_of_objects_are_hashed_by_what_they_hold() -> None:
    def records() -> list[Any]:
        return [(np.array([f"name {i}", i], dtype=object), 0) for i in range(5)]

    with pytest.raises(OverlapError, match="5 of 5"):
        TrainingData(records(), records())


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_bad_seeds(data: TrainingData, seed: Any) -> None:
    with pytest.raises(RequestError, match="seed must be a whole number"):
        data.forget_fraction(0.1, seed=seed)
