"""Prompts with their answers as tokens: a map-style data set for a causal language model to be trained on.

Each record is a prompt and what follows it, of which the answer alone counts. A text without a prompt is an answer.
Texts of several lengths become a batch by `batches.Padding`.

Shapes: N records, T tokens of one of them.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor

from nablatau.batches import ALTERNATIVE, IGNORED
from nablatau.statistics.checks import IntArray


class Rows:
    """N lists of numbers of any lengths, in the memory of one tensor.

    Args:
        lists: of whole numbers.
    """

    def __init__(self, lists: Iterable[Sequence[int]]) -> None:
        held = list(lists)
        self._spans = list(pairwise(accumulate(map(len, held), initial=0)))
        self._numbers = torch.tensor([*chain.from_iterable(held)], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, position: int) -> Tensor:
        """The list at this position, of shape (T,)."""
        first, end = self._spans[position]
        return self._numbers[first:end]


class Answered:
    """N prompts, each with the answer that a model is to give, or to give instead.

    Args:
        prompts: N lists of tokens; empty where there is no prompt.
        answers: N lists of tokens, with the one that ends a text.
        most_tokens: what follows them is left out, of the answer first; None to keep all.
        alternatives: N lists of tokens, answers to give instead, which lie under "alternative" in each example.
        compressed_sizes: N, in bytes, of the answers' texts as zlib compresses them (attacks/zlib_ratio.py). They are
            kept for the evaluation, and stand in no example.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
        *,
        most_tokens: int | None = None,
        alternatives: Sequence[Sequence[int]] | None = None,
        compressed_sizes: IntArray | None = None,
    ) -> None:
        self.compressed_sizes = compressed_sizes
        self._prompt_lengths = [len(prompt) for prompt in prompts]
        self._texts = _joined(prompts, answers, most_tokens)
        self._others = None if alternatives is None else _joined(prompts, alternatives, most_tokens)

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, position: int) -> dict[str, Tensor | dict[str, Tensor]]:
        """`input_ids` and `labels` of shape (T,), and "alternative", a dict of the same, if there are any."""
        prompt = self._prompt_lengths[position]
        example: dict[str, Tensor | dict[str, Tensor]] = {**labelled(self._texts[position], prompt)}
        if self._others is not None:
            example[ALTERNATIVE] = labelled(self._others[position], prompt)
        return example

    def without_answer(self) -> list[int]:
        """Positions of the records of which no token counts: the prompt leaves no room, or one token is all there is.

        The first token of a text is told by none before it.
        """
        texts = [self._texts] if self._others is None else [self._texts, self._others]
        return [
            position
            for position, prompt in enumerate(self._prompt_lengths)
            if any(len(rows[position]) <= max(1, prompt) for rows in texts)
        ]


def labelled(ids_T: Tensor, prompt: int) -> dict[str, Tensor]:
    """An example of a causal language model: `input_ids`, and `labels`, which are −100 at the tokens of the prompt.

    Args:
        ids_T: tokens of the prompt, and those of the answer behind them.
        prompt: how many of them are the prompt's.
    """
    labels_T = ids_T.clone()
    labels_T[:prompt] = IGNORED
    return {"input_ids": ids_T, "labels": labels_T}


def _joined(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], most_tokens: int | None) -> Rows:
    pairs = zip(prompts, answers, strict=True)
    return Rows([*prompt, *answer][:most_tokens] for prompt, answer in pairs)
