"""Objectives: forms of batches, losses against naive ones, and what is refused."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nablatau import Objective, TrainingData, batches
from nablatau.errors import ObjectiveError, ReducedLossError
from nablatau.objectives import describe
from nablatau.signals import joint_margin, margin_of, right_shares, signals


@dataclasses.dataclass
class Visit:
    pixels: Any
    label: Any


def test_tuples_dicts_and_dataclasses_give_the_same_loss() -> None:
    inputs, labels = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, pixels: Tensor) -> Any:
            return SimpleNamespace(logits=self.linear(pixels))

    model, objective = Named(), Objective.classification()
    forms = [
        [(inputs[i], labels[i]) for i in range(5)],
        [{"pixels": inputs[i], "label": labels[i]} for i in range(5)],
        [Visit(inputs[i], labels[i]) for i in range(5)],
    ]
    losses = [objective.loss(model, objective.collate(examples), 5) for examples in forms]
    naive = [-model(inputs).logits[i].log_softmax(0)[labels[i]].item() for i in range(5)]
    for each in losses:
        assert torch.allclose(each, torch.tensor(naive))


def test_losses_against_naive_ones() -> None:
    logits, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    model, batch = nn.Identity(), (logits, labels)
    found = Objective.multi_label().loss(model, batch, 4)
    for i in range(4):
        p = [1 / (1 + math.exp(-float(z))) for z in logits[i]]
        terms = [-math.log(q if y else 1 - q) for q, y in zip(p, labels[i], strict=True)]
        assert float(found[i]) == pytest.approx(sum(terms) / 3)
    targets = torch.randn(4, dtype=torch.float64)
    found = Objective.regression().loss(nn.Flatten(0), (logits[:, :1], targets), 4)
    for i in range(4):
        assert float(found[i]) == pytest.approx(float(logits[i, 0] - targets[i]) ** 2)


def test_margins_do_not_saturate() -> None:
    logits = torch.tensor([[200.0, 0.0, -50.0], [0.0, 1.0, 2.0]])
    margins = margin_of(logits, torch.tensor([0, 2]))
    assert margins[0] == pytest.approx(200.0, abs=1e-4)
    p = torch.softmax(logits[1].double(), 0)[2]
    assert margins[1].item() == pytest.approx(math.log(p / (1 - p)), rel=1e-5)


def test_signals_of_each_kind() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    found = signals("single-label", logits, labels)
    p = 1 / (1 + math.exp(-2))
    assert found["entropy"][0].item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), rel=1e-5)
    assert found["prediction"].tolist() == [0, 1]
    many = signals("multi-label", logits, torch.tensor([[1, 0], [1, 1]]))
    assert many["margin"].tolist() == joint_margin(logits, torch.tensor([[1, 0], [1, 1]])).tolist()
    assert many["prediction"].tolist() == [[True, False], [False, True]]
    real = signals("regression", torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))
    assert real["margin"].tolist() == [0.0, -4.0]


def test_a_joint_margin_is_the_log_odds_of_all_labels_together() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -3.0], [0.0, 1.0, 1.0]]), torch.tensor([[1, 0, 0], [1, 1, 0]])
    for row in range(2):
        chances = [1 / (1 + math.exp(-z if y else z)) for z, y in zip(logits[row], labels[row], strict=True)]
        p = math.prod(chances)
        assert joint_margin(logits, labels)[row].item() == pytest.approx(math.log(p / (1 - p)), rel=1e-5)
    alone = torch.tensor([[200.0], [-200.0]])
    assert joint_margin(alone, torch.ones(2, 1)).tolist() == pytest.approx([200.0, -200.0])


def test_how_far_answers_are_right() -> None:
    logits = torch.tensor([[2.0, -1.0, 1.0], [-1.0, -2.0, -1.0], [1.0, -1.0, -1.0]])
    assert right_shares("single-label", logits, torch.tensor([0, 1, 0])).tolist() == [1.0, 0.0, 1.0]
    several = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0]])
    assert right_shares("multi-label", logits, several).tolist() == pytest.approx([1 / 3, 1.0, 1.0])
    texts, labels = logits[None].repeat(2, 1, 1), torch.tensor([[0, -100, 2], [0, 0, 0]])
    assert right_shares("causal-lm", texts, labels).tolist() == pytest.approx([0.5, 1.0])


def test_a_reduced_loss_is_an_error_that_says_how() -> None:
    objective = Objective.of_loss(lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]))
    batch = (torch.randn(4, 6), torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ReducedLossError, match="reduction='none'"):
        objective.loss(nn.Linear(6, 3), batch, 4)
    tokens = Objective.of_loss(lambda model, batch: model(batch[0]))
    with pytest.raises(ObjectiveError, match=r"shape \(4, 3\) for a batch of 4 .* mean over the last 1 dim"):
        tokens.loss(nn.Linear(6, 3), batch, 4)


@pytest.mark.parametrize(
    ("objective", "batch", "message"),
    [
        (Objective.classification(), (torch.randn(4, 3), torch.zeros(4, 3)), "Classification needs logits"),
        (Objective.classification(), (torch.randn(4, 3, 2), torch.zeros(4)), "Classification needs logits"),
        (Objective.multi_label(), (torch.randn(4, 3), torch.zeros(4)), "one shape"),
        (Objective.regression(), (torch.randn(4, 3), torch.zeros(4)), "one shape"),
        (Objective.classification(), torch.randn(4, 3), "No target can be told apart"),
        (Objective.classification(), {"x": 1, "answer": 2}, "No target"),
    ],
)
def test_shapes_that_do_not_fit(objective: Objective, batch: Any, message: str) -> None:
    model = nn.Identity() if not isinstance(batch, dict) else _Keyword()
    with pytest.raises(ObjectiveError, match=message):
        objective.loss(model, batch, 4)


class _Keyword(nn.Module):
    def forward(self, **named: Any) -> Tensor:
        return torch.zeros(4, 3)


def test_a_model_whose_output_cannot_be_told() -> None:
    class Tuple(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x, x)

    with pytest.raises(ObjectiveError, match=r"returned a tuple without \.logits"):
        Objective.classification().loss(Tuple(), (torch.randn(2, 3), torch.zeros(2, dtype=torch.int64)), 2)


def test_own_functions_for_outputs_and_targets() -> None:
    objective = Objective.classification(
        outputs=lambda model, batch: model(batch["x"])[0], targets=lambda batch: batch["x"].argmax(1)
    )
    loss = objective.loss(lambda x: (x, None), {"x": torch.eye(3)}, 3)  # type: ignore[arg-type]
    assert torch.allclose(loss, -torch.eye(3).log_softmax(1).diagonal())


def test_descriptions() -> None:
    def ranking_loss(model: nn.Module, batch: Any) -> Tensor:
        return torch.zeros(1)

    assert describe(Objective.regression()) == {"kind": "regression"}
    assert describe(Objective.of_loss(ranking_loss))["loss"].endswith("ranking_loss")


def test_batches_move_and_keep_their_form() -> None:
    batch = {"a": (torch.zeros(2), [torch.ones(2)]), "b": Visit(torch.zeros(2), "text")}
    moved = batches.map_tensors(batch, lambda tensor: tensor + 1)
    assert moved["a"][1][0].tolist() == [2, 2]
    assert moved["b"].label == "text"
    assert isinstance(moved["b"], Visit)
    assert batches.to_device(batch, torch.device("meta"))["b"].pixels.device.type == "meta"


def test_a_loss_of_ones_own_is_all_that_is_needed(data: TrainingData, model: nn.Module) -> None:
    import nablatau

    objective = Objective.of_loss(
        lambda model, batch: functional.multi_margin_loss(model(batch[0]), batch[1], reduction="none")
    )
    request = data.forget_fraction(0.2)
    result = nablatau.forget(model, request, objective)
    table = nablatau.evaluate(model, result, request, objective).table()
    assert "Mean loss, forget set" in table
    assert "entropies" not in table
