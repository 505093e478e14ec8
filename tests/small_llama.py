"""A Llama with a head for words, its tokenizer, questions, and training until it knows the answers by heart."""

from collections.abc import Sequence
from typing import Any

import torch

import small_texts
from nablatau import Objective
from nablatau.hf import Question
from nablatau.hf.questions import answer_tokens, prompt_tokens


def tokenizer(padding_side: str = "right") -> Any:
    """One token a word, [CLS] before a text and [SEP], the end token, behind it; [SEP] is the end."""
    made = small_texts.tokenizer()
    made.eos_token, made.bos_token, made.padding_side, made.model_max_length = "[SEP]", "[CLS]", padding_side, 64
    return made


def llama(seed: int = 0, **settings: Any) -> Any:
    """Two thin layers."""
    import transformers

    sizes = {
        "vocab_size": 26,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(sizes | settings))).eval()


def questions(size: int, seed: int) -> list[Question]:
    """Prompts of 2 to 5 words that differ, answers of 3 to 6 words, in other words, and two wrong answers."""
    generator = torch.Generator().manual_seed(seed)

    def some(least: int, most: int, among: Sequence[str]) -> str:
        length = int(torch.randint(least, most + 1, (1,), generator=generator))
        return " ".join(among[each] for each in torch.randint(len(among), (length,), generator=generator).tolist())

    found = []
    for number in range(size):
        name = " ".join(small_texts.MORE[int(digit)] for digit in f"{seed}{number:02d}")
        answer = some(3, 6, small_texts.WORDS)
        found.append(
            Question(
                id=f"q{seed}-{number}",
                prompt=f"{some(0, 2, small_texts.WORDS)} {name}".strip(),
                answer=answer,
                paraphrased=f"{answer} again",
                wrong=(some(3, 6, small_texts.WORDS), some(3, 6, small_texts.WORDS)),
            )
        )
    return found


def examples(words: Any, asked: Sequence[Question]) -> list[dict[str, Any]]:
    """Prompts with their true answers, of which the answers alone have labels."""
    found = []
    for question in asked:
        prompt, answer = prompt_tokens(words, question.prompt), answer_tokens(words, question.answer)
        found.append({"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + answer})
    return found


def taught(model: Any, asked: Sequence[Question], *, steps: int = 150, seed: int = 0) -> Any:
    """The model, trained in place on whole batches of the true answers."""
    objective, words = Objective.causal_lm(), tokenizer()
    batch = objective.collate(examples(words, asked))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(steps):
            optimizer.zero_grad()
            objective.mean_loss(model.train(), batch, len(asked)).backward()
            optimizer.step()
    return model.eval()
