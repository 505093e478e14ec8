"""Evidence that cannot be gathered: the model that has forgotten is kept, and the line that is printed evaluates it."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import small_texts
from launching import start_without_launcher
from nablatau.cli import main
from nablatau.evaluation import Word

PROJECT = """
import os, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import TensorDataset
import nablatau

def records(size, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator)
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))

class Broken(torch.utils.data.Dataset):
    def __init__(self, process):
        self.process = process

    def __len__(self):
        return 50

    def __getitem__(self, place):
        if os.environ.get("RANK", "0") == self.process:
            raise MemoryError("no room for a batch")
        return records(50, 3)[place]

class Slow(Broken):
    def __getitem__(self, place):
        Path("reached").touch()
        time.sleep(60)

def project(test_set=None):
    torch.manual_seed(0)
    return nablatau.Project(
        model=nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)),
        train_set=records(90, 1),
        holdout_set=records(60, 2),
        test_set=test_set or records(50, 3),
        objective=nablatau.Objective.classification(),
        groups=[f"person {i // 9}" for i in range(90)],
        recipe=nablatau.Recipe(epochs=1, learning_rate=0.1),
    )

def unreadable():
    test_set = records(50, 3)
    if not Path("repaired").exists():
        test_set.tensors[0][5] = float("nan")
    return project(test_set)

def second_broken():
    return project(Broken("1"))

def slow():
    return project(Slow("0"))
