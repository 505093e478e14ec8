"""NPO against a loop by hand, its limit, its bound, and that the original is asked once."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from torch.utils.data import TensorDataset

from by_hand import (
    Text,
    apart,
    forget_passes_by_hand,
    log_chances,
    mean_of,
    models_asked,
    texts_request,
    trained_network,
    trained_transformer,
    wide_request,
)
from nablatau import Objective, TrainingData
from nablatau.errors import SettingsError
from nablatau.methods import Npo
from nablatau.methods.npo import npo_losses
from small import random_set, small_network


@pytest.mark.parametrize(("beta", "weight"), [(0.1, 1.0), (1.0, 0.0)])
def test_steps_equal_a_loop_by_hand(beta: float, weight: float) -> None:
    request = texts_request()
    original = trained_transformer(request)
    naive = copy.deepcopy(original)

    def one(text: Text) -> Tensor:
        """(2/β) · log(1 + (π_θ / π_θ₀)^β)."""
        ratio = log_chances(naive, text).sum() - log_chances(original, text).sum().detach()
        return 2 / beta * torch.log(1 + ratio.exp() ** beta)

    def loss_of(forget: list[Text], retain: list[Text]) -> Tensor:
        return mean_of(forget, one) + weight * mean_of(retain, lambda text: -log_chances(naive, text).mean())

    forget_passes_by_hand(naive, request, loss_of, epochs=3, rate=0.01, size=5, seed=9)
    settings = Npo(epochs=3, learning_rate=0.01, batch_size=5, beta=beta, retain_weight=weight)
    done = settings.unlearn(original, request, Objective.causal_lm(), seed=9)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    assert done.history.scored_samples == len(request.forget_set)
    assert done.history.columns["forget_term"][0] == pytest.approx(2 / beta * math.log(2))


@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_steps_on_other_kinds_of_examples_equal_a_loop_by_hand(kind: str) -> None:
    """Ratios are of the probability of all labels together, and of the density of normal errors of variance 1."""
    rows = [torch.eye(3, dtype=torch.float64)[random_set(60, seed)[:][1]] for seed in (1, 2)]
    sets = [
        TensorDataset(random_set(60, seed, torch.float64)[:][0], row) for seed, row in zip((1, 2), rows, strict=True)
    ]
    request, original = TrainingData(*sets).forget_fraction(0.2), small_network(dtype=torch.float64)
    naive = copy.deepcopy(original)

    def log_chance(model: nn.Module, example: Any) -> Tensor:
        told = model(example[0][None])[0]
        law: Any = Bernoulli(logits=told) if kind == "multi-label" else Normal(told, 1.0)
        return law.log_prob(example[1]).sum()  # type: ignore[no-any-return]

    def one(example: Any) -> Tensor:
        return (
            2 / 0.5 * torch.log(1 + (log_chance(naive, example) - log_chance(original, example).detach()).exp() ** 0.5)
        )

    forget_passes_by_hand(naive, request, lambda forget, _: mean_of(forget, one), epochs=3, rate=0.01, size=5, seed=9)
    objective = Objective.multi_label() if kind == "multi-label" else Objective.regression()
    settings = Npo(epochs=3, learning_rate=0.01, batch_size=5, beta=0.5, retain_weight=0.0)
    assert apart(settings.unlearn(original, request, objective, seed=9).model, naive) < 1e-10


def test_it_begins_as_ascent_and_has_a_bound_where_ascent_has_none() -> None:
    ratios = torch.tensor([0.0, -5.0, -1000.0], requires_grad=True)
    losses = npo_losses(ratios, 0.1)
    losses.sum().backward()
    assert losses.min() >= 0
    assert ratios.grad is not None
    assert ratios.grad.tolist() == pytest.approx([1.0, 2 / (1 + math.exp(0.5)), 0.0], abs=1e-6)
    with_small_beta = torch.tensor([-3.0], requires_grad=True)
    npo_losses(with_small_beta, 1e-4).sum().backward()
    assert float(with_small_beta.grad) == pytest.approx(1.0, abs=1e-3)  # type: ignore[arg-type]


def test_no_second_model_is_asked() -> None:
    request = wide_request()
    objective, asked = models_asked()
    done = Npo(epochs=2, learning_rate=0.01).unlearn(trained_network(request), request, objective)
    assert len(asked) == 1
    assert done.history.columns["forget_loss"][-1] > done.history.columns["forget_loss"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"beta": 0.0}, "beta must be above 0"), ({"retain_weight": -1}, "retain_weight must be 0 or more")],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Npo(**settings)
