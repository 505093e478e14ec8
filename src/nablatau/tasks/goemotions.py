"""goemotions: comments of Reddit users, each with the emotions that raters found in it, of which there may be several.

Source: Demszky et al. 2020, "GoEmotions: A Dataset of Fine-Grained Emotions", ACL 2020, arXiv 2005.00547: 27 emotions
and "neutral", with its published parts. The paper of ∇τ fine-tunes RoBERTa on it; this task is for machines without a
pretrained model, and so its network is a small transformer that is TRAINED FROM SCRATCH, with a tokenizer of its own
(one token a word or sign; the 5,000 most frequent of the published training part, so that whose comments are forgotten
hardly changes it). It learns 6,000 of the 43,410 comments, most of them by heart, and says little about others: what
it shows is forgetting, not how well emotions can be told. A pretrained model goes through `nablatau forget --hf`.

Shapes: N comments, T tokens, L labels.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.recipes import Recipe
from nablatau.tasks.models import TextEncoder
from nablatau.tasks.sources import table
from nablatau.tasks.splits import shuffled_parts

LABELS = 28
LENGTH = 24
"""Tokens of a comment; what follows them is left out (of 3 % of the comments)."""
VOCABULARY = 5_000
PADDING, UNKNOWN = 0, 1
TOKEN = re.compile(r"\[\w+\]|[a-z0-9'’]+|[^\w\s]")
"""A mask such as [name], a word, or a sign, in lower case."""


def goemotions() -> Project:
    """Comments, 28 emotions, several labels: 6,000 to train on, 4,000 held out, 5,000 to test; a small transformer."""
    rows = table("goemotions")
    by_part = {part: [row for row in rows if row["split"] == part] for part in ("train", "dev", "test")}
    numbers = vocabulary([row["text"] for row in by_part["train"]])
    sizes = {"train": 6_000, "dev": 4_000, "test": 5_000}
    chosen = {
        part: [by_part[part][place] for place in shuffled_parts(len(by_part[part]), [size])[0]]
        for part, size in sizes.items()
    }
    sets = {part: TensorDataset(tokens_of(found, numbers), labels_of(found)) for part, found in chosen.items()}
    build = partial(TextEncoder, VOCABULARY, LENGTH, LABELS)
    return Project(
        model=build(),
        train_set=sets["train"],
        holdout_set=sets["dev"],
        test_set=sets["test"],
        objective=Objective.multi_label(),
        ids=[row["id"] for row in chosen["train"]],
        recipe=Recipe(epochs=6, learning_rate=4e-3, batch_size=64, optimizer="adamw", weight_decay=0.01, build=build),
        on_overlap="drop",
    )


def vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """The number of each of the most frequent tokens, from 2 on; of equally frequent ones the first in the alphabet."""
    counts = Counter(token for text in texts for token in TOKEN.findall(text.lower()))
    frequent = sorted(counts, key=lambda token: (-counts[token], token))[: VOCABULARY - 2]
    return {token: number for number, token in enumerate(frequent, 2)}


def tokens_of(rows: Sequence[dict[str, str]], numbers: dict[str, int]) -> Tensor:
    """(N, T) numbers of tokens, filled up with 0."""
    tokens_NT = torch.full((len(rows), LENGTH), PADDING)
    for place, row in enumerate(rows):
        found = [numbers.get(token, UNKNOWN) for token in TOKEN.findall(row["text"].lower())[:LENGTH]]
        tokens_NT[place, : len(found)] = torch.tensor(found)
    return tokens_NT


def labels_of(rows: Sequence[dict[str, str]]) -> Tensor:
    """(N, L) zeros and ones."""
    labels_NL = torch.zeros(len(rows), LABELS)
    for place, row in enumerate(rows):
        labels_NL[place, [int(number) for number in row["label_ids"].split()]] = 1
    return labels_NL
