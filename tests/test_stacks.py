"""Scores of many models in one pass: what each model says alone, of any data set, in any batches."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nablatau import Objective, Runtime
from nablatau.errors import EvidenceError
from nablatau.records import Records
from nablatau.scoring import score
from nablatau.stacks import Stack, examples_are_independent, score_models
from small import random_set, small_network

CLASSES = Objective.classification()
OBJECTIVES = {
    "classes": CLASSES,
    "values": Objective.regression(outputs=lambda model, batch: model(batch[0])[:, :1]),
    "losses": Objective.of_loss(lambda model, batch: model(batch[0]).square().sum(dim=1)),
}


def networks(count: int = 4, **options: Any) -> list[nn.Module]:
    return [small_network(seed, torch.float64, **options) for seed in range(count)]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("batch_size", [1, 28, 1000])
def test_scores_are_those_of_each_model_alone(name: str, batch_norm: bool, batch_size: int) -> None:
    models, records = (
        networks(batch_norm=batch_norm),
        Records.all_of(random_set(50, 3, torch.float64)).subset([4, 9, 2] * 9),
    )
    found = score_models(models, records, OBJECTIVES[name], Runtime(evaluation_batch_size=batch_size))
    for row, model in enumerate(models):
        alone = score(model, records, OBJECTIVES[name])
        for signal, scores_Kn in found.items():
            assert scores_Kn.shape == (4, 27)
            np.testing.assert_allclose(scores_Kn[row], alone[signal], rtol=0, atol=1e-12)
    assert ("margin" in found) == (name != "losses")


def test_models_keep_their_mode_and_weights() -> None:
    models = networks(2, batch_norm=True)
    models[0].train()
    before = [{name: each.clone() for name, each in model.state_dict().items()} for model in models]
    score_models(models, Records.all_of(random_set(50, 3, torch.float64)), CLASSES, Runtime(evaluation_batch_size=20))
    assert [model.training for model in models] == [True, False]
    for model, old in zip(models, before, strict=True):
        torch.testing.assert_close(model.state_dict(), old, rtol=0, atol=0)


class OfItsOwn(nn.Module):
    """Says what no stack can: it multiplies by a number that is no parameter and no buffer."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.layer = factor, small_network(0, torch.float64)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.factor * self.layer(inputs)


def test_models_that_differ_in_more_than_weights_are_asked_alone() -> None:
    models, records = [OfItsOwn(1.0), OfItsOwn(2.0)], Records.all_of(random_set(50, 3, torch.float64))
    found = score_models(models, records, CLASSES, Runtime(evaluation_batch_size=20))
    for row, model in enumerate(models):
        np.testing.assert_allclose(found["margin"][row], score(model, records, CLASSES)["margin"])


def test_a_score_that_is_no_number_names_model_and_record() -> None:
    models, records = networks(3), Records.all_of(random_set(5, 3, torch.float64))
    with torch.no_grad():
        next(models[1].parameters()).fill_(float("nan"))
    with pytest.raises(EvidenceError, match=r"not finite for models \[1\]"):
        score_models(models, records, CLASSES)


def test_attention_without_a_batching_rule_is_stacked_all_the_same() -> None:
    models = [nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double() for _ in range(2)]
    inputs = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answers = Stack(models, lambda model, batch: model(batch))(inputs)
    for row, model in enumerate(models):
        torch.testing.assert_close(answers[row], model(inputs[row]))


@pytest.mark.parametrize(
    ("layer", "independent"),
    [(nn.Identity(), True), (nn.Dropout(0.5), True), (nn.LayerNorm(6), True), (nn.BatchNorm1d(6), False)],
)
def test_whether_examples_of_a_batch_leave_each_other_alone(layer: nn.Module, independent: bool) -> None:
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))

    def ask(model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0]).sum(dim=1)

    with torch.random.fork_rng():
        assert examples_are_independent(layer.train(), ask, (inputs,)) == independent
        assert not examples_are_independent(layer.eval(), ask, (inputs[:1],))
