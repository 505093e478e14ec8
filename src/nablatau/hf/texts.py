"""Texts as tokens: a map-style data set of dicts, and the batches that texts of several lengths are filled up to.

Texts are cut into tokens once. Shapes: N texts, B of them in a batch, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nablatau.errors import ProjectError, SettingsError, shortened
from nablatau.hf.pretrained import Pretrained
from nablatau.hf.tables import Table


class Texts:
    """N texts as tokens, with their labels.

    Args:
        tokens: by name, such as input_ids, N lists of numbers; equally long under each name.
        labels: N rows; they lie under `labels` in each example, and as a whole in the attribute of that name.
    """

    def __init__(self, tokens: Mapping[str, Sequence[Sequence[int]]], labels: Tensor) -> None:
        self.labels = labels
        lengths = [len(each) for each in next(iter(tokens.values()))]
        self._spans = list(pairwise(accumulate(lengths, initial=0)))
        self._columns = {name: torch.tensor([*chain.from_iterable(lists)]) for name, lists in tokens.items()}

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """`input_ids` and what else the tokenizer gives, each of shape (T,), and `labels`."""
        first, end = self._spans[position]
        tokens = {name: column[first:end] for name, column in self._columns.items()}
        return tokens | {"labels": self.labels[position]}


@dataclass(frozen=True)
class Padding:
    """Collates examples of `Texts`: tokens are filled up on the right to the longest of the batch.

    A batch has `attention_mask` too, 1 for tokens and 0 for filling.

    Attributes:
        pad_id: token that `input_ids` are filled with; the rest is filled with 0.
    """

    pad_id: int

    def __call__(self, examples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        batch = {
            name: pad_sequence(
                [example[name] for example in examples],
                batch_first=True,
                padding_value=self.pad_id if name == "input_ids" else 0,
            )
            for name in examples[0]
            if name != "labels"
        }
        mask = pad_sequence([torch.ones_like(example["input_ids"]) for example in examples], batch_first=True)
        return batch | {"attention_mask": mask, "labels": torch.stack([example["labels"] for example in examples])}


def tokenised(
    table: Table, column: str, pretrained: Pretrained, *, most_tokens: int | None
) -> dict[str, list[list[int]]]:
    """The texts of a table as tokens.

    Args:
        table: N records.
        column: that holds the texts.
        pretrained: whose tokenizer cuts them.
        most_tokens: what follows them is left out; as many as the model takes unless given.

    Returns:
        By name, N lists of numbers: `input_ids` and whatever else the model reads, but for the attention mask.

    Raises:
        ProjectError: values that are no texts, or texts without a token.
        SettingsError: more tokens than the model takes.
    """
    most = pretrained.most_tokens
    if most_tokens is not None and not 0 < most_tokens <= (most or most_tokens):
        raise SettingsError(f"--max-tokens must be 1 to {most}, as many as the model takes, not {most_tokens}.")
    texts = table.column(column, "--text-column")
    other = [number for number, text in enumerate(texts, 1) if not isinstance(text, str)]
    if other:
        raise ProjectError(
            f"{table.file}: column {column!r} holds values that are no texts (records {shortened(other)}, counted from "
            "1). Name the column of texts with --text-column."
        )
    _refuse_empty(table, column, [number for number, text in enumerate(texts, 1) if not text.strip()])
    limits = {"truncation": False} if most_tokens is None and most is None else {"truncation": True}
    found = pretrained.tokenizer(texts, max_length=most_tokens or most, return_attention_mask=False, **limits)
    _refuse_empty(table, column, [number for number, ids in enumerate(found["input_ids"], 1) if not ids])
    return dict(found)


def _refuse_empty(table: Table, column: str, empty: list[int]) -> None:
    if empty:
        raise ProjectError(
            f"{table.file}: {len(empty)} texts in column {column!r} are empty (records {shortened(empty)}, counted "
            "from 1), so a model cannot say anything about them. Leave these records out, here and in the list of ids."
        )
