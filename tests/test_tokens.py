"""Tokens: losses by pieces against naive ones, their gradients, what is kept in memory, and what is refused."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from nablatau import Objective, tokens
from nablatau.attacks.min_k import min_k, min_k_plus_plus
from nablatau.batches import Padding
from nablatau.errors import ObjectiveError
from nablatau.loading import Loader
from nablatau.metrics.language import extraction_strength
from nablatau.records import Records
from nablatau.signals import signals
from small import random_texts, small_transformer

LABELS = torch.tensor([[1, -100, 4, 0], [2, 2, -100, -100], [-100, -100, -100, 3]])


def naive_loss(logits_TV: Tensor, labels_T: Tensor, shift: int) -> Tensor:
    """The mean of −log p over the labelled tokens, each told at the position `shift` before it."""
    found = []
    for place in range(shift, len(labels_T)):
        if labels_T[place] != -100:
            found.append(-logits_TV[place - shift].log_softmax(0)[labels_T[place]])
    return torch.stack(found).mean()


@pytest.fixture(params=[12, 5, 10_000], ids=["two rows", "one row", "one piece"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens.NUMBERS_AT_ONCE, "cpu", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize(("make", "shift"), [(Objective.causal_lm, 1), (Objective.token_classification, 0)])
def test_losses_and_gradients_against_naive_ones(make: Any, shift: int) -> None:
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    objective, weights = make(), torch.tensor([1.0, -2.0, 0.5])
    losses = objective.loss(nn.Identity(), (logits, LABELS), 3)
    naive = torch.stack([naive_loss(*each, shift) for each in zip(logits, LABELS, strict=True)])
    assert torch.allclose(losses, naive, atol=1e-14)
    ours, theirs = (torch.autograd.grad(each @ weights.double(), logits)[0] for each in (losses, naive))
    assert torch.allclose(ours, theirs, atol=1e-14)
    mean = objective.mean_loss(nn.Identity(), (logits, LABELS), 3)
    assert torch.allclose(mean, naive.mean(), atol=1e-14)
    assert objective.summed(losses, (logits, LABELS)).tolist() == pytest.approx(
        [n * k for n, k in zip(naive.tolist(), [2, 1, 1] if shift else [3, 2, 1], strict=True)]
    )


@pytest.mark.usefixtures("pieces")
def test_gradients_of_gradients() -> None:
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    loss_of = Objective.token_classification().loss_of_outputs
    assert torch.autograd.gradcheck(lambda z: loss_of(z, LABELS), logits)
    assert torch.autograd.gradgradcheck(lambda z: loss_of(z, LABELS), logits)


class Largest(TorchDispatchMode):
    """Notes the largest tensor of each type that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, Tensor):
                self.numel[each.dtype] = max(each.numel(), self.numel.get(each.dtype, 0))
        return made


def test_half_precision_is_right_and_never_copied_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens.NUMBERS_AT_ONCE, "cpu", 600)
    half = (3 * torch.randn(4, 10, 50)).bfloat16().requires_grad_()
    whole = half.detach().float().requires_grad_()
    labels = torch.randint(0, 50, (4, 10))
    objective = Objective.causal_lm()
    with Largest() as seen:
        losses = objective.loss(nn.Identity(), (half, labels), 4)
        found = signals("causal-lm", half.detach(), objective.targets((half, labels)))
        losses.sum().backward()
    assert seen.numel[torch.float32] <= 600 < half.numel() <= seen.numel[torch.bfloat16]
    exact = objective.loss(nn.Identity(), (whole, labels), 4)
    exact.sum().backward()
    assert losses.dtype is torch.float32
    assert torch.allclose(losses, exact, atol=1e-5)
    assert half.grad is not None
    assert half.grad.dtype is torch.bfloat16
    assert torch.allclose(half.grad.float(), whole.grad, atol=2e-3)
    assert torch.allclose(found["margin"], -exact, atol=1e-5)


