"""The negated task vector against a loop by hand; what it takes away is what fine-tuning added."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from by_hand import (
    Text,
    apart,
    forget_passes_by_hand,
    log_chances,
    mean_of,
    texts_request,
    trained_transformer,
    wide_request,
)
from nablatau import Objective
from nablatau.errors import SettingsError
from nablatau.methods import TaskVector
from nablatau.scoring import score
from small import small_network


def fine_tuned(original: nn.Module, request: Any) -> nn.Module:
    """By hand, on the forget set."""
    model = copy.deepcopy(original)

    def loss_of(forget: list[Text], retain: list[Text]) -> Tensor:
        return mean_of(forget, lambda text: -log_chances(model, text).mean())

    forget_passes_by_hand(model, request, loss_of, epochs=3, rate=0.01, size=5, seed=9)
    return model


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_result_equals_a_loop_by_hand(scale: float) -> None:
    request, objective = texts_request(), Objective.causal_lm()
    original = trained_transformer(request)
    settings = TaskVector(epochs=3, learning_rate=0.01, batch_size=5, scale=scale)
    done = settings.unlearn(original, request, objective, seed=9)
    naive, there = copy.deepcopy(original), fine_tuned(original, request)
    with torch.no_grad():
        for weight, tuned in zip(naive.parameters(), there.parameters(), strict=True):
            weight -= scale * (tuned - weight)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    losses = [float(score(model, request.forget_set, objective)["loss"].mean()) for model in (original, done.model)]
    assert losses[1] > losses[0]


def test_statistics_stay_the_originals() -> None:
    request, model = wide_request(), small_network(dtype=torch.float64, batch_norm=True)
    done = TaskVector(learning_rate=0.01, mode="train").unlearn(model, request, Objective.classification())
    for (name, before), after in zip(model.named_buffers(), done.model.buffers(), strict=True):
        assert torch.equal(before, after), name
    assert apart(done.model, model) > 0


def test_impossible_settings() -> None:
    with pytest.raises(SettingsError, match="scale must be above 0"):
        TaskVector(scale=0)
