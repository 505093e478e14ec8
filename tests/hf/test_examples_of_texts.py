"""The example that makes a text classifier, on a few records of its own."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import small_texts
from nablatau.cli import main

pytest.importorskip("transformers", reason="the extra `hf` is not installed")
SCRIPT = Path(__file__).parents[2] / "examples" / "text_classifier.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("text_classifier", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, size in (("TRAIN", 60), ("UNSEEN", 30), ("TEST", 30), ("EPOCHS", 2)):
        monkeypatch.setattr(module, name, size)
    return module


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(("task", "kept"), [("text-classification", "label"), ("multi-label", "labels")])
def test_it_makes_what_the_command_takes(
    example: ModuleType, task: str, kept: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [
        {name: row[name] for name in ("id", "text", kept)} for row in small_texts.records(120, 1)
    ]
    example.main(tmp_path / "texts", str(small_texts.write_jsonl(tmp_path / "rows.jsonl", rows)))
    places = {"hf": "model", "data": "train.jsonl", "holdout": "unseen.jsonl", "forget-ids": "ids.txt", "out": "out"}
    words = [word for name, place in places.items() for word in (f"--{name}", str(tmp_path / "texts" / place))]
    capfd.readouterr()
    assert main(["forget", *words, "--task", task, "--id-column", "id", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["run"]["request"]["forget"] == 3


def test_docstrings_are_each_there_once(example: ModuleType) -> None:
    records = example.docstrings(most=100)
    assert {each["label"] for each in records} == {"numpy", "scipy", "sklearn", "torch"}
    assert len({each["id"] for each in records}) == len({each["text"].lower() for each in records}) == len(records)


def test_its_tokenizer_is_the_same_each_time(example: ModuleType) -> None:
    texts = [each["text"] for each in example.docstrings(most=300)]
    first, *others = (example.trained_tokenizer(texts) for _ in range(4))
    assert len(first) > 1000
    assert all(each.backend_tokenizer.to_str() == first.backend_tokenizer.to_str() for each in others)
    assert (
        first.decode(first("A mean, π and NAN.")["input_ids"], skip_special_tokens=True).strip() == "a mean, π and nan."
    )
