"""Greedy generation: batches against one by one, where texts end, and settings of a model that must not count."""

from typing import Any

import pytest
import torch

import small_llama
from nablatau.errors import SettingsError
from nablatau.hf.generation import generate
from nablatau.hf.pretrained import quiet
from small import small_transformer

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")


def prompts(size: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (size,), generator=generator).tolist()
    return [[2, *torch.randint(4, 26, (length,), generator=generator).tolist()] for length in lengths]


def naive(model: Any, prompt: list[int], most: int, ends: set[int]) -> list[int]:
    told: list[int] = []
    while len(told) < most:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([[*prompt, *told]])).logits[0, -1].argmax())
        if token in ends:
            break
        told.append(token)
    return told


@pytest.fixture(scope="module")
def model() -> Any:
    """Its likeliest tokens change from place to place, and some of them are the end."""
    made = small_llama.llama(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8.0 if parameter.ndim > 1 else 1.0)
    return made


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_batches_tell_what_each_prompt_is_told_alone(model: Any, batch_size: int, padding_side: str) -> None:
    asked = prompts(20)
    expected = [naive(model, prompt, 12, {3}) for prompt in asked]
    assert len({len(told) for told in expected}) > 2  # some end by themselves
    words = small_llama.tokenizer(padding_side)
    assert generate(model, words, asked, most_new_tokens=12, batch_size=batch_size) == expected


def test_the_models_own_settings_do_not_count_and_are_put_back(model: Any) -> None:
    asked, words = prompts(9), small_llama.tokenizer()
    expected = [naive(model, prompt, 8, {3, 7}) for prompt in asked]
    own = transformers.GenerationConfig(
        do_sample=True, temperature=2.0, repetition_penalty=5.0, min_new_tokens=8, eos_token_id=[3, 7], max_length=9
    )
    before, model.generation_config = model.generation_config, own
    state = torch.random.get_rng_state()
    assert generate(model.train(), words, asked, most_new_tokens=8) == expected
    assert model.generation_config is own
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    model.generation_config = before
    model.eval()


def test_a_model_with_an_adapter(model: Any) -> None:
    peft = pytest.importorskip("peft")
    asked, words = prompts(5), small_llama.tokenizer()
    expected = generate(model, words, asked, most_new_tokens=6)
    copy = small_llama.llama(3)
    copy.load_state_dict(model.state_dict())
    own = copy.generation_config
    own.repetition_penalty = 5.0
    with quiet():
        adapted = peft.get_peft_model(copy, peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    assert generate(adapted, words, asked, most_new_tokens=6) == expected
    assert copy.generation_config is own
    assert adapted.generation_config is own


def test_what_cannot_be_generated_is_refused(model: Any) -> None:
    words = small_llama.tokenizer()
    with pytest.raises(SettingsError, match="SmallTransformer cannot generate text"):
        generate(small_transformer(), words, [[2]])
    with pytest.raises(SettingsError, match="1 of 2 prompts are empty"):
        generate(model, words, [[2], []], most_new_tokens=4)
    with pytest.raises(SettingsError, match=r"made for 64 in all\. Ask for most_new_tokens=62 or fewer"):
        generate(model, words, [[2, 4]], most_new_tokens=63)
    with pytest.raises(SettingsError, match="1 or more, not 0 and 32"):
        generate(model, words, [[2]], most_new_tokens=0)
    assert generate(model, words, [], most_new_tokens=4) == []
