"""The original as it was: a frozen copy, or the base of a model whose adapter holds nothing and can be switched off."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from by_hand import apart, models_asked, texts_request
from nablatau import Objective
from nablatau.methods import Undial
from nablatau.methods.steps import frozen_copy, movable_state
from small import small_transformer


class Adapted(nn.Module):
    """A frozen model with a small addition to its logits that can be switched off, as PEFT's models have it."""

    def __init__(self, *, added: float) -> None:
        super().__init__()
        self.base = small_transformer(dtype=torch.float64).requires_grad_(False)
        self.adapter = nn.Linear(24, 24, bias=False).double()
        nn.init.constant_(self.adapter.weight, added)
        self.on, self.switched_off = True, 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = self.base(input_ids)
        return logits + self.adapter(logits) if self.on else logits

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.on, self.switched_off = False, self.switched_off + 1
        try:
            yield
        finally:
            self.on = True


@pytest.mark.parametrize(("added", "frozen", "models"), [(0.0, True, 1), (0.01, True, 2), (0.0, False, 2)])
def test_the_base_serves_as_teacher_only_where_it_is_the_original(added: float, frozen: bool, models: int) -> None:
    """A fresh adapter on a frozen base is one model; one that holds what was learned, or a base that moves, is two."""
    torch.manual_seed(0)
    model, request = Adapted(added=added), texts_request()
    model.base.requires_grad_(not frozen)
    objective, asked = models_asked(Objective.causal_lm)
    done = Undial(epochs=2, learning_rate=0.01).unlearn(model, request, objective)
    assert len(asked) == models
    assert done.model.on
    assert apart(done.model, model) > 0


@pytest.mark.parametrize("adapted", [False, True])
def test_a_teacher_holds_what_can_move_and_nothing_twice(adapted: bool) -> None:
    model: nn.Module = Adapted(added=0.01) if adapted else small_transformer()
    teacher = frozen_copy(model)
    assert not any(each.requires_grad for each in teacher.parameters())
    for (name, own), (_, theirs) in zip(model.named_parameters(), teacher.named_parameters(), strict=True):
        assert torch.equal(own, theirs)
        assert (own is theirs) == (adapted and name.startswith("base."))


def test_what_can_move_comes_back() -> None:
    model = nn.Sequential(nn.Linear(3, 4).requires_grad_(False), nn.BatchNorm1d(4), nn.Linear(4, 2))
    state = movable_state(model)
    assert not any(name.startswith("0.") for name in state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(8, 3))
    nn.init.ones_(model[2].weight)
    model.load_state_dict(state, strict=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_both_ways_give_the_same_model() -> None:
    request, objective = texts_request(), Objective.causal_lm()
    with_base, with_copy = Adapted(added=0.0), Adapted(added=0.0)
    with_copy.disable_adapter = None  # type: ignore[assignment,method-assign]
    done = [Undial(epochs=2, learning_rate=0.01).unlearn(each, request, objective) for each in (with_base, with_copy)]
    assert done[0].model.switched_off > done[0].history.columns["step"][-1]
    assert apart(done[0].model, done[1].model) == 0
