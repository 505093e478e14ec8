"""IDK + DPO against a loop by hand; without other answers it is refused before any work."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from by_hand import (
    Text,
    apart,
    forget_passes_by_hand,
    log_chances,
    mean_of,
    texts_request,
    trained_network,
    trained_transformer,
    wide_request,
)
from nablatau import Objective, TrainingData
from nablatau.errors import SettingsError
from nablatau.methods import IdkDpo
from small import random_texts, small_transformer


@pytest.mark.parametrize(("beta", "weight"), [(0.1, 1.0), (0.5, 0.0)])
def test_steps_equal_a_loop_by_hand(beta: float, weight: float) -> None:
    request = texts_request()
    original = trained_transformer(request)
    naive = copy.deepcopy(original)

    def ratio(text: Text) -> Tensor:
        return log_chances(naive, text).sum() - log_chances(original, text).sum().detach()

    def one(text: Text) -> Tensor:
        """−(2/β) · log σ(β · (ratio of the other answer − ratio of the one to be forgotten))."""
        return -2 / beta * torch.log(torch.sigmoid(beta * (ratio(text["alternative"]) - ratio(text))))

    def loss_of(forget: list[Text], retain: list[Text]) -> Tensor:
        return mean_of(forget, one) + weight * mean_of(retain, lambda text: -log_chances(naive, text).mean())

    forget_passes_by_hand(naive, request, loss_of, epochs=3, rate=0.01, size=5, seed=9)
    settings = IdkDpo(epochs=3, learning_rate=0.01, batch_size=5, beta=beta, retain_weight=weight)
    done = settings.unlearn(original, request, Objective.causal_lm(), seed=9)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    assert done.history.scored_samples == 2 * len(request.forget_set)
    other = done.history.columns["alternative_loss"]
    assert other[-1] < other[0]


def test_without_other_answers_it_is_refused_before_any_work() -> None:
    texts = [{name: text[name] for name in ("input_ids", "labels")} for text in random_texts(12, 1)]
    request = TrainingData(texts, random_texts(6, 2)).forget_fraction(0.3)
    message = r"idk_dpo teaches other answers.* hold no alternative answers\. Yield dicts with one more entry"
    with pytest.raises(SettingsError, match=message):
        IdkDpo().unlearn(small_transformer(), request, Objective.causal_lm())
    rows = wide_request()
    assert "hold no alternative" in IdkDpo().why_not(trained_network(rows), rows, Objective.classification(), None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"beta": 0.0}, "beta must be above 0"), ({"retain_weight": -1}, "retain_weight must be 0 or more")],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        IdkDpo(**settings)
