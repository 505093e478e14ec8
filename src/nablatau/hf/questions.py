"""Questions to a causal language model: what it says of true and wrong answers, and what it tells by itself.

A question is a prompt and an answer, cut into tokens apart and joined, so that generation goes on from the very tokens
that the true answer was scored behind. (Cut together, the last letters of a prompt and the first of an answer can be
one token, and other tools, which cut both together and count the prompt's tokens, then count a part of the answer to
the prompt.) Answers end with the tokenizer's end token, which counts as one of theirs: a model that does not know where
an answer ends has not learned it whole.

Several processes share the texts, each with the whole model.

Shapes: B texts in a batch, T positions, V words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nablatau import batches, tokens
from nablatau.answers import AnswerScores
from nablatau.errors import EvidenceError, SettingsError, shortened
from nablatau.hf.generation import PROMPTS_AT_ONCE, filling, generate
from nablatau.metrics.rouge import words
from nablatau.modes import in_mode
from nablatau.objectives import Objective
from nablatau.processes import naming_lost_processes
from nablatau.runtime import Runtime, collected, dealt, device_of, move


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its answers.

    Attributes:
        id: names it.
        prompt: all that the model is given, with whatever the template puts around the question, up to where the answer
            begins.
        answer: the true one, beginning with a space where the tokenizer's words do.
        paraphrased: the true one in other words, for the truth ratio.
        wrong: answers that are wrong, in the form of the paraphrased one.
    """

    id: str
    prompt: str
    answer: str
    paraphrased: str | None = None
    wrong: tuple[str, ...] = ()

    @property
    def answers(self) -> list[str]:
        """The true one, the paraphrased one if there is one, and the wrong ones."""
        return [self.answer, *([] if self.paraphrased is None else [self.paraphrased]), *self.wrong]


def prompt_tokens(tokenizer: Any, prompt: str) -> list[int]:
    """The tokens of a prompt, with what the tokenizer puts before every text and without what it puts behind.

    Args:
        tokenizer: of transformers.
        prompt: may be empty where the tokenizer begins texts with a token.
    """
    bare: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer(prompt)["input_ids"]
    behind = next((n for n in range(len(whole) - len(bare) + 1) if whole[n : n + len(bare)] == bare), 0)
    return whole[: behind + len(bare)] if bare else whole[:1]


def answer_tokens(tokenizer: Any, answer: str) -> list[int]:
    """The tokens of an answer, and the token that ends a text, where the tokenizer has one.

    Args:
        tokenizer: of transformers.
        answer: nothing is put before it.
    """
    found: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return [*found, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])]


@naming_lost_processes()
def language_scores(
    model: nn.Module,
    tokenizer: Any,
    questions: Sequence[Question],
    *,
    most_new_tokens: int = 128,
    end_texts: Sequence[str] = (),
    batch_size: int = PROMPTS_AT_ONCE,
    runtime: Runtime | None = None,
) -> list[AnswerScores]:
    """What a model says of questions, in one forward pass an answer and one generated text a question.

    Args:
        model: causal language model of transformers; in any mode, it is asked in eval mode and put back.
        tokenizer: its own.
        questions: N, each with an id of its own.
        most_new_tokens: after which a generated text is cut; 0 generates none, and leaves out ROUGE.
        end_texts: a generated text is cut where one of these begins, such as a blank line, for models that do not end
            theirs.
        batch_size: texts at once in each process; of no influence on the scores beyond rounding.
        runtime: device and precision.

    Returns:
        N records, in the order of the questions, in every process.

    Raises:
        EvidenceError: no questions, ids that repeat, answers without a word.
        SettingsError: settings out of range, or more tokens than the model takes.
        ProcessError: another of several processes was lost.
    """
    _check(questions, most_new_tokens, batch_size)
    runtime = runtime or Runtime()
    prompts = [prompt_tokens(tokenizer, question.prompt) for question in questions]
    texts = [
        (prompt, answer_tokens(tokenizer, answer))
        for prompt, question in zip(prompts, questions, strict=True)
        for answer in question.answers
    ]
    _refuse_longer(model, texts)
    told: list[str | None] = [None] * len(questions)
    if most_new_tokens:
        found = generate(
            model, tokenizer, prompts, most_new_tokens=most_new_tokens, batch_size=batch_size, runtime=runtime
        )
        told = [_cut(tokenizer.decode(new, skip_special_tokens=True), end_texts) for new in found]
    read = iter(_readings(model, filling(tokenizer), texts, batch_size, runtime))
    return [_scores(question, read, generated) for question, generated in zip(questions, told, strict=True)]


