"""A tokenizer, tiny models and sentences that they can learn by heart; nothing is fetched."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WORDS = ("red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "sings", "today", "here", "again")
LABELS = ("colour", "animal", "deed")
MORE = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def records(size: int, seed: int) -> list[dict[str, Any]]:
    """Sentences of 3 to 8 words, with a label that their first word decides, and the labels of all of their words."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(size):
        length = int(torch.randint(3, 9, (1,), generator=generator))
        words = [WORDS[each] for each in torch.randint(len(WORDS), (length,), generator=generator).tolist()]
        name = " ".join(MORE[int(digit)] for digit in f"{seed}{number:03d}")
        kinds = sorted({min(WORDS.index(word) // 3, 2) for word in words})
        found.append(
            {
                "id": f"s{seed}-{number}",
                "text": f"{' '.join(words)} {name}",
                "label": LABELS[min(WORDS.index(words[0]) // 3, 2)],
                "labels": [LABELS[kind] for kind in kinds],
                "writer": f"writer {number % 9}",
            }
        )
    return found


def write_jsonl(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def tokenizer(words: Sequence[str] = (*WORDS, *MORE)) -> Any:
    """One token a word."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate([*special, *words])}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=24, **names)


def bert(seed: int = 0) -> Any:
    """A BERT of two thin layers with a head for the three labels."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=26,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    return transformers.BertForSequenceClassification(config)


def llama(seed: int = 0) -> Any:
    """A Llama of two thin layers with a head for the three labels."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=26,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=24,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    return transformers.LlamaForSequenceClassification(config)


def questions(size: int, seed: int) -> list[dict[str, Any]]:
    """Questions that begin with a number of their own, with answers of 2 to 5 words, and another answer to each."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(size):
        length = int(torch.randint(2, 6, (1,), generator=generator))
        words = [WORDS[each] for each in torch.randint(len(WORDS), (length,), generator=generator).tolist()]
        name = " ".join(MORE[int(digit)] for digit in f"{seed}{number:03d}")
        found.append(
            {
                "id": f"q{seed}-{number}",
                "question": f"{name} runs",
                "answer": " ".join(words),
                "instead": "sleeps again",
                "author": f"author {number // 4}",
            }
        )
    return found


def answering_tokenizer(template: str | None = None) -> Any:
    """One token a word, an end token, and a chat template where one is given."""
    made = tokenizer((*WORDS, *MORE, "[USER]", "[MODEL]", "[END]"))
    made.backend_tokenizer.post_processor = None
    made.add_special_tokens({"eos_token": "[END]", "additional_special_tokens": ["[USER]", "[MODEL]"]})
    made.chat_template = template
    return made


def answering_llama(seed: int = 0) -> Any:
    """A Llama of two thin layers that says a word after each, of a tokenizer of 29."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
        pad_token_id=0,
        eos_token_id=28,
    )
    return transformers.LlamaForCausalLM(config)


def save(folder: Path, model: Any, words: Any = None) -> Path:
    """The model with its tokenizer in a folder."""
    from nablatau.hf.pretrained import quiet

    with quiet():
        model.save_pretrained(folder)
        (words or tokenizer()).save_pretrained(folder)
    return folder
