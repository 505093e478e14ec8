"""What holds for every method in the table."""

import json

import pytest
import torch
from torch import nn

from nablatau import Objective, Recipe, TrainingData
from nablatau.data import Request
from nablatau.errors import SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.methods import METHODS, Method, find_method, find_preset
from small import random_set, random_texts, small_convolutional, small_network, small_transformer

RECIPE = Recipe(epochs=2, learning_rate=0.1, batch_size=16, build=lambda: small_network(batch_norm=True))
ON_TEXTS = frozenset({"tokens", "alternatives"})
"""Needs of methods that are run on texts."""
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def network(method: type[Method], *, batch_norm: bool = True) -> nn.Module:
    """A network of the kind that the method works on."""
    if method.needs & ON_TEXTS:
        return small_transformer(batch_norm=batch_norm)
    make = small_convolutional if "convolutions" in method.needs else small_network
    return make(batch_norm=batch_norm)


def some_records(method: type[Method], data: TrainingData) -> Request:
    """A request of the kind that the method serves."""
    if method.needs & ON_TEXTS:
        return texts().forget_fraction(0.2)
    return data.forget_class(2) if "class request" in method.needs else data.forget_fraction(0.2)


def texts() -> TrainingData:
    """90 training and 40 holdout texts."""
    return TrainingData(random_texts(90, 1), random_texts(40, 2))


def unlearn(method: type[Method], model: nn.Module, request: Request, objective: Objective, seed: int = 0) -> nn.Module:
    return method().unlearn(model, request, fitting(method, objective), seed=seed, recipe=RECIPE).model


def fitting(method: type[Method], objective: Objective) -> Objective:
    """The objective, or that of texts."""
    return Objective.causal_lm() if method.needs & ON_TEXTS else objective


@every_method
def test_the_input_stays_bit_identical(method: type[Method], data: TrainingData, objective: Objective) -> None:
    model = network(method)
    next(model.parameters()).requires_grad_(False)
    model.train()
    next(module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)).eval()
    before, modes = weights_digest(model), [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    unlearned = unlearn(method, model, some_records(method, data), objective)
    assert weights_digest(model) == before != weights_digest(unlearned)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in unlearned.parameters()}


@every_method
def test_same_seed_same_bits(method: type[Method], data: TrainingData, objective: Objective) -> None:
    request, model = some_records(method, data), network(method)
    digests = [weights_digest(unlearn(method, model, request, objective, seed)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1]
    assert (digests[0] == digests[2]) == method.deterministic


@every_method
@pytest.mark.parametrize("count", [1, 45, 80])
def test_one_record_and_more_than_half(
    method: type[Method], data: TrainingData, objective: Objective, count: int
) -> None:
    request = (texts() if method.needs & ON_TEXTS else data).forget_ids(range(count))
    if "class request" in method.needs:
        train = random_set(90, 1)
        train.tensors[1][:count], train.tensors[1][count:] = 2, torch.arange(90 - count) % 2
        request = TrainingData(train, random_set(40, 2)).forget_class(2)
    assert len(request.forget_set) == count
    unlearned = unlearn(method, network(method), request, objective)
    assert not any(module.training for module in unlearned.modules())
    assert all(parameter.requires_grad for parameter in unlearned.parameters())
    assert all(parameter.isfinite().all() for parameter in unlearned.parameters())


@every_method
def test_the_half_for_evaluation_is_never_read(method: type[Method], objective: Objective) -> None:
    train, holdout = random_set(60, 1), random_set(20, 2)
    request = some_records(method, TrainingData(train, holdout))
    assert request.evaluation_set is not None
    if method.needs & ON_TEXTS:
        for position in request.evaluation_set.positions:
            request.evaluation_set.dataset[int(position)].clear()  # reading it is an error
    else:
        holdout.tensors[0][request.evaluation_set.positions] = float("nan")
    model = unlearn(method, network(method), request, objective)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@every_method
@pytest.mark.parametrize("objective", [Objective.causal_lm(), Objective.token_classification()], ids=["lm", "tokens"])
def test_each_serves_texts_or_says_why_not(method: type[Method], objective: Objective) -> None:
    request, model = TrainingData(random_texts(30, 1), random_texts(10, 2)).forget_fraction(0.2), small_transformer()
    recipe = Recipe(epochs=1, learning_rate=0.1, batch_size=16, build=small_transformer)
    why_not = method().why_not(model, request, objective, recipe)
    if why_not:
        assert method.needs & {"outputs", "classes", "convolutions", "class request"}
        return
    done = method().unlearn(model, request, objective, recipe=recipe).model
    assert weights_digest(done) != weights_digest(model)
    assert all(parameter.isfinite().all() for parameter in done.parameters())


@every_method
def test_settings_survive_json(method: type[Method]) -> None:
    settings = json.loads(json.dumps(method().settings()))
    assert settings["method"] == method.name
    assert method.from_settings(settings) == method()


@every_method
def test_history_counts_every_example(method: type[Method], data: TrainingData, objective: Objective) -> None:
    seen: list[dict[str, float]] = []
    request, objective = some_records(method, data), fitting(method, objective)
    done = method().unlearn(network(method), request, objective, recipe=RECIPE, on_step=seen.append)
    assert len(seen) == len(done.history) > 0
    assert [row["step"] for row in seen] == done.history.columns["step"] == list(range(len(seen)))
    assert done.history.columns["seconds"] == sorted(done.history.columns["seconds"])
    assert done.history.trained_samples > 0


@every_method
def test_a_frozen_model_is_refused(method: type[Method], data: TrainingData, objective: Objective) -> None:
    model = network(method, batch_norm=False).requires_grad_(False)
    with pytest.raises(SettingsError, match="No parameter of the model requires a gradient"):
        unlearn(method, model, some_records(method, data), objective)


def test_a_missing_recipe_is_named(data: TrainingData, objective: Objective) -> None:
    with pytest.raises(SettingsError, match="needs the training recipe"):
        METHODS["retrain"]().unlearn(small_network(), data.forget_fraction(0.2), objective)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"no method 'nabla-tau'\. Did you mean nabla_tau\? Known: .*finetune"):
        find_method("nabla-tau")
    with pytest.raises(SettingsError, match=r"no preset 'papre'\. Did you mean paper\?"):
        find_preset("papre")


def test_retraining_equals_training_without_the_records(data: TrainingData, objective: Objective) -> None:
    from nablatau.recipes import train

    request = data.forget_fraction(0.2)
    never_seen = train(RECIPE, request.retain_set, objective, seed=5)
    retrained = unlearn(METHODS["retrain"], small_network(batch_norm=True), request, objective, seed=5)
    assert weights_digest(never_seen) == weights_digest(retrained)


def test_weights_that_were_frozen_stay(data: TrainingData, objective: Objective) -> None:
    model = small_network()
    model[0].requires_grad_(False)
    unlearned = unlearn(METHODS["nabla_tau"], model, data.forget_fraction(0.2), objective)
    assert torch.equal(model[0].weight, unlearned[0].weight)
    assert [p.requires_grad for p in unlearned.parameters()] == [False, False, True, True]