"""
FILES = {"ids.salt", "model.safetensors", "report.html", "run.json"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def check_saved(out: Path, files: set[str] = FILES) -> dict[str, Any]:
    """The record of a folder that is whole, without evaluation."""
    assert {file.name for file in out.iterdir()} == files
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    assert "evaluation" not in record
    assert len(record["forget_ids"]["salted_sha256"]) == record["request"]["forget"]
    assert "The model was not evaluated." in (out / "report.html").read_text()
    return record


def test_a_loss_that_is_no_number_leaves_the_model_and_the_line_that_evaluates_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--forget-group", "person 2", "--forget-group", "person 5", "--seed", 4, "--json"]
    assert run("forget", "my.py:unreadable", *options, "--out", "out") == 5
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("nablatau: The model has forgotten and is saved in out, with its record and without")
    assert "The loss of 1 records is not finite: ids [5]" in printed.err
    assert "Traceback" not in printed.err
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"my.py", "out"}
    check_saved(folder / "out")

    (folder / "repaired").touch()
    line = shlex.split(printed.err.splitlines()[-1])
    assert line[0] == "nablatau"
    code = run(*line[1:])
    assert code == Word(json.loads(capsys.readouterr().out)["verdict"]).exit_code
    assert (folder / "out" / "evaluation.html").exists()


def test_what_nobody_meant_is_shown_where_it_arose(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("nablatau.api.recover_by_finetuning", out_of_memory)
    words = ["my.py:project", "--fraction", 0.3, "--tier", 3, "--preset", "paper", "--evaluation-batch-size", 16]
    assert run("forget", *words, "--out", "out") == 5
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.count("nablatau: ") == 1
    assert "OutOfMemoryError: CUDA out of memory" in said
    check_saved(folder / "out")
    expected = "nablatau evaluate my.py:project --weights out/model.safetensors --out out/evaluation.html --tier 3"
    expected += " --preset paper --fraction 0.3 --evaluation-batch-size 16"
    assert said.splitlines()[-1] == expected

    words = ["my.py:project", "--fraction", 0.3]
    assert (
        run("forget", *words, "--no-recovery", "--out", "without") == 0
    )  # the check that needs the memory is left out
    assert json.loads((folder / "without" / "run.json").read_text())["evaluated"]["recovery"] is False


def test_the_evaluation_joins_the_record_under_the_same_salt(folder: Path) -> None:
    import nablatau
    from nablatau.projects import load_project
    from nablatau.results import salted_digests

    project = load_project("my.py:project")
    request = project.data.forget_ids([3, 14, 15])
    result = nablatau.forget(project.model, request, project.objective)
    out = result.save("out")
    before = check_saved(out)
    evaluation = nablatau.evaluate(project.model, result, request, project.objective, recovery=False)
    result.add_evaluation(out, evaluation)
    after = json.loads((out / "run.json").read_text())
    assert {file.name for file in out.iterdir()} == FILES
    assert after.pop("evaluation")["verdict"] == evaluation.verdict.word
    assert after.pop("evaluated")["recovery"] is False
    note = after["notes"].pop(0)  # the model was never trained
    assert "DO NOT SEEM TO BELONG TOGETHER" in note
    assert after == before
    salt = (out / "ids.salt").read_text().strip()
    assert after["forget_ids"]["salted_sha256"] == salted_digests([3, 14, 15], salt)
    assert evaluation.verdict.sentence in (out / "report.html").read_text()
    with pytest.raises(nablatau.NablatauError, match="The evaluation could not be added to elsewhere"):
        result.add_evaluation("elsewhere", evaluation)


@pytest.mark.timeout(600)
def test_an_interrupt_leaves_the_model(folder: Path) -> None:
    code = (
        "import signal, sys; from nablatau.cli import main; signal.signal(signal.SIGINT, signal.default_int_handler); "
    )
    command = [sys.executable, "-c", f"{code} sys.exit(main(sys.argv[1:]))", "forget", "my.py:slow"]
    command += ["--fraction", "0.3", "--out", "out"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while not (folder / "reached").exists():
        assert time.monotonic() < deadline
        assert started.poll() is None, started.communicate()
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert said.startswith("nablatau: The model has forgotten and is saved in out")
    assert "ended early: interrupted." in said
    assert "Traceback" not in said
    check_saved(folder / "out")


@pytest.mark.timeout(600)
def test_where_one_of_two_processes_fails_both_say_so_and_the_model_is_there(folder: Path) -> None:
    command = ["-m", "nablatau", "forget", "my.py:second_broken", "--fraction", "0.3", "--out", "out"]
    reasons = ("Process 0 of 2 stopped", "MemoryError: no room for a batch")
    processes = start_without_launcher(command, 2, folder)
    try:
        for process, reason in zip(processes, reasons, strict=True):
            _, said = process.communicate(timeout=500)
            assert process.returncode == 5, said
            assert said.count("nablatau: The model has forgotten and is saved in out") == 1
            assert reason in said
            assert "Nothing was written" not in said
            assert said.splitlines()[-1].startswith("nablatau evaluate my.py:second_broken --weights out/model.safe")
    finally:
        for process in processes:
            process.kill()
    check_saved(folder / "out")
    assert load_file(folder / "out" / "model.safetensors")


@pytest.mark.timeout(600)  # three evaluations of a model of transformers
def test_of_a_hugging_face_model_folder_and_line_are_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft", reason="the extra `hf` is not installed")
    small_texts.save(folder / "model", small_texts.bert())
    for name, size, seed in (("train", 48, 1), ("unseen", 40, 2)):
        small_texts.write_jsonl(folder / f"{name}.jsonl", small_texts.records(size, seed))
    words = ["--hf", "model", "--task", "text-classification", "--data", "train.jsonl", "--holdout", "unseen.jsonl"]
    words += ["--lora-rank", 2, "--fraction", 0.3, "--no-recovery", "--method", "finetune"]

    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("nablatau.api.collect", broken)
        assert run("forget", *words, "--out", "out") == 5
    said = capsys.readouterr().err
    adapter = {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json"}
    files = {file.name for file in (folder / "out").iterdir()}
    assert files >= adapter | (FILES - {"model.safetensors"})
    check_saved(folder / "out", files)
    assert "Verdict: none, the model was not evaluated." in (folder / "out" / "README.md").read_text()
    line = shlex.split(said.splitlines()[-1])
    assert line[2:4] == ["--weights", "out"]
    assert "--no-recovery" in line
    assert run(*line[1:]) in {0, *range(10, 16)}
    assert run("forget", *words, "--out", "again") == 0
    assert "Verdict: none" not in (folder / "again" / "README.md").read_text()
    assert "evaluation" in json.loads((folder / "again" / "run.json").read_text())
