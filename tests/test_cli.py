"""The command line: what it writes, what it prints, its exit codes, and every bad input with its message."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from nablatau.attacks import ATTACKS
from nablatau.cli import main
from nablatau.evaluation import Word
from nablatau.methods import METHODS, Npo
from nablatau.metrics import METRICS

PROJECT = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import nablatau

def records(size, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator)
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))

def project(**changes):
    torch.manual_seed(0)
    settings = dict(
        model=nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)),
        train_set=records(90, 1),
        holdout_set=records(60, 2),
        test_set=records(50, 3),
        objective=nablatau.Objective.classification(),
        groups=[f"person {i // 9}" for i in range(90)],
    )
    return nablatau.Project(**(settings | changes))

def named():
    return project(ids=[f"id-{i}" for i in range(90)], recipe=nablatau.Recipe(epochs=2, learning_rate=0.1))

def numbered():
    import numpy as np
    return project(ids=np.arange(100, 190), groups=np.arange(90) // 9)

def unseen_missing():
    return project(holdout_set=None)

def from_helper():
    from helper_beside_it import size
    return project(holdout_set=records(size, 2))

def overlapping():
    return project(holdout_set=records(90, 1))

def diverging():
    train = records(90, 1)
    train.tensors[0][5] = float("nan")
    return project(train_set=train)

def reduced():
    loss = nn.functional.cross_entropy
    return project(objective=nablatau.Objective.of_loss(lambda model, batch: loss(model(batch[0]), batch[1])))

def normalised():
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    return project(model=model, recipe=nablatau.Recipe(epochs=2, learning_rate=0.1))

def nothing():
    return None

def broken():
    raise KeyError("a mistake of the user's own")
"""


@pytest.fixture
def project_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_project.py"
    file.write_text(PROJECT)
    return file


NPO = ["--fraction", "0.1", "--method", "npo"]