def test_texts_in_a_padded_batch_have_the_losses_they_have_alone() -> None:
    model, texts = small_transformer(), random_texts(7, 1)
    for fill in (0, 5):
        objective = Objective.causal_lm(pad_id=fill)
        together = objective.loss(model, objective.collate(texts), 7)
        alone = [objective.loss(model, objective.collate([text]), 1) for text in texts]
        naive = [naive_loss(model(text["input_ids"][None])[0], text["labels"], 1) for text in texts]
        assert torch.allclose(together, torch.cat(alone), atol=1e-6)
        assert torch.allclose(together, torch.stack(naive), atol=1e-6)


def test_tuples_dicts_and_named_outputs_give_the_same_loss() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_transformer()

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            return SimpleNamespace(logits=self.inner(input_ids))

    texts, objective = random_texts(5, 2), Objective.causal_lm()
    pairs = [(text["input_ids"], text["labels"]) for text in texts]
    lists = [{"input_ids": text["input_ids"].tolist(), "labels": text["labels"].tolist()} for text in texts]
    losses = [objective.loss(Named(), objective.collate(each), 5) for each in (texts, pairs, lists)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_signals_against_naive_ones() -> None:
    logits = torch.randn(3, 4, 5, dtype=torch.float64)
    logits[0, 0, 1] = logits[0, 3, 0] = logits[2, 3, 3] = logits[1, 1, 2] = 9.0
    found = signals("token-classification", logits, LABELS)
    found |= {name: each for name, each in signals("causal-lm", logits, LABELS).items() if name not in found}
    for row in range(3):
        rows = [place for place in range(4) if LABELS[row, place] != -100]
        right = [int(logits[row, place].argmax() == LABELS[row, place]) for place in rows]
        chances = [logits[row, place].softmax(0).tolist() for place in rows]
        entropy = [-sum(p * math.log(p) for p in each) for each in chances]
        assert found["margin"][row].item() == pytest.approx(-naive_loss(logits[row], LABELS[row], 0).item())
        assert found["entropy"][row].item() == pytest.approx(sum(entropy) / len(rows))
        assert found["right_share"][row].item() == pytest.approx(sum(right) / len(rows))
        strength = extraction_strength([right, right]).value
        assert found["extraction_strength"][row].item() == pytest.approx(strength)
        log_p = [logits[row, place].log_softmax(0) for place in rows]
        told = [each[LABELS[row, place]].item() for each, place in zip(log_p, rows, strict=True)]
        means = [(each.exp() * each).sum() for each in log_p]
        spreads = [(each.exp() * (each - mean) ** 2).sum().sqrt() for each, mean in zip(log_p, means, strict=True)]
        assert found["min_k"][row].item() == pytest.approx(min_k([told])[0])
        standardised = min_k_plus_plus([told], [means], [spreads])[0]
        assert found["min_k_plus_plus"][row].item() == pytest.approx(standardised)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7, 1.0])
def test_lowest_means_are_those_of_the_attack(share: float) -> None:
    values, labels = torch.randn(8, 15, dtype=torch.float64), torch.randint(0, 9, (8, 15))
    labels[torch.rand(8, 15) < 0.4] = -100
    labels[:, 3] = 1
    texts = [row[label != -100] for row, label in zip(values, labels, strict=True)]
    assert tokens.lowest_means(values, labels, share).tolist() == pytest.approx(min_k(texts, share=share).tolist())


def test_models_that_know_nothing_and_all_have_deviations_and_scores() -> None:
    """E[x²] − E[x]² would be below 0 in float32 for some of these rows, and its root no number."""
    torch.manual_seed(0)
    logits = torch.randn(200, 3000) * 1e-3
    logits[100:, 0] += torch.linspace(2, 300, 100)
    targets = torch.arange(200) % 2
    deviation = tokens.readings(logits, targets)[:, 3]
    exact = logits.double().log_softmax(1)
    mean = (exact.exp() * exact).sum(1, keepdim=True)
    assert torch.allclose(deviation.double(), (exact.exp() * (exact - mean) ** 2).sum(1).sqrt(), rtol=1e-2, atol=1e-6)
    assert (deviation > 0).all()
    log_p = logits.log_softmax(1)
    assert ((log_p.exp() * log_p**2).sum(1) - (log_p.exp() * log_p).sum(1) ** 2).min() < 0
    found = signals("causal-lm", logits[None], targets[None])
    assert found["min_k_plus_plus"].isfinite().all()


