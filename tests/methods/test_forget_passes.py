"""Gradient ascent and gradient difference against loops by hand, and the schedule that other methods share."""

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
from nablatau import Objective
from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.methods import GradAscent, GradDiff
from nablatau.methods.forget_passes import warmed_up
from nablatau.scoring import score

SETTINGS: dict[str, Any] = {"epochs": 3, "learning_rate": 0.01, "batch_size": 5}


@pytest.mark.parametrize(("share", "weight"), [(0.4, 0.0), (0.4, 1.0), (0.7, 3.0)])
def test_steps_equal_a_loop_by_hand(share: float, weight: float) -> None:
    request = texts_request(share)
    original = trained_transformer(request)
    naive = copy.deepcopy(original)

    def loss_of(forget: list[Text], retain: list[Text]) -> Tensor:
        """−mean ℓ_forget + w · mean ℓ_retain."""
        lost, kept = (mean_of(texts, lambda text: -log_chances(naive, text).mean()) for texts in (forget, retain))
        return weight * kept - lost

    forget_passes_by_hand(naive, request, loss_of, epochs=3, rate=0.01, size=5, seed=9)
    method = GradDiff(retain_weight=weight, **SETTINGS) if weight else GradAscent(**SETTINGS)
    done = method.unlearn(original, request, Objective.causal_lm(), seed=9)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    assert len(done.history) == 3 * -(-len(request.forget_set) // 5)
    assert done.history.columns["forget_loss"][-1] > 2 * done.history.columns["forget_loss"][0]


def test_without_a_retain_term_gradient_difference_is_ascent() -> None:
    request, objective = wide_request(), Objective.classification()
    original = trained_network(request)
    models = [
        method(**SETTINGS, **more).unlearn(original, request, objective).model
        for method, more in ((GradAscent, {}), (GradDiff, {"retain_weight": 0.0}))
    ]
    assert apart(*models) == 0 < apart(models[0], original)


def test_the_retain_term_keeps_what_ascent_destroys() -> None:
    request, objective = texts_request(), Objective.causal_lm()
    original = trained_transformer(request)
    strong: dict[str, Any] = {"epochs": 4, "learning_rate": 0.02, "batch_size": 6}
    ascent, difference = (
        method.unlearn(original, request, objective).model
        for method in (GradAscent(**strong), GradDiff(retain_weight=5.0, **strong))
    )
    kept = [float(score(model, request.retain_set, objective)["loss"].mean()) for model in (ascent, difference)]
    assert kept[1] < kept[0] / 2


def test_the_rate_rises_for_a_pass_and_falls_to_the_end() -> None:
    rates = [step.learning_rate for step in warmed_up((Step({}, 2.0) for _ in range(6)), 2, 3)]
    assert rates == [1.0, 2.0, 2.0, 1.5, 1.0, 0.5]
    assert [step.learning_rate for step in warmed_up((Step({}, 2.0) for _ in range(2)), 2, 1)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retain_weight": -1.0}, r"retain_weight must be 0 or more, not -1\.0"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"epochs": 0}, "epochs must be above 0"),
        ({"mode": "test"}, "mode must be 'train' or 'eval'"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        GradDiff(**settings)


def test_neither_reads_more_than_it_needs() -> None:
    request, objective = wide_request(), Objective.classification()
    seen = GradAscent(epochs=2).unlearn(trained_network(request), request, objective).history
    assert seen.trained_samples == 2 * len(request.forget_set)
    assert "retain_loss" not in seen.columns
    assert torch.tensor(seen.columns["learning_rate"]).max() == pytest.approx(1e-5)