def ids_file(folder: Path, *ids: object) -> str:
    file = folder / "ids.txt"
    file.write_text("\n".join(map(str, ids)) + "\n")
    return str(file)


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.mark.usefixtures("no_plots")
def test_forget_by_ids_writes_a_folder(project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("forget", f"{project_file}:project", "--forget-ids", ids_file(tmp_path, 3, 14, 15), "--out", out) == 0
    printed = capsys.readouterr()
    assert "On the 3 forgotten records" in printed.out
    assert str(out / "report.html") in printed.out
    assert printed.err == ""
    assert load_file(out / "model.safetensors").keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("options", "forgotten"),
    [
        (["--forget-class", "1"], None),
        (["--forget-group", "person 2", "--forget-group", "person 5"], 18),
        (["--fraction", "0.1", "--method", "finetune"], 9),
        (["--fraction", "0.8", "--preset", "paper-text", "--seed", "4"], 72),
    ],
)
def test_other_ways_to_choose(
    project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], forgotten: int | None
) -> None:
    assert run("forget", f"{project_file}:project", *options, "--out", tmp_path / "out", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert forgotten is None or found["run"]["request"]["forget"] == forgotten
    assert found["folder"] == str(tmp_path / "out")


def test_evaluate_any_weights(project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--forget-ids", ids_file(tmp_path, *[f"id-{i}" for i in range(20)])]
    assert run("forget", f"{project_file}:named", *choice, "--out", tmp_path / "out", "--json") == 0
    forgotten = json.loads(capsys.readouterr().out)
    weights = ["--weights", tmp_path / "out" / "model.safetensors"]
    page = tmp_path / "report.html"
    saved = tmp_path / "evidence"
    places = ["--out", page, "--evidence", saved]
    code = run("evaluate", f"{project_file}:named", *choice, *weights, "--tier", 2, *places, "--json")
    found = json.loads(capsys.readouterr().out)
    by_name = {row["name"]: row["values"] for row in found["rows"]}
    for row in forgotten["rows"]:
        if row["name"].startswith(("Recovered", "ZRF")):
            continue  # there the reference's own recovery is taken off; ZRF needs the recipe
        assert row["values"]["unlearned"] == by_name[row["name"]]["unlearned"]
    assert by_name["Accuracy, test set"].keys() == {"original", "unlearned", "retrained"}
    assert page.exists()
    assert code == Word(found["verdict"]).exit_code
    again = tmp_path / "again.html"
    assert run("report", saved, "--out", again, "--json") == code
    reported = json.loads(capsys.readouterr().out)
    assert reported["rows"] == found["rows"]
    assert reported["findings"] == found["findings"]
    assert again.read_text() == page.read_text()
    (saved / "unlearned.forget.npz").write_bytes(b"something else")
    assert run("report", saved) == 1
    assert "does not fit the hash in evidence.json" in capsys.readouterr().err


def test_settings_of_a_method(project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, target = tmp_path / "out", f"{project_file}:named"
    changes = ["--set", "learning_rate=1e-3", "--set", "mode=train", "--set", "epochs=2"]
    assert run("forget", target, *NPO, *changes, "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)["run"]["method"]
    assert told == json.loads((out / "run.json").read_text())["method"]
    assert told == Npo(learning_rate=1e-3, mode="train", epochs=2).settings()
    weights = ["--weights", out / "model.safetensors"]
    assert run("evaluate", target, *NPO, *changes, *weights) == 1
    assert "say how the shadow pipelines of --tier 3 unlearn" in capsys.readouterr().err
    assert run("evaluate", target, *NPO, "--set", "rate=1", "--tier", 3, *weights) == 1
    assert "npo has no setting 'rate'" in capsys.readouterr().err
    assert run("forget", target, "--fraction", 0.1, "--preset", "paper", "--set", "alpha=none", "--out", out) == 1
    assert "exists already" in capsys.readouterr().err


def wrong(options: list[Any]) -> Any:
    return pytest.param(*options, id=str(options[0]))


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("project", ["--ids", 3, 95], "no training record has the id [95] (ids are positions 0 … 89)"),
        ("project", ["--ids", -4], "no training record has the id [-4]"),
        ("project", ["--ids", 3, 4, 3], "named more than once: [3]"),
        ("project", ["--ids", "three"], "Whole numbers are needed here"),
        ("named", ["--ids", "id-3", "id-900"], "no training record has the id ['id-900'] (ids are such as"),
        ("project", ["--ids", *range(90)], "The retain set is empty"),
        ("project", ["--ids"], "holds no id, so there is nothing to forget"),
        ("project", ["--forget-ids", "missing.txt"], "The file of ids cannot be read"),
        ("project", ["--fraction", "15"], "fraction must lie above 0 and below 1 (0.03 is 3 %), not 15.0"),
        ("project", ["--forget-class", "7"], "has the class [7]. Known: [0, 1, 2]"),
        ("project", ["--forget-group", "nobody"], "has the group ['nobody']"),
        ("project", [], "exactly one of --forget-ids"),
        ("project", ["--fraction", "0.1", "--forget-class", "1"], "exactly one of --forget-ids"),
        ("project", ["--fraction", "0.1", "--method", "nablatau"], "Did you mean nabla_tau?"),
        ("project", ["--fraction", "0.1", "--preset", "papr"], "Did you mean paper?"),
        ("project", ["--fraction", "0.1", "--method", "retrain"], "retrain trains from fresh weights and needs the"),
        ("project", ["--fraction", "0.1", "--tier", "2"], "by the project's recipe, and it has none"),
        ("project", ["--fraction", "0.1", "--method", "finetune", "--preset", "paper"], "finetune has none"),
        ("numbered", ["--ids", 3], "no training record has the id [3] (ids are such as [100, 101, 102])"),
        ("project", ["--ids", "²"], "Whole numbers are needed here"),
        ("project", ["--fraction", "0.1", "--seed", "-1"], "seed must be a whole number of 0 or more, not -1"),
        ("project", ["--fraction", "0.1", "--fraction-seed", "-1"], "seed must be a whole number of 0 or more"),
        ("project", ["--fraction", "0.1", "--device", "gpu"], "device 'gpu' cannot be used"),
        ("project", ["--fraction", "0.1", "--batch-size", "0"], "batch_size must be above 0"),
        ("named", ["--fraction", "0.1", "--method", "retrain", "--batch-size", "8"], "retrain has no batch size"),
        ("project", [*NPO, "--set", "rate=1"], "npo has no setting 'rate'. It has epochs=10, learning_rate=1e-05, "),
        ("project", [*NPO, "--set", "leaning_rate=1"], "Did you mean learning_rate?"),
        ("project", [*NPO, "--set", "beta"], "A setting is a name with a value, --set NAME=VALUE, not 'beta'"),
        ("project", [*NPO, "--set", "epochs=1.5"], "epochs of npo must be a whole number, not '1.5'. It is 10 unless"),
        ("project", [*NPO, "--set", "beta=0"], "beta must be above 0"),
        ("project", [*NPO, "--set", "beta=1", "--set", "beta=2"], "beta is given twice"),
        ("project", [*NPO, "--set", "batch_size=1", "--batch-size", "2"], "batch_size is given twice"),
        ("unseen_missing", ["--fraction", "0.1"], "A part of the training set cannot serve"),
        ("overlapping", ["--fraction", "0.1"], "90 of 90 holdout records are also training records"),
        ("reduced", ["--fraction", "0.1"], "pass reduction='none' to the loss function"),
        ("nothing", ["--fraction", "0.1"], "returned a NoneType. It must return nablatau.Project"),
        ("absent", ["--fraction", "0.1"], "has no function absent"),
    ],
)
def test_bad_input_gets_one_clear_error_and_writes_nothing(
    project_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    function: str,
    options: list[Any],
    message: str,
) -> None:
    if options and options[0] == "--ids":
        options = ["--forget-ids", ids_file(tmp_path, *options[1:])]
    before = set(tmp_path.iterdir())
    assert run("forget", f"{project_file}:{function}", *options, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before


def test_a_loss_that_is_no_number_has_its_own_exit_code(
    project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("forget", f"{project_file}:diverging", "--fraction", 0.1, "--out", tmp_path / "out") == 3
    assert "is nan at step 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_plots")
def test_ids_and_groups_in_arrays_and_files_from_other_editors(
    project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes("\ufeff100\r\n\r\n103 \r\n".encode())
    target = f"{project_file}:numbered"
    assert run("forget", target, "--forget-ids", file, "--out", tmp_path / "a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"]["request"]["forget"] == 2
    assert run("forget", target, "--forget-group", 3, "--out", tmp_path / "b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"]["request"]["forget"] == 9


@pytest.mark.usefixtures("no_plots")
def test_a_project_may_import_what_lies_beside_it(project_file: Path, tmp_path: Path) -> None:
    (tmp_path / "helper_beside_it.py").write_text("size = 50\n")
    path = list(sys.path)
    assert run("forget", f"{project_file}:from_helper", "--fraction", 0.1, "--out", tmp_path / "out") == 0
    assert sys.path == path


def test_a_place_that_cannot_be_written_is_known_before_any_work(
    project_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("forget", f"{project_file}:broken", "--fraction", 0.1, "--out", "/proc/nothing/out") == 1
    assert "cannot be made" in capsys.readouterr().err
    options = ["--fraction", 0.1, "--weights", "x.safetensors", "--out", "report.pdf"]
    assert run("evaluate", f"{project_file}:broken", *options) == 1
    assert "must end in .html" in capsys.readouterr().err


def test_control_c_says_so_and_leaves_nothing(project_file: Path, tmp_path: Path) -> None:
    project_file.write_text(
        PROJECT + "\ndef slow():\n    print('ready', flush=True)\n    import time; time.sleep(60)\n"
    )
    code = (
        "import signal, sys; from nablatau.cli import main; signal.signal(signal.SIGINT, signal.default_int_handler); "
    )
    command = [sys.executable, "-c", f"{code} sys.exit(main(sys.argv[1:]))", "forget", f"{project_file}:slow"]
    command += ["--fraction", "0.1", "--out", str(tmp_path / "out")]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=30)
    assert started.returncode == 130
    assert errors.strip() == "nablatau: interrupted"
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"my_project.py"}


def test_an_existing_folder_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("forget", "no_such_file.py:project", "--fraction", 0.1, "--out", tmp_path) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_reference_that_could_not_be_trained_is_refused_before_any_work(
    project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["forget", f"{project_file}:normalised", "--fraction", 0.1, "--preset", "paper", "--micro-batch-size", 4]
    assert run(*words, "--out", tmp_path / "alone") == 0  # in eval mode, which the recipe does not train in
    capsys.readouterr()
    monkeypatch.setattr("nablatau.api.forget", lambda *_, **__: pytest.fail("work was done"))
    assert run(*words, "--tier", 2, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "The recipe's own training, which a reference takes, cannot run so: micro_batch_size and BatchNorm" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("digit", "Did you mean the task digits?"),
        ("missing.py:project", "There is no file missing.py"),
        ("no_such_module_xyz:project", "There is no module no_such_module_xyz"),
    ],
)
def test_targets_that_cannot_be_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, message: str
) -> None:
    assert run("forget", target, "--fraction", 0.1, "--out", tmp_path / "out") == 1
    assert message in capsys.readouterr().err


def test_a_mistake_inside_the_users_file_is_shown_as_it_is(project_file: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="a mistake of the user's own"):
        run("forget", f"{project_file}:broken", "--fraction", 0.1, "--out", tmp_path / "out")


def test_a_wrong_command_line_is_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("forgett") == 2
    assert run("forget", "digits") == 2
    assert run("demo", "--sed", 3) == 2
    capsys.readouterr()


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"digits", "cifar10"} <= found["tasks"].keys()
    assert found["methods"].keys() == METHODS.keys()
    assert found["attacks"].keys() == ATTACKS.keys()
    assert found["metrics"].keys() == METRICS.keys()
    assert found["attacks"]["label_only"].endswith("2007.14321; needs predictions, labels")
    assert run("list") == 0
    printed = capsys.readouterr().out
    assert "paper-text" in printed
    assert "needs unlearned_margins, reference_margins" in printed


@pytest.mark.usefixtures("no_plots")
def test_copies_are_reported_with_their_ids(
    project_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project_file.write_text(
        PROJECT
        + "\ndef copied():\n    train = records(90, 1)\n    train.tensors[0][[40, 50]] = train.tensors[0][7].clone()\n"
        "    return project(train_set=train)\n"
    )
    options = ["--forget-ids", ids_file(tmp_path, 7)]
    assert run("forget", f"{project_file}:copied", *options, "--out", tmp_path / "a") == 0
    assert "2 retained records have the same inputs as a forgotten one (ids 40, 50)" in capsys.readouterr().err
    assert run("forget", f"{project_file}:copied", *options, "--out", tmp_path / "b", "--forget-duplicates") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "On the 3 forgotten records" in printed.out


def test_the_demo_runs_and_shows_all_three_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--out", tmp_path / "demo") == 0
    printed = capsys.readouterr().out
    assert "original" in printed
    assert "unlearned" in printed
    assert "retrained" in printed
    assert str(tmp_path / "demo" / "report.html") in printed
    assert (tmp_path / "demo" / "report.html").exists()


def test_help_and_import_are_quick() -> None:
    """Seconds of processor time, in one of three runs: waiting for what else the machine does does not count."""
    code = "import time, torch; start = time.process_time(); import nablatau; print(time.process_time() - start)"

    def seconds_of_help() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "nablatau.cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def seconds_of_import() -> float:
        return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert any(seconds_of_help() <= 0.5 for _ in range(3))
    assert any(seconds_of_import() <= 0.2 for _ in range(3))
