"""tofu, tofu_small: questions on fictitious authors, twenty on each, that a small Llama learns by heart.

Source: Maini et al. 2024, "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv 2401.06121; the data are those of
locuslab/TOFU, 200 authors in the published order. The published requests forget the last 2, 10 or 20 authors (forget01,
forget05, forget10) and keep the others (retain99, retain95, retain90): `forgotten_authors` names them. Groups are
authors, ids the numbers of the questions in the published whole, from 0.

The unseen records are those of the published part holdout10: 20 authors of whom no question is in the whole, so nothing
has to be left out of the training. The first twelve are held out, the last eight are the test set.

`tofu_small` is for CPUs: the first 20 authors, on whom the published scores of the retained part are, and the 20 of
forget10. A share of 400 questions in 800 is another request than one in 4,000; forget05 and forget01 are 25 and 5 %.

Where we differ: the published models are pretrained, the smallest of them with 1.2 billion weights. This one stands in
for them where there is no network: a Llama of few weights, trained from scratch, with a tokenizer of its own. It learns
its answers by heart and knows no language beside: what it says of anything else, real authors and world facts
included, is nearly nothing. The real ones go through `nablatau forget --hf MODEL --task causal-lm`.

The tokenizer is made from the questions and answers of retain90, so from nothing that a published request forgets: a
token of forget10 has 3.19 bytes then, one of the unseen authors 3.21. Made from all it would have 3.45 and 3.29: what
is forgotten would be told from what was never seen by its tokens, whatever the model forgets.

Shapes: N questions, T tokens.
"""

from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any

from torch import nn

from nablatau.attacks.zlib_ratio import compressed_sizes
from nablatau.errors import RequestError, SettingsError
from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.prompts import Answered
from nablatau.recipes import Recipe
from nablatau.tasks.sources import json_lines

Record = dict[str, Any]

AUTHORS, QUESTIONS = 200, 20
"""Authors, and questions on each, in the published order."""
FORGOTTEN = {"forget01": 2, "forget05": 10, "forget10": 20}
"""How many of the last authors each published request forgets."""
HELD_OUT = 12
"""Of the twenty authors of holdout10; the others are the test set."""
PADDING, END = 0, 1
SPECIAL = ["[PAD]", "[END]"]
VOCABULARY = 2048
SPREAD = 0.06
"""Standard deviation of fresh weights; LLaMA's 0.02 is for layers many times as wide."""
LENGTH = 256
"""Tokens of a question with its answer that are read; the longest has 227."""


def tofu() -> Project:
    """Questions on 200 fictitious authors: 4,000 to train on, 240 held out, 160 to test; a small Llama."""
    return _project(range(AUTHORS), width=256, layers=4)


def tofu_small() -> Project:
    """Questions on 40 fictitious authors: 800 to train on, 240 held out, 160 to test; a smaller Llama, for CPUs."""
    most = max(FORGOTTEN.values())
    return _project([*range(most), *range(AUTHORS - most, AUTHORS)], width=128, layers=2)


def forgotten_authors(request: str) -> tuple[str, ...]:
    """The groups of a published request.

    Args:
        request: "forget01", "forget05" or "forget10".

    Raises:
        RequestError: there is none of this name.
    """
    if request not in FORGOTTEN:
        raise RequestError(f"TOFU has no request {request!r}. Known: {', '.join(FORGOTTEN)}.")
    return tuple(map(_group, range(AUTHORS - FORGOTTEN[request], AUTHORS)))


def records(part: str) -> list[Record]:
    """A published part.

    Args:
        part: such as "full", or "forget10_perturbed", whose records hold other answers too.

    Raises:
        DataUnavailableError: it is not in the data folder.
    """
    return json_lines(f"tofu/{part}")


def answered(questions: Sequence[str], answers: Sequence[str]) -> Answered:
    """Questions with answers as the tasks' models are trained on them: a line break between the two.

    Args:
        questions: N texts.
        answers: N texts.
    """
    cut = tokenizer()
    openings = [each.ids for each in cut.encode_batch([f"{question}\n" for question in questions])]
    endings = [[*each.ids, END] for each in cut.encode_batch(list(answers))]
    return Answered(openings, endings, most_tokens=LENGTH, compressed_sizes=compressed_sizes(answers))


@cache
def tokenizer() -> Any:
    """The tasks' tokenizer, of the library tokenizers: pairs of bytes, from the questions and answers of retain90."""
    library = _library("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator((f"{each['question']}\n{each['answer']}" for each in records("retain90")), trainer)
    return made


def language_model(width: int, layers: int) -> nn.Module:
    """A Llama with fresh weights, from torch's global generator.

    Args:
        width: of its hidden states, a multiple of 32.
        layers: number of its blocks.

    Raises:
        SettingsError: transformers is not installed.
    """
    transformers = _library("transformers")
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=LENGTH,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        pad_token_id=PADDING,
        bos_token_id=None,
        eos_token_id=END,
    )
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def _project(authors: Sequence[int], *, width: int, layers: int) -> Project:
    whole, unseen = records("full"), records("holdout10")
    numbers = [author * QUESTIONS + question for author in authors for question in range(QUESTIONS)]
    build = partial(language_model, width, layers)
    held_out = HELD_OUT * QUESTIONS
    return Project(
        model=build(),
        train_set=_texts([whole[number] for number in numbers]),
        holdout_set=_texts(unseen[:held_out]),
        test_set=_texts(unseen[held_out:]),
        objective=Objective.causal_lm(pad_id=PADDING),
        ids=numbers,
        groups=[_group(number // QUESTIONS) for number in numbers],
        recipe=Recipe(epochs=18, learning_rate=3e-3, batch_size=8, optimizer="adamw", weight_decay=0.0, build=build),
    )


def _texts(part: Sequence[Record]) -> Answered:
    return answered([each["question"] for each in part], [each["answer"] for each in part])


def _group(author: int) -> str:
    """The name of an author's group, counted from 1; without a space, so that a shell need not quote it."""
    return f"author-{author + 1}"


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"The tasks tofu and tofu_small need {name}, which is not installed: pip install 'nablatau[hf]'."
        ) from error
