"""An unlearned model that uses the very memory of the given one's frozen parameters."""

import pytest
from torch import nn

from nablatau import Finetune, NablaTau, Objective, PublishedNablaTau, Recipe, Retrain, Runtime, TrainingData
from nablatau.fingerprints import weights_digest
from nablatau.methods import Method
from nablatau.methods.fisher import FisherForgetting
from small import small_network

SHARED, APART = Runtime(share_frozen=True, progress=False), Runtime(progress=False)


def half_frozen() -> nn.Module:
    """A network whose first layer is frozen."""
    model = small_network()
    first = next(module for module in model.modules() if isinstance(module, nn.Linear))
    first.requires_grad_(False)
    return model


def places(model: nn.Module, *, frozen: bool) -> list[int]:
    """Where its parameters lie in memory, those that are frozen or those that are not."""
    return [each.data_ptr() for each in model.parameters() if each.requires_grad != frozen]


@pytest.mark.parametrize(
    "method", [NablaTau(least_records=200), PublishedNablaTau(), Finetune()], ids=lambda each: each.name
)
def test_what_is_frozen_lies_in_memory_once(method: Method, data: TrainingData, objective: Objective) -> None:
    model, request = half_frozen(), data.forget_fraction(0.2)
    before = weights_digest(model)
    shared, apart = (
        method.unlearn(model, request, objective, seed=3, runtime=runtime).model for runtime in (SHARED, APART)
    )
    assert places(shared, frozen=True) == places(model, frozen=True)
    assert not set(places(shared, frozen=False)) & set(places(model, frozen=False))
    assert not set(places(apart, frozen=True)) & set(places(model, frozen=True))
    assert weights_digest(shared) == weights_digest(apart) != before == weights_digest(model)


def test_flags_stay_apart(data: TrainingData, objective: Objective) -> None:
    model = half_frozen()
    shared = NablaTau(least_records=200).unlearn(model, data.forget_fraction(0.2), objective, runtime=SHARED).model
    shared.requires_grad_(True)
    assert [each.requires_grad for each in half_frozen().parameters()] == [
        each.requires_grad for each in model.parameters()
    ]


@pytest.mark.parametrize("method", [FisherForgetting(), Retrain()], ids=lambda each: each.name)
def test_methods_that_move_more_share_nothing(method: Method, data: TrainingData, objective: Objective) -> None:
    model = half_frozen()
    before = weights_digest(model)
    recipe = Recipe(epochs=1, learning_rate=0.1, batch_size=16, build=small_network)
    done = method.unlearn(model, data.forget_fraction(0.2), objective, recipe=recipe, runtime=SHARED).model
    assert weights_digest(model) == before
    assert not set(places(done, frozen=True)) & set(places(model, frozen=True))
