"""Greedy generation for evidence: in batches, and what each prompt would be told alone.

Prompts are filled up on the left, so that every text goes on where its prompt ends, and the filling is masked. Nothing
but the likeliest token is ever taken: a model's own generation config (sampling, penalties for repetition, banned
tokens), which `generate` else mixes into any setting that is left open, is set aside for the time and put back. It says
which tokens end a text, and so does the tokenizer.

Several processes share the prompts, each with the whole model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nablatau.errors import SettingsError
from nablatau.hf.extras import library
from nablatau.hf.pretrained import TEXT_MODELS, quiet
from nablatau.methods.low_rank import is_adapted
from nablatau.modes import in_mode
from nablatau.processes import naming_lost_processes
from nablatau.runtime import Runtime, collected, dealt, device_of, move

PROMPTS_AT_ONCE = 32


@naming_lost_processes()
def generate(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    most_new_tokens: int = 128,
    batch_size: int = PROMPTS_AT_ONCE,
    runtime: Runtime | None = None,
) -> list[list[int]]:
    """What the model says after each prompt, the likeliest token at every place.

    Args:
        model: of transformers, with `generate`; in any mode, it is asked in eval mode and put back.
        tokenizer: its own, for the tokens that pad and end texts.
        prompts: N lists of tokens, none empty.
        most_new_tokens: after which a text is cut.
        batch_size: prompts at once in each process; of no influence on what is told, beyond rounding where two tokens
            are all but tied.
        runtime: device and precision.

    Returns:
        N lists of new tokens, without the one that ended them; in every process.

    Raises:
        SettingsError: a model that cannot generate, an empty prompt, or more tokens than the model takes.
        ProcessError: another of several processes was lost.
    """
    _check(model, prompts, most_new_tokens, batch_size)
    runtime = runtime or Runtime()
    device, home = runtime.device_for(model), device_of(model)
    ends, pad_id = _end_tokens(model, tokenizer), filling(tokenizer)
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))  # alike in length: little filling
    own, found = dealt(order), dict[int, list[int]]()
    move(model, device)
    try:
        with in_mode(model, "eval"), torch.no_grad(), _greedily(model, most_new_tokens, ends, pad_id):
            for first in range(0, len(own), batch_size):
                places = own[first : first + batch_size]
                with runtime.autocast(device):
                    told = _told(model, [prompts[place] for place in places], pad_id, device)
                for place, tokens in zip(places, told, strict=True):
                    end = next((number for number, token in enumerate(tokens) if token in ends), len(tokens))
                    found[place] = tokens[:end]
    finally:
        move(model, home)
    return collected(found)


def filling(tokenizer: Any) -> int:
    """The token that short texts are filled up with; any serves, for no model looks at it."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def _told(model: Any, prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> list[list[int]]:
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    out = model.generate(input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device))
    told: list[list[int]] = out[:, longest:].tolist()
    return told


@contextmanager
def _greedily(model: Any, most_new_tokens: int, ends: frozenset[int], pad_id: int) -> Iterator[None]:
    """The model with a generation config that takes the likeliest token and knows nothing else."""
    owner = model.get_base_model() if is_adapted(model) else model
    before = owner.generation_config
    owner.generation_config = library("transformers", TEXT_MODELS).GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=most_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=sorted(ends) or None,
    )
    try:
        with quiet():
            yield
    finally:
        owner.generation_config = before


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text, as tokenizer and model have them: chat models have more than one."""
    own = getattr(model.generation_config, "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    return frozenset(int(each) for each in [*listed, tokenizer.eos_token_id] if each is not None)


def _check(model: Any, prompts: Sequence[Sequence[int]], most_new_tokens: int, batch_size: int) -> None:
    if not hasattr(model, "generate") or getattr(model, "generation_config", None) is None:
        raise SettingsError(
            f"{type(model).__name__} cannot generate text: only causal language models of transformers can. Load it "
            "with AutoModelForCausalLM."
        )
    if most_new_tokens < 1 or batch_size < 1:
        raise SettingsError(
            f"most_new_tokens and batch_size must be 1 or more, not {most_new_tokens} and {batch_size}."
        )
    empty = [place for place, prompt in enumerate(prompts) if not len(prompt)]
    if empty:
        raise SettingsError(
            f"{len(empty)} of {len(prompts)} prompts are empty (first: number {empty[0]}), and a model tells nothing "
            "from nothing. Begin them with the tokenizer's first token."
        )
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max((len(prompt) for prompt in prompts), default=0)
    if most is not None and longest + most_new_tokens > most:
        raise SettingsError(
            f"The longest prompt has {longest} tokens, and {most_new_tokens} new ones are asked for; the model was "
            f"made for {most} in all. Ask for most_new_tokens={most - longest} or fewer, or leave the prompt out."
        )
