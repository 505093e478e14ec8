"""Packed batches: the same logits, losses, gradients and runs as padded ones; models that mix texts up are refused."""

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import small_llama
from by_hand import apart
from nablatau import NablaTau, Objective, Runtime, TrainingData
from nablatau.errors import ObjectiveError
from nablatau.methods import IdkDpo, Method, Rmu, Undial
from nablatau.packing import first_fit, keeps_apart_in_one_row, layout
from nablatau.scoring import score

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")

PADDED, PACKED = Objective.causal_lm(), Objective.causal_lm(packed=True)
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def examples(size: int, seed: int) -> list[dict[str, Any]]:
    """Texts of 7 to 14 tokens, every third of them three times over, each with another answer."""
    made = small_llama.examples(small_llama.tokenizer(), small_llama.questions(size, seed))
    made = [
        {name: list(values) * (1 if number % 3 else 3) for name, values in one.items()}
        for number, one in enumerate(made)
    ]
    return [{**one, "alternative": other} for one, other in zip(made, [*made[1:], made[0]], strict=True)]


def mask_of(lengths: list[int]) -> Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def wide_llama(seed: int = 0) -> Any:
    return small_llama.llama(seed).double()


# ---------------------------------------------------------------------- where each token goes


@given(LENGTHS)
def test_no_text_overlaps_another_and_no_row_could_be_spared_for_the_next(lengths: list[int]) -> None:
    rows, starts = first_fit(lengths, max(lengths))
    taken = [[0] * max(lengths) for _ in range(max(rows) + 1)]
    for row, start, length in zip(rows, starts, lengths, strict=True):
        for place in range(start, start + length):
            taken[row][place] += 1
    assert {count for row in taken for count in row} <= {0, 1}
    filled = [sum(row) for row in taken]
    assert all(one + other > max(lengths) for one, other in pairwise(sorted(filled)))  # else they would be one row


@given(LENGTHS, st.booleans())
def test_tokens_come_back_to_their_places(lengths: list[int], in_one_row: bool) -> None:
    mask_BT = mask_of(lengths)
    where = layout(mask_BT, in_one_row=in_one_row)
    values_BT = torch.arange(1, mask_BT.numel() + 1).view_as(mask_BT)
    rows = where.packed(values_BT, fill=0)
    assert torch.equal(where.unpacked(rows) * mask_BT, values_BT * mask_BT)
    assert sorted(rows[rows > 0].tolist()) == values_BT[mask_BT > 0].tolist()
    steps_BT = torch.arange(mask_BT.shape[1]).expand_as(mask_BT)
    assert torch.equal(where.unpacked(where.positions_RW) * mask_BT, steps_BT * mask_BT)
    assert rows.numel() <= mask_BT.numel()
    assert not in_one_row or rows.shape == (1, sum(lengths))


@given(LENGTHS)
def test_what_room_is_left_in_a_row_is_a_text_of_its_own(lengths: list[int]) -> None:
    where = layout(mask_of(lengths))
    for sources, positions in zip(where.sources_RW.tolist(), where.positions_RW.tolist(), strict=True):
        if -1 in sources:
            room = sources.index(-1)
            assert set(sources[room:]) == {-1}
            assert positions[room:] == list(range(len(sources) - room))


# ---------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_losses_and_gradients_are_those_of_a_padded_batch(attention: str) -> None:
    model, batch = wide_llama(), PADDED.collate(examples(9, 1))
    model.set_attn_implementation(attention)
    inside = batch["attention_mask"].bool()
    assert layout(batch["attention_mask"]).sources_RW.shape[0] < 9  # or nothing is packed
    assert (PACKED.outputs(model, batch) - PADDED.outputs(model, batch))[inside].abs().max() < 1e-12
    gradients = []
    for objective in (PADDED, PACKED):
        model.zero_grad()
        loss_B = objective.loss(model, batch, 9)
        assert torch.equal(objective.mean_loss(model, batch, 9), loss_B.mean())
        loss_B.square().sum().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() < 1e-10


@pytest.mark.parametrize(
    "method",
    [
        NablaTau(batch_size=5),
        IdkDpo(epochs=2, batch_size=5, learning_rate=1e-2),
        Undial(epochs=2, batch_size=5, learning_rate=1e-2, retain_weight=1.0),
        Rmu(layer="model.layers.1", steps=3, batch_size=5, learning_rate=1e-2),
    ],
    ids=lambda method: method.name,
)
def test_methods_end_at_the_same_weights(method: Method) -> None:
    request = TrainingData(examples(30, 1), examples(10, 2)).forget_fraction(0.4, seed=3)
    model = wide_llama()
    padded = method.unlearn(model, request, PADDED, seed=2)
    for runtime in (Runtime(), Runtime(micro_batch_size=3)):
        packed = method.unlearn(model, request, PACKED, seed=2, runtime=runtime)
        assert apart(packed.model, padded.model) < 1e-8 < apart(packed.model, model)


