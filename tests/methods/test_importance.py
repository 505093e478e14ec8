"""Squared gradients of single examples: naive sums, no dependence on batches, and what `vmap` cannot do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nablatau import Objective, TrainingData
from nablatau.errors import NonFiniteLossError
from nablatau.history import History
from nablatau.methods import importance
from nablatau.methods.base import Job
from nablatau.methods.importance import Notes, Terms, examples_at_once, mean_squared_gradients
from nablatau.objectives import call_model
from nablatau.records import Records
from nablatau.runtime import Runtime
from small import random_set, small_network

WIDE = torch.float64


def squares(model: nn.Module, records: Records, objective: Objective) -> dict[str, Tensor]:
    """Of the loss, as SSD takes them."""

    def terms_of(model: nn.Module, batch: Any, size: int) -> Terms:
        loss_B = objective.loss(model, batch, size)
        return Terms(loss_B[:, None], torch.ones_like(loss_B[:, None]), loss_B)

    request = TrainingData(random_set(20, 1, WIDE), random_set(20, 2, WIDE)).forget_fraction(0.5).for_methods()
    job = Job(
        request=request,
        objective=objective,
        recipe=None,
        seed=0,
        runtime=Runtime(),
        device=torch.device("cpu"),
        history=History(),
        on_step=None,
    )
    found = mean_squared_gradients(model, job, records, terms_of, Notes(job), part="forget")
    assert job.history.trained_samples == len(records)
    return found


def naive(model: nn.Module, records: Records) -> dict[str, Tensor]:
    """One example after the other."""
    total = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for inputs, label in (records[i] for i in range(len(records))):
        model.zero_grad()
        functional.cross_entropy(model(inputs[None]), label[None]).backward()
        for name, weight in model.named_parameters():
            total[name] += weight.grad**2 / len(records)
    return total


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], rtol=1e-12, atol=1e-15), name


@pytest.mark.parametrize("at_once", [1, 7, 256])
def test_neither_order_nor_size_of_batches_matters(
    at_once: int, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "MOST_AT_ONCE", at_once)
    model, records = small_network(dtype=WIDE), Records.all_of(random_set(23, 1, WIDE))
    forwards, backwards = (squares(model, records.subset(order), objective) for order in (range(23), range(22, -1, -1)))
    assert_equal(forwards, backwards)
    assert_equal(forwards, naive(model, records))


class Branching(nn.Module):
    """Looks at a value to choose its way, which `vmap` cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small_network(dtype=WIDE)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs)
        return logits if logits.sum().item() > -1e9 else 2 * logits


class Recurrent(nn.Module):
    """A GRU over the six numbers as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.GRU(1, 4, batch_first=True).to(WIDE), nn.Linear(4, 3).to(WIDE)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(inputs[..., None])[0][:, -1])
        return logits


@pytest.mark.parametrize("make", [Branching, Recurrent])
def test_what_vmap_refuses_goes_one_by_one(make: type[nn.Module], objective: Objective) -> None:
    records, model = Records.all_of(random_set(9, 1, WIDE)), make()
    assert_equal(squares(model, records, objective), naive(model, records))


class Named(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples with a string, on which the loss depends: batches hold a list of them, of which `vmap` knows nothing."""

    def __init__(self, size: int) -> None:
        self.rows = random_set(size, 1, WIDE)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        inputs, label = self.rows[index]
        return {"inputs": inputs, "name": "odd" if index % 2 else "even", "label": label}


def test_strings_in_a_batch_go_one_by_one() -> None:
    def outputs(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        doubled = torch.tensor([[2.0 if name == "odd" else 1.0] for name in batch["name"]], dtype=WIDE)
        return call_model(model, (batch["inputs"], batch["label"])) * doubled

    model, records = small_network(dtype=WIDE), Records.all_of(Named(7))
    together = squares(model, records, Objective.classification(outputs=outputs))
    alone = [squares(model, records.subset([i]), Objective.classification(outputs=outputs)) for i in range(7)]
    assert_equal(together, {name: sum(each[name] for each in alone) / 7 for name in together})  # type: ignore[misc]


def test_frozen_weights_have_no_importance(objective: Objective) -> None:
    model = small_network(dtype=WIDE)
    model[0].requires_grad_(False)
    assert squares(model, Records.all_of(random_set(5, 1, WIDE)), objective).keys() == {"2.weight", "2.bias"}


def test_memory_bounds_the_batch() -> None:
    cpu, weights = torch.device("cpu"), [torch.zeros(2**20)]
    assert examples_at_once(weights, 1, cpu) == 2**25 // 2**22 == 8
    assert examples_at_once(weights, 10, cpu) == 1
    assert examples_at_once([torch.zeros(10)], 1, cpu) == 256


def test_a_loss_that_is_no_number_is_named(objective: Objective) -> None:
    dataset = random_set(9, 1, WIDE)
    dataset.tensors[0][4] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"loss is nan at step 0.*forget: \[0, 1, 2, 3, 4, 5, 6, 7, 8\]"):
        squares(small_network(dtype=WIDE), Records.all_of(dataset), objective)
