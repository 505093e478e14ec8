"""Blocks are found, and what they hold is computed again with the same numbers and less kept."""

import pytest
import torch
from torch import Tensor, nn

import small_texts
from nablatau import Objective, PublishedNablaTau, Runtime, TrainingData
from nablatau.blocks import blocks_of, recomputed
from nablatau.errors import SettingsError
from nablatau.methods import METHODS
from small import random_texts, small_network, small_transformer
from small_runs import farthest, run_all


class Nested(nn.Module):
    """Lists in lists, a list of norms inside a block, a block that stands twice, one without weights."""

    def __init__(self) -> None:
        super().__init__()
        twice = nn.Linear(2, 2)
        self.parts = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2), twice]), twice, nn.ReLU()])
        self.deep = nn.Sequential(nn.ModuleList([small_transformer()]))  # type: ignore[arg-type]
        self.head = nn.Linear(2, 1)


def test_members_of_outermost_lists_are_blocks() -> None:
    model = Nested()
    assert blocks_of(model) == [model.parts[0][0], model.parts[1], model.deep[0][0]]  # type: ignore[index]
    assert blocks_of(small_network()) == []
    assert len(blocks_of(small_transformer(blocks=3))) == 3
    assert len(blocks_of(small_texts.llama())) == 2


def saved_numbers(model: nn.Module, inputs: Tensor) -> int:
    """Numbers that a forward pass keeps for the backward pass."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(inputs)
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    return sum(tensor.numel() for place, tensor in kept.items() if place not in weights)


def test_less_is_kept_and_afterwards_all_is_as_before() -> None:
    model, inputs = small_transformer(blocks=6), torch.randint(2, 24, (4, 12))
    before = saved_numbers(model, inputs)
    with recomputed(model):
        inside = saved_numbers(model, inputs)
    assert inside < before / 2
    assert saved_numbers(model, inputs) == before
    assert not any("forward" in vars(block) for block in blocks_of(model))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_numbers_are_the_same_dropout_and_pieces_too(mode: str) -> None:
    request = TrainingData(random_texts(31, 1), random_texts(9, 2)).forget_fraction(0.4, seed=1)
    model, losses = small_transformer(seed=4, dtype=torch.float64), Objective.causal_lm()
    for block in model.blocks:
        block.narrow = nn.Sequential(block.narrow, nn.Dropout(0.3))  # type: ignore[assignment,index]
    method = METHODS["grad_diff"](mode=mode, epochs=2, batch_size=5, learning_rate=1e-2)
    for size in (None, 3):
        runs = (Runtime(micro_batch_size=size, recompute_activations=again) for again in (False, True))
        found = [method.unlearn(model, request, losses, runtime=each).model.state_dict() for each in runs]
        far, where = farthest(*found)
        assert far == 0, where


def test_every_method_on_texts_computes_the_same() -> None:
    names = ("nabla_tau", "nabla_tau_paper", "npo", "rmu", "idk_dpo", "undial")
    with pytest.raises(SettingsError, match="Sequential has no blocks"):
        run_all(Runtime(recompute_activations=True), ["finetune"])
    again = Runtime(recompute_activations=True)
    found = [run_all(each, names, of_texts=names, trained=False) for each in (Runtime(), again)]
    far, where = farthest(*found)
    assert far < 1e-12, where


def test_a_cache_for_generation_is_off_as_long_as_it_lasts() -> None:
    """A second pass would find in it what the first has put there."""
    model = small_texts.llama()
    inputs = torch.randint(4, 26, (3, 7))
    model.config.pad_token_id, model.config.use_cache = 0, True
    model(inputs, attention_mask=torch.ones_like(inputs)).logits.sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    with recomputed(model):
        assert not model.config.use_cache
        model(inputs, attention_mask=torch.ones_like(inputs)).logits.sum().backward()
    assert model.config.use_cache
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, grad)


def test_batch_norm_in_a_block_that_trains_is_refused() -> None:
    model = small_transformer()
    model.blocks.append(nn.Sequential(nn.BatchNorm1d(16)))  # type: ignore[operator,union-attr]
    request = TrainingData(random_texts(40, 1), random_texts(20, 2)).forget_fraction(0.4, seed=1)
    with pytest.raises(SettingsError, match="recompute_activations and BatchNorm in train mode"):
        PublishedNablaTau(mode="train").unlearn(
            model, request, Objective.causal_lm(), runtime=Runtime(recompute_activations=True)
        )
