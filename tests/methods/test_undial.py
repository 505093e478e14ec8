"""UnDIAL against a loop by hand; its target is the original's but for one word; its teacher stays frozen."""

import copy
from functools import partial
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
    models_asked,
    texts_request,
    trained_network,
    trained_transformer,
    wide_request,
)
from nablatau import Objective, tokens
from nablatau.errors import SettingsError
from nablatau.methods import Undial
from nablatau.methods.undial import undial_rows


def distilled(model: nn.Module, original: nn.Module, text: Text, strength: float) -> Tensor:
    """Mean over labelled tokens of the cross-entropy with what the original says, the true word's logit lowered."""
    ids, found = text["input_ids"], []
    for place in range(1, len(ids)):
        if text["labels"][place] != -100:
            aim = original(ids[None])[0, place - 1].detach().clone()
            aim[text["labels"][place]] -= strength
            found.append(-(aim.softmax(0) * model(ids[None])[0, place - 1].log_softmax(0)).sum())
    return torch.stack(found).mean()


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("at_once", [50, 10**6], ids=["pieces", "one piece"])
def test_steps_equal_a_loop_by_hand(weight: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens.NUMBERS_AT_ONCE, "cpu", at_once)
    request = texts_request()
    original = trained_transformer(request)
    naive = copy.deepcopy(original)

    def loss_of(forget: list[Text], retain: list[Text]) -> Tensor:
        kept = mean_of(retain, lambda text: -log_chances(naive, text).mean())
        return mean_of(forget, lambda text: distilled(naive, original, text, 10.0)) + weight * kept

    forget_passes_by_hand(naive, request, loss_of, epochs=2, rate=0.01, size=5, seed=9)
    settings = Undial(epochs=2, learning_rate=0.01, batch_size=5, retain_weight=weight)
    done = settings.unlearn(original, request, Objective.causal_lm(), seed=9)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    assert done.history.columns["forget_loss"][-1] > done.history.columns["forget_loss"][0]


def test_the_target_has_one_word_lowered_and_the_others_in_their_old_proportions() -> None:
    logits, words = torch.randn(4, 6, dtype=torch.float64), torch.tensor([0, 5, 2, -100])
    free = logits.clone().requires_grad_()
    undial_rows(free, words, logits, strength=3.0)[:3].sum().backward()
    assert free.grad is not None
    aims = logits.softmax(1) - free.grad  # the gradient is what the student says less the target
    for row, word in enumerate(words[:3].tolist()):
        others = [other for other in range(6) if other != word]
        assert aims[row, word] < logits.softmax(1)[row, word]
        shares = aims[row, others] / aims[row, others].sum()
        assert torch.allclose(shares, logits[row, others].softmax(0))
    assert torch.autograd.gradcheck(partial(undial_rows, targets_R=words, original_RV=logits, strength=3.0), free)


def test_the_teacher_is_the_original_and_stays_so() -> None:
    request = texts_request()
    original = trained_transformer(request)
    objective, asked = models_asked(Objective.causal_lm)
    Undial(epochs=1, learning_rate=0.01).unlearn(original, request, objective)
    teacher, student = asked
    assert apart(teacher, original) == 0 < apart(student, original)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())


def test_a_task_without_tokens_is_refused_before_any_work() -> None:
    request = wide_request()
    with pytest.raises(SettingsError, match=r"undial works on what a model says of each token.* single-label"):
        Undial().unlearn(trained_network(request), request, Objective.classification())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"strength": 0.0}, "strength must be above 0"), ({"retain_weight": -1}, "retain_weight must be 0 or more")],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Undial(**settings)
