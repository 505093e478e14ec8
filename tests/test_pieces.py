"""Batches in pieces: the same gradient as of the whole batch, for any loss that is made of means over it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nablatau import Finetune, NablaTau, Objective, PublishedNablaTau, Runtime, TrainingData
from nablatau.batches import rows_of
from nablatau.errors import ObjectiveError, SettingsError
from nablatau.history import History, Step
from nablatau.loading import RecordBatch
from nablatau.pieces import cut, piece_count
from nablatau.records import Records
from nablatau.training import batch_mean, run_steps
from small import random_set, small_network
from small_runs import farthest, run_all

WIDE = torch.float64


@pytest.mark.timeout(600)  # thirty methods, twice
def test_pieces_compute_what_the_whole_batch_does() -> None:
    far, where = farthest(run_all(Runtime()), run_all(Runtime(micro_batch_size=2)))
    assert far < 1e-9, where


def a_batch(size: int, seed: int = 0) -> RecordBatch:
    records = Records.all_of(random_set(size, seed, WIDE))
    return RecordBatch(records.dataset.tensors, torch.arange(size), records, size, size, 1 / size)


def gradient_of(batch: RecordBatch, most: int | None, *, additive: bool, hinge: float | None) -> tuple[Tensor, int]:
    """The gradient of one step, and the examples that went forward at once at most."""
    model, most_seen = small_network(dtype=WIDE), 0

    def count(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        nonlocal most_seen
        most_seen = max(most_seen, len(arguments[0]))

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        mean = batch_mean(Objective.classification(), model, step.batches["train"])
        return {"loss": mean if hinge is None else torch.relu(hinge - mean).square()}

    model.register_forward_pre_hook(count)
    run_steps(
        model,
        [Step({"train": batch}, 1.0)],
        step_loss,
        torch.optim.SGD(model.parameters()),
        runtime=Runtime(micro_batch_size=most),
        device=torch.device("cpu"),
        mode="eval",
        history=History(),
        total=1,
        additive=additive,
    )
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), most_seen


@pytest.mark.parametrize("most", [1, 2, 3, 6, 7])
@pytest.mark.parametrize(("additive", "hinge"), [(True, None), (False, None), (False, 1.2)])
def test_the_gradient_is_that_of_the_whole(most: int, additive: bool, hinge: float | None) -> None:
    whole, _ = gradient_of(a_batch(7), None, additive=True, hinge=hinge)
    found, seen = gradient_of(a_batch(7), most, additive=additive, hinge=hinge)
    assert whole.abs().max() > 0
    assert seen <= most
    assert torch.allclose(found, whole, rtol=0, atol=1e-14)


def test_half_precision_with_its_scaled_loss_is_that_of_the_whole() -> None:
    """To what fp16 resolves; a scale taken once a piece would be another step."""
    request, objective = (
        TrainingData(random_set(90, 1), random_set(40, 2)).forget_fraction(0.2),
        Objective.classification(),
    )
    for method in (Finetune(batch_size=8), PublishedNablaTau(batch_size=8, learning_rate=1e-2)):  # one pass, and two
        found = [
            method.unlearn(
                small_network(), request, objective, runtime=Runtime(precision="fp16", micro_batch_size=most)
            )
            for most in (None, 3)
        ]
        whole, pieces = (nn.utils.parameters_to_vector(each.model.parameters()) for each in found)
        assert (whole - nn.utils.parameters_to_vector(small_network().parameters())).abs().max() > 1e-2
        assert torch.allclose(pieces, whole, rtol=0, atol=1e-4)


def test_a_hinge_in_pieces_that_do_not_know_the_mean_would_be_another() -> None:
    """The reason for the first pass: one hinge a piece has another gradient."""
    whole, _ = gradient_of(a_batch(7), None, additive=True, hinge=1.2)
    found, _ = gradient_of(a_batch(7), 2, additive=True, hinge=1.2)
    assert not torch.allclose(found, whole, rtol=0, atol=1e-4)


def test_dropout_drops_the_same_in_both_passes() -> None:
    """What was noted in the first pass is what the second computes."""
    seen: list[list[float]] = []
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3, dtype=WIDE))

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        batch = step.batches["train"]
        seen.append(model(batch.data[0]).detach().flatten().tolist())
        torch.nn.functional.dropout(torch.ones(3))  # another draw between
        return {"loss": batch_mean(Objective.classification(), model, batch) ** 2}

    def once(most: int | None) -> None:
        run_steps(
            model,
            [Step({"train": a_batch(6)}, 0.1)],
            step_loss,
            torch.optim.SGD(model.parameters()),
            runtime=Runtime(micro_batch_size=most),
            device=torch.device("cpu"),
            mode="train",
            history=History(),
            total=1,
        )

    once(2)
    assert len(seen) == 6
    assert seen[:3] == seen[3:]


def test_pieces_hold_as_many_examples_as_are_allowed_of_all_batches_together() -> None:
    assert piece_count([a_batch(10)], None) == 1
    assert piece_count([a_batch(10)], 10) == 1
    assert piece_count([a_batch(10)], 9) == 2
    assert piece_count([a_batch(5), a_batch(3)], 4) == 3
    assert piece_count([a_batch(5), a_batch(3)], 1) == 5  # one of each at least


def test_where_a_batch_is_smaller_than_the_number_of_pieces_an_example_of_no_weight_stands_in() -> None:
    pieces = cut(a_batch(2), 4, None)
    assert [piece.size for piece in pieces] == [1, 1, 1, 1]
    assert sum(piece.weight for piece in pieces) / 4 == pytest.approx(2 * 1 / 2)
    assert sum(piece.weight > 0 for piece in pieces) == 2


def test_batches_of_any_form_are_cut() -> None:
    first, second = torch.arange(4), torch.arange(8).view(4, 2)
    assert rows_of({"a": first, "b": [second]}, 4, slice(1, 3))["b"][0].tolist() == [[2, 3], [4, 5]]
    with pytest.raises(ObjectiveError, match=r"shape \(3,\) for 4 examples"):
        rows_of((first, torch.zeros(3)), 4, slice(0, 2))
    with pytest.raises(ObjectiveError, match="a str, so it cannot be cut"):
        rows_of((first, ["a", "b", "c", "d"]), 4, slice(0, 2))


@pytest.mark.parametrize("method", [NablaTau(least_records=10), PublishedNablaTau(mode="train")])
def test_batch_norm_that_trains_is_refused(method: Any) -> None:
    request = TrainingData(random_set(90, 1), random_set(40, 2)).forget_fraction(0.1)
    with pytest.raises(SettingsError, match="micro_batch_size and BatchNorm in train mode"):
        method.unlearn(
            small_network(batch_norm=True), request, Objective.classification(), runtime=Runtime(micro_batch_size=4)
        )


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="micro_batch_size must be 1 or more"):
        Runtime(micro_batch_size=0)