def test_words_that_are_ruled_out_count_for_nothing() -> None:
    logits = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    masked = torch.cat([logits, torch.full((5, 3), -torch.inf)], dim=1)
    targets = torch.arange(5)
    assert torch.allclose(tokens.readings(masked, targets), tokens.readings(logits, targets))


def test_what_cannot_be_a_mean_over_tokens_is_refused() -> None:
    objective, logits = Objective.causal_lm(), torch.randn(2, 3, 5)
    with pytest.raises(ObjectiveError, match=r"1 of 2 examples of a batch \(numbers \[1\] in it\) have no label"):
        objective.loss(nn.Identity(), (logits, torch.tensor([[-100, 1, 2], [3, -100, -100]])), 2)
    for wrong in (5, -1):
        with pytest.raises(ObjectiveError, match=rf"5 logits a token.* has \[{wrong}\]\. Is the tokenizer"):
            objective.loss(nn.Identity(), (logits, torch.tensor([[0, 1, 2], [3, 4, wrong]])), 2)
    with pytest.raises(ObjectiveError, match=r"shape \(B, T, V\) and labels \(B, T\), not \(2, 3, 5\) and \(2, 4\)"):
        objective.loss(nn.Identity(), (logits, torch.zeros(2, 4, dtype=torch.int64)), 2)
    with pytest.raises(ObjectiveError, match="hold no alternative answers"):
        objective.alternative({"input_ids": torch.ones(1, 2), "labels": torch.ones(1, 2)})


@dataclasses.dataclass
class Text:
    input_ids: Any
    labels: Any
    weight: float


def test_padding_of_each_form() -> None:
    short, long = torch.tensor([4, 5]), torch.tensor([6, 7, 8])
    examples = [
        {"input_ids": short, "token_type_ids": short, "labels": short, "name": "a"},
        {"input_ids": long, "token_type_ids": long, "labels": long, "name": "b"},
    ]
    batch = Padding(9)([each | {"alternative": {"input_ids": long, "labels": long}} for each in examples])
    assert batch["input_ids"].tolist() == [[4, 5, 9], [6, 7, 8]]
    assert batch["token_type_ids"].tolist() == [[4, 5, 0], [6, 7, 8]]
    assert batch["labels"].tolist() == [[4, 5, -100], [6, 7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["name"] == ["a", "b"]
    assert batch["alternative"]["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 1]]
    masked = Padding()([each | {"attention_mask": torch.ones(len(each["input_ids"]))} for each in examples])
    assert masked["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    ids, mask, labels = Padding(9)([(short, [1, 1], short), (long, [1, 1, 1], long)])
    assert (ids[0].tolist(), mask[0].tolist(), labels[0].tolist()) == ([4, 5, 9], [1, 1, 0], [4, 5, -100])
    text = Padding(9)([Text(short, short, 0.5), Text(long, long, 1.5)])
    assert (text.input_ids[0].tolist(), text.weight.tolist()) == ([4, 5, 9], [0.5, 1.5])


def test_tensors_of_one_length_are_read_by_index() -> None:
    columns = TensorDataset(torch.randint(0, 9, (6, 4)), torch.randint(0, 9, (6, 4)))
    loader = Loader(Records.all_of(columns), Objective.causal_lm(), batch_size=4, device=torch.device("cpu"))
    batches = [batch.data for batch in loader]
    assert loader._reader is None
    assert torch.equal(torch.cat([labels for _, labels in batches]), columns.tensors[1])
