"""Prompts and answers of a table as the tokens that a causal language model was trained on.

How the two are put together is the tokenizer's to say, if it has a chat template: the prompt is what the user says, and
the answer what the assistant does. Without one a line break stands between them, unless the prompt ends in white space,
which then divides them. They are cut into tokens apart, so that no token belongs to both. The end token follows each
answer that does not hold it already.
"""

from collections.abc import Sequence
from typing import Any

from nablatau.attacks.zlib_ratio import compressed_sizes
from nablatau.errors import CheckpointError, ProjectError, SettingsError, shortened
from nablatau.hf.pretrained import Pretrained, quiet
from nablatau.hf.questions import prompt_tokens
from nablatau.hf.tables import Table
from nablatau.hf.texts import refuse_empty, strings, token_limit
from nablatau.prompts import Answered

Tokens = list[list[int]]


def answered(
    table: Table,
    pretrained: Pretrained,
    *,
    answer: str,
    prompt: str | None,
    alternative: str | None,
    most_tokens: int | None,
) -> Answered:
    """The records of a table as prompts with answers.

    Args:
        table: N records.
        pretrained: whose tokenizer cuts them.
        answer: column of the answers, or of whole texts.
        prompt: column of the prompts; None where texts have none and each of their tokens counts but the first.
        alternative: column of answers to give instead; None where no method asks for them.
        most_tokens: what follows them is left out; as many as the model takes unless given.

    Raises:
        ProjectError: values that are no texts, empty texts, or prompts that leave no token of the answer.
        CheckpointError: the tokenizer has no end token, or a chat template by which the two cannot be told apart.
        SettingsError: more tokens than the model takes, or answers to give instead where there are no prompts.
    """
    most = token_limit(pretrained, most_tokens)
    if pretrained.tokenizer.eos_token_id is None:
        raise CheckpointError(
            f"The tokenizer in {pretrained.source} has no end token, so a model cannot say where an answer ends. Set "
            "the one used in training, tokenizer.eos_token = …, and save the tokenizer again."
        )
    if prompt is None and alternative is not None:
        raise SettingsError(
            "--alternative-column names other answers to the same prompts, and there are none. Name the column of "
            "prompts with --prompt-column."
        )
    columns = [(answer, "--text-column"), *([(alternative, "--alternative-column")] if alternative else [])]
    texts = [strings(table, name, option) for name, option in columns]
    if prompt is None:
        openings: Tokens = [[] for _ in range(len(table))]
        endings = [_cut(pretrained.tokenizer, texts[0], special=True)]
    else:
        openings, endings = _apart(pretrained, strings(table, prompt, "--prompt-column"), texts)
    for (name, _), found in zip(columns, endings, strict=True):
        refuse_empty(table, name, [number for number, ids in enumerate(found, 1) if not ids])
    whole = [_ended(found, pretrained.tokenizer.eos_token_id) for found in endings]
    kept = _as_read(pretrained.tokenizer, texts[0], openings, endings[0], most)
    made = Answered(
        openings,
        whole[0],
        most_tokens=most,
        alternatives=whole[1] if alternative else None,
        compressed_sizes=compressed_sizes(kept),
    )
    _refuse_unanswered(table, made, most)
    return made


def _apart(
    pretrained: Pretrained, prompts: Sequence[str], answers: Sequence[Sequence[str]]
) -> tuple[Tokens, list[Tokens]]:
    """Tokens of the prompts, and of each column of answers to them."""
    tokenizer = pretrained.tokenizer
    if tokenizer.chat_template is None:
        openings = [prompt if prompt[-1].isspace() else f"{prompt}\n" for prompt in prompts]
        with quiet():  # of prompts that are longer than the model takes the error below speaks
            ids = [prompt_tokens(tokenizer, each) for each in openings]
        return ids, [_cut(tokenizer, column, special=False) for column in answers]
    openings = [_conversation(tokenizer, prompt) for prompt in prompts]
    endings = [
        [_rest(pretrained, opening, *pair) for opening, *pair in zip(openings, prompts, column, strict=True)]
        for column in answers
    ]
    return _cut(tokenizer, openings, special=False), [_cut(tokenizer, column, special=False) for column in endings]


def _conversation(tokenizer: Any, prompt: str, answer: str | None = None) -> str:
    """What the template makes of a prompt that awaits its answer, or of both."""
    turns = [{"role": "user", "content": prompt}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None))


def _rest(pretrained: Pretrained, opening: str, prompt: str, answer: str) -> str:
    """What the template puts behind a prompt that awaits its answer, once the answer is there."""
    whole = _conversation(pretrained.tokenizer, prompt, answer)
    if not whole.startswith(opening):
        raise CheckpointError(
            f"By the chat template of the tokenizer in {pretrained.source} a prompt with its answer begins otherwise "
            "than one that awaits it, so it cannot be told where the answer begins. Write the prompts into the column "
            "as the model was trained with them, and save the tokenizer without its chat template."
        )
    return whole[len(opening) :]


def _cut(tokenizer: Any, texts: Sequence[str], *, special: bool) -> Tokens:
    """Texts as tokens, with those that the tokenizer puts around a text, or without them."""
    settings = {"truncation": False, "return_attention_mask": False, "verbose": False}
    return list(tokenizer(list(texts), add_special_tokens=special, **settings)["input_ids"])


def _ended(answers: Tokens, end: int) -> Tokens:
    """With the end token behind those that lack it; in front it is that of a tokenizer which begins texts with it."""
    return [ids if end in ids[1:] else [*ids, end] for ids in answers]


def _as_read(tokenizer: Any, texts: Sequence[str], openings: Tokens, endings: Tokens, most: int | None) -> list[str]:
    """The answers' texts; of those that are cut, what the tokenizer makes of the tokens that stay."""
    settings = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return [
        text
        if most is None or len(opening) + len(ending) <= most
        else tokenizer.decode(ending[: max(0, most - len(opening))], **settings)
        for text, opening, ending in zip(texts, openings, endings, strict=True)
    ]


def _refuse_unanswered(table: Table, made: Answered, most: int | None) -> None:
    places = [position + 1 for position in made.without_answer()]
    if places:
        raise ProjectError(
            f"{table.file}: of {len(places)} records (numbers {shortened(places)}, counted from 1) no token of the "
            f"answer is left among the first {most}, so nothing could be learned from them, or forgotten. Raise "
            "--max-tokens, if the model takes more, or leave these records out, here and in the list of ids."
        )