def _refuse_longer(model: Any, texts: Sequence[tuple[list[int], list[int]]]) -> None:
    """Refuse texts that the model cannot read as a whole, and answers that nothing stands before."""
    if not all(prompt for prompt, _ in texts):
        raise SettingsError(
            "A prompt has no tokens, so nothing tells the first one of its answer. Begin it with the token that the "
            "model's texts begin with."
        )
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(prompt) + len(answer) for prompt, answer in texts)
    if most is not None and longest > most:
        raise SettingsError(
            f"The longest prompt with its answer has {longest} tokens, and the model reads {most}: what it says beyond "
            "is of no meaning. Cut such texts, or leave them out."
        )


def _scores(question: Question, read: Iterator[list[list[float]]], generated: str | None) -> AnswerScores:
    """The record of a question, of whose answers the next readings are."""
    losses, entropies, right, deviations = next(read)
    others = [_mean(next(read)[0]) for _ in question.answers[1:]]
    paraphrased = None if question.paraphrased is None else others.pop(0)
    return AnswerScores(
        id=question.id,
        prompt=question.prompt,
        answer=question.answer,
        generated=generated,
        token_losses=tuple(losses),
        token_entropies=tuple(entropies),
        token_deviations=tuple(deviations),
        right_tokens=tuple(each > 0 for each in right),
        paraphrased_loss=paraphrased,
        wrong_losses=tuple(others),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _readings(
    model: nn.Module,
    pad_id: int,
    texts: Sequence[tuple[list[int], list[int]]],
    batch_size: int,
    runtime: Runtime,
) -> list[list[list[float]]]:
    """Of each prompt with an answer the four readings of the answer's tokens, see `tokens.readings`."""
    objective = Objective.causal_lm(pad_id=pad_id)
    examples = [
        {"input_ids": [*prompt, *answer], "labels": [batches.IGNORED] * len(prompt) + answer}
        for prompt, answer in texts
    ]
    order = sorted(range(len(examples)), key=lambda place: len(examples[place]["input_ids"]))
    own, found = dealt(order), dict[int, list[list[float]]]()
    device, home = runtime.device_for(model), device_of(model)
    move(model, device)
    try:
        with in_mode(model, "eval"), torch.no_grad():
            for first in range(0, len(own), batch_size):
                places = own[first : first + batch_size]
                batch = batches.to_device(objective.collate([examples[place] for place in places]), device)
                with runtime.autocast(device):
                    logits_BTV = objective.outputs(model, batch)
                targets_BT = objective.targets(batch)
                readings_BT4 = tokens.of_tokens(tokens.readings, logits_BTV, targets_BT).double().cpu()
                counted_BT = (targets_BT != batches.IGNORED).cpu()
                for place, rows, counted in zip(places, readings_BT4, counted_BT, strict=True):
                    found[place] = rows[counted].T.tolist()
    finally:
        move(model, home)
    return collected(found)


def _cut(text: str, end_texts: Sequence[str]) -> str:
    for end in end_texts:
        text = text.split(end)[0]
    return text


def _check(questions: Sequence[Question], most_new_tokens: int, batch_size: int) -> None:
    if not questions:
        raise EvidenceError("There are no questions, so there is nothing to say of the model. Pass some.")
    if most_new_tokens < 0 or batch_size < 1:
        raise SettingsError(
            f"most_new_tokens must be 0 or more and batch_size 1 or more, not {most_new_tokens} and {batch_size}."
        )
    ids = [question.id for question in questions]
    repeated = sorted({each for each in ids if ids.count(each) > 1}) if len(set(ids)) < len(ids) else []
    if repeated:
        raise EvidenceError(
            f"The ids {shortened(repeated)} stand for several questions, so two models' scores could not be paired. "
            "Give each question its own."
        )
    bare = [question.id for question in questions for answer in question.answers if not words(answer)]
    if bare:
        raise EvidenceError(
            f"{len(bare)} answers have no word (questions {shortened(bare)}), so a model can neither tell nor miss "
            "them. Leave them out."
        )
