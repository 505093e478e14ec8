"""A data set and networks that take milliseconds."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import TensorDataset

from nablatau import Objective
from nablatau.records import Records
from nablatau.scoring import score


def random_set(size: int, seed: int, dtype: torch.dtype = torch.float32) -> TensorDataset:
    """`size` records of 6 numbers and one of 3 classes that depends on them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator, dtype=dtype)
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))


def small_network(seed: int = 0, dtype: torch.dtype = torch.float32, *, batch_norm: bool = False) -> nn.Module:
    """6 → 16 → 3, with BatchNorm and dropout if asked."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        between: list[nn.Module] = [nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)] if batch_norm else [nn.ReLU()]
        return nn.Sequential(nn.Linear(6, 16), *between, nn.Linear(16, 3)).to(dtype).eval()


def small_convolutional(seed: int = 0, dtype: torch.dtype = torch.float32, *, batch_norm: bool = False) -> nn.Module:
    """The same for networks that look at images: 6 numbers as 2×3 pixels, two convolutions, 3 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1)]
        between: list[nn.Module] = [nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)] if batch_norm else [nn.ReLU()]
        model = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *layers, *between, nn.Flatten(), nn.Linear(24, 3))
        return model.to(dtype).eval()


WORDS = 24


class Block(nn.Module):
    """Causal attention with two heads, and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.heads = nn.Linear(width, 3 * width, bias=False)  # a key's bias has no gradient but rounding
        self.joined = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x_BTH: Tensor) -> Tensor:
        parts = self.heads(self.norms[0](x_BTH)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        told = scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
        x_BTH = x_BTH + self.joined(told)
        return x_BTH + self.narrow(self.wide(self.norms[1](x_BTH)).relu())


class SmallTransformer(nn.Module):
    """A language model of some thousand weights, called as Hugging Face's are."""

    def __init__(self, *, blocks: int = 2, width: int = 16, batch_norm: bool = False) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(16, width)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(0.2 if batch_norm else 0.0)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x_BTH = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        x_BTH = self.dropout(self.norm(x_BTH.transpose(1, 2)).transpose(1, 2) if self.norm else x_BTH)
        for block in self.blocks:
            x_BTH = block(x_BTH)
        return self.head(x_BTH)


def small_transformer(seed: int = 0, dtype: torch.dtype = torch.float32, **settings: Any) -> nn.Module:
    """A transformer with fresh weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmallTransformer(**settings).to(dtype).eval()


def random_texts(size: int, seed: int) -> list[dict[str, Any]]:
    """`size` texts of a prompt of 3 words and an answer of 2 to 6, and another answer that is the same for all."""
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(size):
        length = int(torch.randint(5, 10, (1,), generator=generator))
        words = torch.randint(2, WORDS, (length,), generator=generator)
        texts.append(answered(words[:3], words[3:]) | {"alternative": answered(words[:3], torch.tensor([1, 1]))})
    return texts


def answered(prompt: Tensor, answer: Tensor) -> dict[str, Tensor]:
    """A text of which the answer alone has labels."""
    return {"input_ids": torch.cat([prompt, answer]), "labels": torch.cat([torch.full_like(prompt, -100), answer])}


def accuracy(model: nn.Module, dataset: Any) -> float:
    """Share of a labelled data set, or of records, that the model gets right."""
    records = dataset if isinstance(dataset, Records) else Records.all_of(dataset)
    return float(score(model, records, Objective.classification())["correct"].mean())
