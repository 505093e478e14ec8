"""What a language model says of questions: one record a question, and files of them.

A file holds one JSON object a line, with everything that a score needs, so scores can be computed anywhere, again, and
beside those of other tools. What follows from other entries (probability, ROUGE, Min-K and so on) is written too, for
those who read the file by other means, and made anew where it is read.

Shapes: N questions; L tokens of an answer; K wrong answers.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nablatau.attacks.min_k import min_k, min_k_plus_plus
from nablatau.attacks.zlib_ratio import compressed_sizes, zlib_ratio
from nablatau.checkpoints import whole_file
from nablatau.errors import EvidenceError
from nablatau.metrics import answer_probabilities, extraction_strengths, rouge_l, truth_ratios
from nablatau.runtime import process_rank
from nablatau.statistics.checks import FloatArray

TOKEN_ARRAYS = ("token_losses", "token_entropies", "token_deviations", "right_tokens")


@dataclass(frozen=True, kw_only=True)
class AnswerScores:
    """What a model says of one question.

    Attributes:
        id: of the question.
        prompt: what the model was given.
        answer: the true answer.
        generated: what the model told, greedily; None where it was not asked.
        token_losses: L losses of the true answer's tokens, in nats, each given the true tokens before it.
        token_entropies: L entropies of the model's distribution at these places, in nats.
        token_deviations: L standard deviations of log p under that distribution, above 0.
        right_tokens: L: whether the likeliest token was the true one.
        paraphrased_loss: mean loss of a token of the answer in other words; None where there is none.
        wrong_losses: K mean losses of a token of the wrong answers.
    """

    id: str
    prompt: str
    answer: str
    generated: str | None
    token_losses: tuple[float, ...]
    token_entropies: tuple[float, ...]
    token_deviations: tuple[float, ...]
    right_tokens: tuple[bool, ...]
    paraphrased_loss: float | None = None
    wrong_losses: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in TOKEN_ARRAYS}
        if len(set(lengths.values())) > 1 or not lengths["token_losses"]:
            raise EvidenceError(
                f"Question {self.id!r}: its token arrays must have one length of 1 or more, not {lengths}; values of "
                "different tokens would be read as one token's. Score the question again."
            )
        if min(self.token_deviations) <= 0:
            raise EvidenceError(
                f"Question {self.id!r} has a token deviation of {min(self.token_deviations)!r}, and Min-K++ divides by "
                "them: they must be above 0. Take them from tokens.readings, which keeps them so, or score it again."
            )
        numbers = [*self.token_losses, *self.token_entropies, *self.token_deviations, *self.wrong_losses]
        if not np.isfinite([*numbers, self.paraphrased_loss or 0.0]).all():
            raise EvidenceError(
                f"Question {self.id!r} has a loss, entropy or deviation that is not finite. No statement about it can "
                "be made. Look at its text, or score in fp32."
            )

    @property
    def loss(self) -> float:
        """Mean loss of the true answer's tokens, in nats."""
        return float(np.mean(self.token_losses))

    @property
    def right_loss(self) -> float:
        """That of the answer in other words, or where there is none of the answer: the truth ratio's divisor."""
        return self.loss if self.paraphrased_loss is None else self.paraphrased_loss

    @cached_property
    def derived(self) -> dict[str, Any]:
        """What follows from the rest, as it is written beside it; "truth_ratio" with the geometric mean, as in TOFU's
        logs, and ROUGE of words that are not stemmed."""
        told = None if self.generated is None else rouge_l(self.generated, self.answer)
        size = compressed_sizes([self.answer])
        return {
            "loss": self.loss,
            "probability": float(answer_probabilities([self.loss])[0]),
            "rouge_l_recall": told and told.recall,
            "rouge_l_f": told and told.f,
            "exact_memorisation": float(np.mean(self.right_tokens)),
            "extraction_strength": float(extraction_strengths([self.right_tokens])[0]),
            "min_k": float(min_k_scores([self])[0]),
            "min_k_plus_plus": float(min_k_plus_plus_scores([self])[0]),
            "compressed_size": int(size[0]),
            "zlib_ratio": float(zlib_ratio([self.loss], size)[0]),
            "truth_ratio": float(truth_ratios([self.right_loss], [self.wrong_losses])[0])
            if self.wrong_losses
            else None,
        }

    def to_json(self) -> dict[str, Any]:
        """Fields, and what follows from them, as JSON-able values."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | self.derived


def write_answers(file: str | Path, scores: Iterable[AnswerScores]) -> Path:
    """Write one JSON object a line; the file appears whole or not at all.

    Args:
        file: is replaced where it is there; of several processes the first writes it.
        scores: of one model on one set of questions.
    """
    file = Path(file)
    lines = [json.dumps(each.to_json(), ensure_ascii=False, allow_nan=False) for each in scores]
    if process_rank() == 0:
        with whole_file(file) as part:
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def read_answers(file: str | Path) -> list[AnswerScores]:
    """Read what `write_answers` wrote.

    Args:
        file: of one JSON object a line.

    Raises:
        EvidenceError: no such file, or a line that is no such record, by its number.
    """
    names = {each.name for each in fields(AnswerScores)}
    found = []
    try:
        lines = Path(file).read_text(encoding="utf-8").removesuffix("\n").split("\n")  # a text may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"{file} cannot be read: {error}. Name a file that write_answers wrote.") from error
    for number, line in enumerate(lines, 1):
        try:
            held = {name: value for name, value in json.loads(line).items() if name in names}
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in held.items()
            }
            found.append(AnswerScores(**values))
        except (ValueError, TypeError, AttributeError) as error:
            raise EvidenceError(
                f"Line {number} of {file} is no record of an answer: {error} Name a file that write_answers wrote."
            ) from error
    return found


# ---------------------------------------------------------------------- scores of attacks, one an answer


def min_k_scores(scores: Sequence[AnswerScores], *, share: float = 0.2) -> FloatArray:
    """Min-K % of the true answers (N,), higher = more likely remembered.

    Args:
        scores: of N questions.
        share: of an answer's tokens that are looked at; MUSE takes 0.4.
    """
    return min_k([_told(each) for each in scores], share=share)


def min_k_plus_plus_scores(scores: Sequence[AnswerScores], *, share: float = 0.2) -> FloatArray:
    """Min-K++ % of the true answers (N,), higher = more likely remembered; arguments as of `min_k_scores`."""
    means = [-np.array(each.token_entropies) for each in scores]
    return min_k_plus_plus(
        [_told(each) for each in scores], means, [each.token_deviations for each in scores], share=share
    )


def _told(scores: AnswerScores) -> FloatArray:
    return -np.array(scores.token_losses)
