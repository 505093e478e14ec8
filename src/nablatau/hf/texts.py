"""Texts as tokens, each with its label or labels: a map-style data set of dicts.

Texts are cut into tokens once; those of several lengths become a batch by `batches.Padding`. Shapes: N texts, T tokens.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from nablatau.errors import ProjectError, SettingsError, shortened
from nablatau.hf.pretrained import Pretrained
from nablatau.hf.tables import Table
from nablatau.prompts import Rows


class Texts:
    """N texts as tokens, with their labels.

    Args:
        tokens: by name, such as input_ids, N lists of numbers; equally long under each name.
        labels: N rows; they lie under `labels` in each example, and as a whole in the attribute of that name.
    """

    def __init__(self, tokens: Mapping[str, Sequence[Sequence[int]]], labels: Tensor) -> None:
        self.labels = labels
        self._columns = {name: Rows(lists) for name, lists in tokens.items()}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """`input_ids` and what else the tokenizer gives, each of shape (T,), and `labels`."""
        tokens = {name: column[position] for name, column in self._columns.items()}
        return tokens | {"labels": self.labels[position]}


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
    most = token_limit(pretrained, most_tokens)
    texts = strings(table, column, "--text-column")
    limits = {"truncation": most is not None, "max_length": most}
    found = pretrained.tokenizer(texts, return_attention_mask=False, **limits)
    refuse_empty(table, column, [number for number, ids in enumerate(found["input_ids"], 1) if not ids])
    return dict(found)


def token_limit(pretrained: Pretrained, most_tokens: int | None) -> int | None:
    """How many tokens of a text are read; None for all of them.

    Args:
        pretrained: the model and its tokenizer.
        most_tokens: as many as the model takes unless given.

    Raises:
        SettingsError: more tokens than the model takes, or none.
    """
    most = pretrained.most_tokens
    if most_tokens is not None and not 0 < most_tokens <= (most or most_tokens):
        raise SettingsError(f"--max-tokens must be 1 to {most}, as many as the model takes, not {most_tokens}.")
    return most_tokens or most


def strings(table: Table, column: str, option: str) -> list[str]:
    """The values of a column of texts.

    Args:
        table: N records.
        column: that holds the texts.
        option: of the command line that names it, for the message.

    Raises:
        ProjectError: no such column, values that are no texts, or empty ones.
    """
    texts = table.column(column, option)
    other = [number for number, text in enumerate(texts, 1) if not isinstance(text, str)]
    if other:
        raise ProjectError(
            f"{table.file}: column {column!r} holds values that are no texts (records {shortened(other)}, counted from "
            f"1). Name the column of texts with {option}."
        )
    refuse_empty(table, column, [number for number, text in enumerate(texts, 1) if not text.strip()])
    return texts


def refuse_empty(table: Table, column: str, empty: list[int]) -> None:
    """Refuse texts that are empty, or of which the tokenizer leaves nothing.

    Args:
        table: for the message.
        column: likewise.
        empty: numbers of the records, counted from 1.

    Raises:
        ProjectError: there are any.
    """
    if empty:
        raise ProjectError(
            f"{table.file}: {len(empty)} texts in column {column!r} are empty (records {shortened(empty)}, counted "
            "from 1), so a model cannot say anything about them. Leave these records out, here and in the list of ids."
        )
