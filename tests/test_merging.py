"""A model with an adapter is checked as the model that the two make together: the same rows in either form."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from nablatau import Finetune, Objective, Request, Runtime, TrainingData, evaluate, forget
from nablatau.errors import SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.merging import whole_copy
from nablatau.quantisation import quantised
from nablatau.recovery import recover_by_finetuning, recover_by_rounding, relearn
from small import random_set, small_network

peft = pytest.importorskip("peft", reason="the extra `hf` is not installed")

QUIET = Runtime(progress=False)
CLASSES = Objective.classification()


def adapted(seed: int = 0) -> Any:
    """A frozen network with an adapter on its linear layers that says something of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = peft.get_peft_model(small_network(dtype=torch.float32), peft.LoraConfig(r=2, target_modules=["0", "2"]))
        for name, weight in model.named_parameters():
            if "lora_" in name:
                nn.init.normal_(weight, std=0.5)
    return model.eval()


def merged(model: Any) -> nn.Module:
    """As it is when it was saved merged and loaded again: ordinary weights, none of them frozen."""
    whole: nn.Module = copy.deepcopy(model).merge_and_unload()
    return whole.requires_grad_(True)


@pytest.fixture
def request_of_many() -> Request:
    return TrainingData(random_set(120, 1), random_set(60, 2)).forget_fraction(0.2)


def test_the_rows_of_an_adapter_are_those_of_the_merged_model(request_of_many: Request) -> None:
    original, unlearned, retrained = (adapted(seed) for seed in range(3))
    found = []
    for form in (lambda model: model, merged):
        evaluation = evaluate(
            form(original), form(unlearned), request_of_many, CLASSES, reference=form(retrained), runtime=QUIET
        )
        found.append({name: array for name, array in evaluation.evidence.arrays.items() if "preflight" not in name})
    assert found[0].keys() == found[1].keys() >= {"recovery_finetuning", "recovery_rounding", "relearned_unlearned"}
    for name, array in found[0].items():
        assert array == pytest.approx(found[1][name], abs=1e-6, nan_ok=True), name


def test_what_is_rounded_is_the_sum_of_base_and_adapter() -> None:
    model = adapted()
    ours, theirs = quantised(model, 4), quantised(merged(model), 4)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_all_weights_of_the_copy_are_trained_and_it_answers_as_the_model_does() -> None:
    model, inputs = adapted(), random_set(20, 3).tensors[0]
    whole = whole_copy(model)
    assert type(whole) is nn.Sequential
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert torch.allclose(whole(inputs), model(inputs), atol=1e-6)
    assert not torch.allclose(whole(inputs), small_network(dtype=torch.float32)(inputs), atol=0.1)


def test_an_adapter_inside_a_model_is_merged_and_what_lies_beside_it_keeps_its_flags() -> None:
    model = nn.Sequential(adapted(), nn.Linear(3, 3).requires_grad_(False))
    inputs = random_set(20, 3).tensors[0]
    whole = whole_copy(model)
    assert not any("lora_" in name for name, _ in whole.named_parameters())
    assert torch.allclose(whole(inputs), model(inputs), atol=1e-6)
    assert {name for name, each in whole.named_parameters() if not each.requires_grad} == {"1.weight", "1.bias"}


def test_a_model_without_an_adapter_is_copied_as_it_is() -> None:
    model = small_network()
    model[0].requires_grad_(False)
    whole = whole_copy(model)
    assert weights_digest(whole) == weights_digest(model)
    assert [each.requires_grad for each in whole.parameters()] == [each.requires_grad for each in model.parameters()]


def test_a_base_that_is_shared_stays_as_it_is(request_of_many: Request) -> None:
    """The unlearned model lies on the very memory of the original's frozen weights; neither is merged."""
    original = adapted()
    runtime = Runtime(share_frozen=True, progress=False)
    unlearned = forget(original, request_of_many, CLASSES, method=Finetune(budget=1.0), runtime=runtime).model
    frozen = [{each.data_ptr() for each in m.parameters() if not each.requires_grad} for m in (original, unlearned)]
    assert frozen[0] == frozen[1] != set()
    before = weights_digest(original), weights_digest(unlearned)
    recover_by_finetuning(unlearned, request_of_many, CLASSES, steps=(2,), runtime=runtime)
    recover_by_rounding(unlearned, request_of_many, CLASSES, runtime=runtime)
    relearn({"unlearned": unlearned}, request_of_many, CLASSES, seeds=(0,), steps=(0, 2), runtime=runtime)
    assert before == (weights_digest(original), weights_digest(unlearned))
    assert any("lora_" in name for name, _ in unlearned.named_parameters())


def test_an_adapter_that_cannot_be_merged_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise ValueError("Cannot merge LORA layers when the model is gptq quantized")

    monkeypatch.setattr(peft.PeftModel, "merge_and_unload", refuse, raising=False)
    with pytest.raises(SettingsError, match=r"cannot be merged: Cannot merge LORA .* recovery=False"):
        whole_copy(adapted())
