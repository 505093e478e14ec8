"""The command line in two processes (gloo): as in one, said and written once; and one of them lost on the way."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from launching import Launcher, launch, start_without_launcher
from nablatau.cli import main
from nablatau.evidence import Evidence

PROJECT = """
import os, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import TensorDataset
import nablatau

def records(size, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))

def project(**changes):
    torch.manual_seed(0)
    settings = dict(
        model=nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).double(),
        train_set=records(91, 1),
        holdout_set=records(61, 2),
        test_set=records(51, 3),
        objective=nablatau.Objective.classification(),
        recipe=nablatau.Recipe(epochs=2, learning_rate=0.1, batch_size=15),
    )
    return nablatau.Project(**(settings | changes))

def slow():  # so that there is time to end a process between two steps
    def loss(model, batch):
        Path(f"reached {os.environ.get('RANK')}").touch()
        time.sleep(0.05)
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return project(objective=nablatau.Objective.of_loss(loss), recipe=None)
"""
CHOICE = ["my.py:project", "--fraction", "0.3", "--json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my.py").write_text(PROJECT)
    return tmp_path


def forget(folder: Path, count: int, by: Launcher = "torchrun") -> tuple[dict[str, Any], Path]:
    """What it prints, and where it writes."""
    out = folder / f"out_{count}_{by}"
    done = launch(["-m", "nablatau", "forget", *CHOICE, "--out", str(out)], count, folder, by)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(file.name for file in out.iterdir()) == ["ids.salt", "model.safetensors", "report.html", "run.json"]
    return json.loads(done.stdout), out / "model.safetensors"  # one object: it was said once


@pytest.mark.timeout(600)
def test_forget_and_evaluate_do_in_two_processes_what_they_do_in_one(folder: Path) -> None:
    said = {}
    for count in (1, 2):
        printed, weights = forget(folder, count)
        kept = folder / f"evidence_{count}"
        more = ["--weights", str(weights), "--evidence", str(kept), "--tier", "2"]
        done = launch(["-m", "nablatau", "evaluate", *CHOICE, *more], count, folder)
        said[count] = printed, json.loads(done.stdout), load_file(weights), Evidence.load(kept)
    for name, weight in said[1][2].items():
        assert torch.allclose(weight, said[2][2][name], rtol=0, atol=1e-6), name
    for command in (0, 1):
        assert said[1][command]["verdict"] == said[2][command]["verdict"]
    one, two = said[1][3], said[2][3]
    for model in one.models:
        for split in one.splits:
            assert np.allclose(one.scores[model][split]["loss"], two.scores[model][split]["loss"], rtol=0, atol=1e-6)
    for name in one.arrays:
        assert np.allclose(one.arrays[name], two.arrays[name], rtol=0, atol=1e-5, equal_nan=True), name


def test_accelerate_launch_serves_as_torchrun_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate", reason="the extra `hf` is not installed")
    _, weights = forget(folder, 2, "accelerate")
    monkeypatch.chdir(folder)
    assert main(["forget", *CHOICE, "--out", "alone"]) == 0
    one, two = load_file("alone/model.safetensors"), load_file(weights)
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], rtol=0, atol=1e-6), name
    assert any(not torch.equal(weight, two[name]) for name, weight in one.items())  # sums of two shares: two there were


@pytest.mark.parametrize("ending", ["kill", "terminate"])
def test_where_one_process_is_lost_all_stop_with_an_error_and_nothing_is_left(folder: Path, ending: str) -> None:
    """Killed in the middle, as when memory runs out; and told to end, as a launcher tells the others then."""
    command = ["-m", "nablatau", "forget", "my.py:slow", "--fraction", "0.3", "--out", "out"]
    first, second = start_without_launcher(command, 2, folder)
    try:
        deadline = time.monotonic() + 120
        while not all((folder / f"reached {rank}").exists() for rank in (0, 1)):
            assert time.monotonic() < deadline
            for process in (first, second):
                assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        ended, other = (second, first) if ending == "kill" else (first, second)
        getattr(ended, ending)()
        for process in (ended, other):
            _, said = process.communicate(timeout=60)
            if ending == "kill" and process is ended:
                continue
            assert process.returncode == 1
            assert said.count("nablatau: ") == 1, said
            assert f"Process {[first, second].index(process)} of 2 stopped" in said
            assert "Nothing was written" in said
            assert "Traceback" not in said
    finally:
        first.kill()
        second.kill()
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != "_") == ["my.py", "reached 0", "reached 1"]


def test_what_the_first_process_cannot_do_stops_all(folder: Path) -> None:
    (folder / "out").mkdir()
    command = ["-m", "nablatau", "forget", "my.py:project", "--fraction", "0.3", "--out", "out"]
    for rank, process in enumerate(start_without_launcher(command, 2, folder)):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1
        assert said.startswith("nablatau: out exists already" if rank == 0 else "nablatau: Process 0 failed"), said
        assert "Name another folder" in said
