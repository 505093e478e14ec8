"""What a user has before nablatau comes in: a text classifier in a folder, and the records it was trained on.

    python examples/text_classifier.py FOLDER [docstrings | goemotions | RECORDS.jsonl]

Nothing is fetched. The texts are the first sentences of docstrings of numpy, scipy, sklearn and torch as they are
installed, to be told apart by package; or GoEmotions (goemotions.csv.gz in the folder NABLATAU_DATA), whose comments
have several labels each; or records of your own, with id, text and label (or labels, a list). A tokenizer and a small
BERT are trained from scratch, for about half a minute on one core. FOLDER gets model/, train.jsonl, unseen.jsonl,
test.jsonl, and ids.txt with 5 % of the training records' ids.
"""

import json
import random
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from nablatau.tasks.sources import table

TRAIN, UNSEEN, TEST = 1500, 1000, 1000
EPOCHS, BATCH = 15, 64
DOCSTRING = re.compile(r'^\s*(?:def|class) ([a-zA-Z]\w*)[^\n]*:\n\s+"""(.+?)(?:"""|\n\s*\n)', re.MULTILINE | re.DOTALL)


def docstrings(most: int = 1500) -> list[dict[str, Any]]:
    """The first sentences of functions and classes, each once, with the package as label."""
    found: dict[str, dict[str, Any]] = {}
    for package in ("numpy", "scipy", "sklearn", "torch"):
        (root,) = find_spec(package).submodule_search_locations  # type: ignore[union-attr, misc]
        before = len(found)
        for file in sorted(Path(root).rglob("*.py")):
            if "tests" in file.parts or len(found) - before >= most:
                continue
            place = ".".join(file.relative_to(Path(root).parent).with_suffix("").parts)
            for name, text in DOCSTRING.findall(file.read_text(encoding="utf-8")):
                sentence = " ".join(text.split())
                if 20 <= len(sentence) <= 200:
                    found.setdefault(sentence.lower(), {"id": f"{place}.{name}", "text": sentence, "label": package})
    return list({record["id"]: record for record in found.values()}.values())


def goemotions() -> list[dict[str, Any]]:
    """Comments, each once, with the emotions that readers saw in them."""
    rows = {row["text"].lower(): row for row in table("goemotions")}
    return [{"id": row["id"], "text": row["text"], "labels": row["labels"].split()} for row in rows.values()]


def records_of(texts: str) -> list[dict[str, Any]]:
    """The records of a set that is known by name, or of a file."""
    known = {"docstrings": docstrings, "goemotions": goemotions}
    if texts in known:
        return known[texts]()
    return [json.loads(line) for line in Path(texts).read_text(encoding="utf-8").splitlines()]


def trained_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Up to 2,000 pairs of bytes, learned from the texts: the same each time, which parts of words would not be."""
    special = ["[PAD]", "[CLS]", "[SEP]"]
    pairs = Tokenizer(models.BPE())
    pairs.normalizer, pairs.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    pairs.train_from_iterator(texts, trainer)
    ends = [(each, pairs.token_to_id(each)) for each in ("[CLS]", "[SEP]")]
    pairs.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    pairs.decoder = decoders.ByteLevel()
    names = dict(zip(("pad_token", "cls_token", "sep_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=pairs, model_max_length=32, **names)


def trained_model(
    records: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast, names: list[str]
) -> BertForSequenceClassification:
    """A BERT of one layer that knows most of its records by heart."""
    several = "labels" in records[0]
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=128, max_position_embeddings=32, id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
            problem_type="multi_label_classification" if several else "single_label_classification",
        )
    )  # fmt: skip
    rows = [[name in each["labels"] for name in names] if several else names.index(each["label"]) for each in records]
    labels = torch.tensor(rows, dtype=torch.float32 if several else torch.int64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(records)).split(BATCH):
            texts = [records[row]["text"] for row in chosen.tolist()]
            batch = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
            loss = model(**batch, labels=labels[chosen]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def main(folder: Path, texts: str = "docstrings") -> None:
    """Write the folder."""
    torch.set_num_threads(1)  # more gain little on a model this small, and wait for each other on a busy machine
    torch.manual_seed(0)
    draw = random.Random(0)
    records = records_of(texts)
    draw.shuffle(records)
    ends = [0, TRAIN, TRAIN + UNSEEN, TRAIN + UNSEEN + TEST]
    parts = {name: records[ends[n] : ends[n + 1]] for n, name in enumerate(("train", "unseen", "test"))}
    names = sorted({name for each in records for name in each.get("labels") or [each["label"]]})
    tokenizer = trained_tokenizer([each["text"] for each in parts["train"]])
    model = trained_model(parts["train"], tokenizer, names)
    folder.mkdir(parents=True)
    for name, rows in parts.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    chosen = draw.sample([row["id"] for row in parts["train"]], len(parts["train"]) // 20)
    (folder / "ids.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
