"""`nablatau forget --hf` in two processes (gloo): a text classifier by torchrun, and a language model cut into shares,
of whose processes one is killed."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import small_texts
from launching import launch, start_without_launcher
from nablatau.cli import main

pytest.importorskip("transformers", reason="the extra `hf` is not installed")


def files(folder: Path, task: str) -> list[str]:
    """Words of a command line for texts that are written into the folder."""
    make = small_texts.records if task == "text-classification" else small_texts.questions
    for number, name in enumerate(("train", "holdout"), 1):
        small_texts.write_jsonl(folder / f"{name}.jsonl", make(40, number))
    columns = [] if task == "text-classification" else ["--prompt-column", "question", "--text-column", "answer"]
    given = ["--hf", "model", "--task", task, "--data", "train.jsonl", "--holdout", "holdout.jsonl", *columns]
    return ["forget", *given, "--fraction", "0.2", "--no-recovery", "--json"]


@pytest.mark.timeout(600)
def test_a_text_classifier_is_the_same_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_texts.save(tmp_path / "model", small_texts.llama(), small_texts.tokenizer())
    line = files(tmp_path, "text-classification")
    done = launch(["-m", "nablatau", *line, "--out", "by_two"], 2, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.chdir(tmp_path)
    assert main([*line, "--out", "by_one"]) == 0
    one, two, before = (load_file(f"{place}/model.safetensors") for place in ("by_one", "by_two", "model"))
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], rtol=0, atol=1e-5), name
    assert any(not torch.equal(weight, before[name]) for name, weight in one.items())
    assert sorted(path.name for path in Path("by_one").iterdir()) == sorted(
        path.name for path in Path("by_two").iterdir()
    )
    assert (
        json.loads(done.stdout)["verdict"] == json.loads(Path("by_one/run.json").read_text())["evaluation"]["verdict"]
    )


@pytest.mark.timeout(600)
def test_a_language_model_in_shares_of_which_one_is_killed_leaves_one_error_and_no_folder(tmp_path: Path) -> None:
    small_texts.save(tmp_path / "model", small_texts.answering_llama(), small_texts.answering_tokenizer())
    endless = ["--sharded", "--method", "grad_diff", "--set", "epochs=100000", "--out", "out"]
    command = ["-m", "nablatau", *files(tmp_path, "causal-lm"), *endless]
    there = {path.name for path in tmp_path.iterdir()}
    first, second = start_without_launcher(command, 2, tmp_path)
    try:
        deadline = time.monotonic() + 200
        while {path.name for path in tmp_path.iterdir()} == there:  # until the folder is begun
            assert time.monotonic() < deadline
            for process in (first, second):
                assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        time.sleep(5)  # the model is read, and steps are taken
        second.kill()
        second.communicate()
        _, said = first.communicate(timeout=120)
    finally:
        first.kill()
        second.kill()
    assert first.returncode == 1
    assert said.count("nablatau: ") == 1, said
    assert "Process 0 of 2 stopped" in said
    assert "Nothing was written" in said
    assert "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} == there