def test_scores_are_those_of_padded_batches() -> None:
    model, records = (
        wide_llama(),
        TrainingData(examples(30, 1), examples(10, 2)).forget_fraction(0.4, seed=3).retain_set,
    )
    one, other = (score(model, records, objective) for objective in (PADDED, PACKED))
    assert one.arrays.keys() == other.arrays.keys()
    for name, values in one.arrays.items():
        assert abs(values - other.arrays[name]).max() < 1e-10, name


# ---------------------------------------------------------------------- models that do not listen


class OneRow(nn.Module):
    """Keeps texts apart in a single row alone, as flash attention does: elsewhere it goes by the place in the row."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(26, 16), nn.Embedding(64, 26)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **_: Any) -> Tensor:
        if position_ids is None or len(input_ids) > 1:
            position_ids = torch.arange(input_ids.shape[1])
        return self.words(input_ids) @ self.words.weight.T + self.places(position_ids)


class Recurrent(nn.Module):
    """A state that runs through the whole row."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.cells, self.head = nn.Embedding(26, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, 26)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **_: Any) -> Tensor:
        return self.head(self.cells(self.words(input_ids))[0])


def test_a_model_that_listens_in_a_single_row_alone_is_given_one() -> None:
    model, batch = OneRow(), PADDED.collate(examples(6, 1))
    inside = batch["attention_mask"].bool()
    found, expected = PACKED.outputs(model, batch), PADDED.outputs(model, batch)
    assert (found - expected)[inside].abs().max() < 1e-5
    assert keeps_apart_in_one_row(model, batch["input_ids"], lambda *_: pytest.fail("it was tried before"))


@pytest.mark.parametrize("name", ["GRU", "OPT"])
def test_a_model_that_mixes_texts_up_is_refused_and_left_as_it_was(name: str) -> None:
    config = partial(transformers.OPTConfig, vocab_size=26, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = Recurrent() if name == "GRU" else transformers.OPTForCausalLM(config(ffn_dim=16, word_embed_proj_dim=16))
    before = copy.deepcopy(model.train().state_dict())
    with pytest.raises(ObjectiveError, match=r"does not keep packed texts apart: .*Leave packed"):
        PACKED.loss(model, PACKED.collate(examples(4, 1)), 4)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Averaging(nn.Module):
    """The mean over everything before, whatever the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(26, 16)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **_: Any) -> Tensor:
        x_BTH = self.words(input_ids)
        seen_T = torch.arange(1, x_BTH.shape[1] + 1)[:, None]
        return (x_BTH.cumsum(dim=1) / seen_T) @ self.words.weight.T


@pytest.mark.parametrize("ids", [[[3, 6, 2, 5, 1, 4, 0, 2]], [[0, 0, 0, 0]], [[5]]])
def test_whatever_the_first_batch_holds_a_model_that_mixes_is_found_out(ids: list[list[int]]) -> None:
    with pytest.raises(ObjectiveError, match="does not keep packed texts apart"):
        keeps_apart_in_one_row(Averaging(), torch.tensor(ids), PACKED.packed_outputs or pytest.fail("not packed"))


@pytest.mark.parametrize("family", ["Llama", "Bloom"])
def test_half_precision_neither_hides_a_mix_up_nor_looks_like_one(family: str) -> None:
    settings = {"vocab_size": 26, "hidden_size": 32, "pad_token_id": 0}
    if family == "Llama":
        config = transformers.LlamaConfig(**settings, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    else:
        config = transformers.BloomConfig(**settings, n_layer=2, n_head=2)
    model = getattr(transformers, f"{family}ForCausalLM")(config).to(torch.bfloat16)
    batch = PACKED.collate(examples(4, 1))
    if family == "Llama":
        assert PACKED.loss(model, batch, 4).shape == (4,)
    else:
        with pytest.raises(ObjectiveError, match="does not keep packed texts apart"):
            PACKED.loss(model, batch, 4)


def test_a_model_without_positions_is_refused() -> None:
    class Plain(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return nn.functional.one_hot(input_ids, 26).float()

    with pytest.raises(ObjectiveError, match=r"Plain cannot be given packed texts: .*position_ids"):
        PACKED.loss(Plain(), PACKED.collate(examples(4, 1)), 4)


# ---------------------------------------------------------------------- batches that cannot be packed


BATCHES: dict[str, tuple[Any, str]] = {
    "a tuple": ((torch.ones(2, 3).long(), torch.ones(2, 3).long()), "made of dicts with input_ids"),
    "no mask": ({"input_ids": torch.ones(2, 3).long(), "labels": torch.ones(2, 3).long()}, "attention_mask of shape"),
    "one number a text": (
        {**PADDED.collate(examples(2, 1)), "weights": torch.ones(2)},
        "A batch with weights cannot be packed",
    ),
    "filled on the left": (
        {
            "input_ids": torch.ones(2, 3).long(),
            "labels": torch.ones(2, 3).long(),
            "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        },
        "filling before a text's first token",
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_that_cannot_be_packed(name: str) -> None:
    batch, message = BATCHES[name]
    with pytest.raises(ObjectiveError, match=message):
        PACKED.loss(small_llama.llama(), batch, 2)
