"""SimNPO against a loop by hand; long texts weigh as short ones do."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from by_hand import Text, apart, forget_passes_by_hand, log_chances, mean_of, texts_request, trained_transformer
from nablatau import Objective
from nablatau.errors import SettingsError
from nablatau.methods import SimNpo
from nablatau.methods.sim_npo import sim_npo_losses


@pytest.mark.parametrize(("beta", "gamma"), [(4.5, 0.0), (2.5, 0.7)])
def test_steps_equal_a_loop_by_hand(beta: float, gamma: float) -> None:
    request = texts_request()
    original = trained_transformer(request)
    naive = copy.deepcopy(original)

    def one(text: Text) -> Tensor:
        """−(2/β) · log σ(−(β/|y|) · log π_θ(y|x) − γ)."""
        chances = log_chances(naive, text)
        return -2 / beta * torch.log(1 / (1 + torch.exp(beta / len(chances) * chances.sum() + gamma)))

    def loss_of(forget: list[Text], retain: list[Text]) -> Tensor:
        return mean_of(forget, one) + 8 * mean_of(retain, lambda text: -log_chances(naive, text).mean())

    forget_passes_by_hand(naive, request, loss_of, epochs=3, rate=0.01, size=5, seed=9)
    settings = SimNpo(epochs=3, learning_rate=0.01, batch_size=5, beta=beta, gamma=gamma)
    done = settings.unlearn(original, request, Objective.causal_lm(), seed=9)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    assert done.history.scored_samples == 0


def test_an_unlikely_text_is_left_alone_whatever_the_original_said() -> None:
    losses = torch.tensor([0.0, 1.0, 10.0], requires_grad=True)
    sim_npo_losses(losses, 4.0, 0.0).sum().backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([-2 / (1 + math.exp(4 * each)) for each in (0, 1, 10)], rel=1e-4)
    assert sim_npo_losses(torch.tensor([1.0]), 2.0, 2.0).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"beta": -1.0}, "beta must be above 0"), ({"retain_weight": -1}, "retain_weight must be 0 or more")],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SimNpo(**settings)
