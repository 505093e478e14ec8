"""The whole benchmark: it goes on where it was stopped, and nothing depends on who did the work or when."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import pytest

import bench_work
from bench_work import THREE, TINY
from nablatau.bench import Grid, Outcome, Workers, cluster, read_records, run
from nablatau.bench.cell import Record
from nablatau.bench.store import Store
from nablatau.cli import main
from nablatau.errors import BenchmarkError, SettingsError

HERE = Workers(jobs=1)
GRID = Grid(tasks=(TINY,), requests=("random:0.2", "class:1"), methods=THREE, training_seeds=(0, 1), recovery=False)
SMALL = Grid(tasks=(TINY,), requests=("random:0.2",), methods=("finetune",), training_seeds=(0,), recovery=False)


def figures(folder: Path) -> list[str]:
    """What a page is made of: every record without what depends on the clock and the machine."""
    timed = ("seconds", "retrain_seconds", "peak_memory_bytes", "finished", "hardware")
    kept = [{name: value for name, value in record.items() if name not in timed} for record in read_records(folder)]
    return sorted(json.dumps(record, sort_keys=True) for record in kept)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    run(GRID, folder, workers=HERE)
    return folder


def test_a_benchmark_leaves_records_evidence_and_a_page(whole: Path) -> None:
    assert {"artifacts", "evidence", "records.jsonl", "results.html"} <= set(os.listdir(whole))
    assert not (whole / "bench.lock").exists()
    records = read_records(whole)
    assert len(records) == len({record["cell"] for record in records}) == 2 * 2 * 3
    assert {record["status"] for record in records} == {"done"}
    assert len(os.listdir(whole / "evidence")) == len(records)
    originals, references = 2, 2 * 2 * 2
    assert len(os.listdir(whole / "artifacts")) == originals + references


def test_several_processes_give_the_same(whole: Path, tmp_path: Path) -> None:
    run(GRID, tmp_path, workers=Workers(jobs=2))
    assert figures(tmp_path) == figures(whole)
    assert (tmp_path / "results.html").read_bytes() == (whole / "results.html").read_bytes()


@pytest.mark.usefixtures("no_plots")
def test_what_is_there_is_not_run_again(whole: Path, tmp_path: Path) -> None:
    half = replace(GRID, requests=("random:0.2",))
    first = run(half, tmp_path, workers=HERE)
    seen: list[tuple[int, int]] = []
    second = run(
        GRID,
        tmp_path,
        workers=HERE,
        on_record=lambda _, count, total: seen.append((count, total)),
    )
    third = run(GRID, tmp_path, workers=HERE)
    assert (first.run, second.run, third.run) == (6, 6, 0)
    assert seen == [(count, 12) for count in range(7, 13)]
    assert [record["training_seed"] for record in third.records] == [0] * 6 + [1] * 6
    assert figures(tmp_path) == figures(whole)


@pytest.mark.usefixtures("no_plots")
def test_a_torn_line_is_run_again(whole: Path, tmp_path: Path) -> None:
    run(SMALL, tmp_path, workers=HERE)
    file = tmp_path / "records.jsonl"
    before = figures(tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    assert run(SMALL, tmp_path, workers=HERE).run == 1
    assert figures(tmp_path) == before
    assert (tmp_path / "records.torn").exists()


@pytest.mark.usefixtures("no_plots")
def test_a_killed_benchmark_goes_on(whole: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "nablatau.cli", "bench", f"{bench_work.__file__}:slow_grid", "--jobs", "2"]
    command = [*words, "--folder", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = tmp_path / "killed" / "records.jsonl"
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    workers = [int(child) for task in tasks for child in task.read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert time.monotonic() < deadline, "workers outlive their benchmark"
    done = len(read_records(tmp_path / "killed"))
    assert 0 < done < 6
    grid = bench_work.slow_grid()
    outcome = run(grid, tmp_path / "killed", workers=HERE)
    assert outcome.run == 6 - done
    run(grid, tmp_path / "whole", workers=HERE)
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    assert not list((tmp_path / "killed" / "artifacts").glob(".*.part"))
    assert (tmp_path / "killed" / "results.html").read_bytes() == (tmp_path / "whole" / "results.html").read_bytes()


@pytest.mark.usefixtures("no_plots")
def test_failures_are_kept_and_run_again_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Store, "obtain", _full_disk)
        first = run(SMALL, tmp_path, workers=HERE)
    assert [record["reason"]["type"] for record in first.failed] == ["OSError"]
    assert run(SMALL, tmp_path, workers=HERE).run == 0
    again = run(SMALL, tmp_path, workers=HERE, retry_failed=True)
    assert (again.run, again.failed) == (1, [])
    assert len(read_records(tmp_path)) == 1


def _full_disk(*_: object) -> Path:
    raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("no_plots")
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["bench", "--tasks", TINY, "--methods", "finetune", "nabla_tau", "--training-seeds", "1"]
    words += ["--folder", str(tmp_path / "out"), "--jobs", "1", "--requests", "class:1"]
    assert main([*words, "random:0.2", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "4 cells to run, 0 there already; 5 models or pools to train first" in printed
    assert "class 1 · nabla_tau · seeds 0, 0" in printed
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "obtain", _full_disk)
        assert main(words) == 4
    printed = capsys.readouterr()
    assert "2 failed; --retry-failed runs them again" in printed.out
    assert "[2/2]" in printed.err
    assert "No space left" in printed.err
    assert main([*words, "--retry-failed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cells"], found["run"], found["failed"]) == (2, 2, 0)
    assert main([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["there"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "digitz", "--requests", "random:0.1"], "Did you mean digits?"),
        ([], "Say what to compare"),
        (["study.py:grid", "--tasks", "digits"], "Say what to compare"),
        (["study.py:grid"], "There is no file study.py"),
        (["study"], "not of the form FILE.py:NAME"),
    ],
)
def test_mistakes_of_the_command_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--folder", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- a Dask cluster


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[Any]:
    """Two worker processes on this machine, forked from one that has imported what they need."""
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")
    multiprocessing.set_forkserver_preload(["distributed", "nablatau.bench.engine"])
    ensure_running()  # before Dask asks for less
    with (
        warnings.catch_warnings(action="ignore"),
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as started,
    ):
        yield started


@pytest.mark.usefixtures("no_plots")
def test_a_worker_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    local_cluster: Any, whole: Path, tmp_path: Path
) -> None:
    victims = [worker.pid for worker in local_cluster.workers.values()]
    seen: list[str] = []

    def on_record(record: Record, count: int, total: int) -> None:
        seen.append(record["cell"])
        if count == 3:
            os.kill(victims[0], signal.SIGKILL)

    outcome = run(GRID, tmp_path, workers=Workers(dask=local_cluster.scheduler_address), on_record=on_record)
    assert outcome.failed == []
    assert len(seen) == len(set(seen)) == len(read_records(tmp_path)) == 12
    assert figures(tmp_path) == figures(whole)


def test_workers_that_do_not_fit_stop_it_before_the_first_cell(
    local_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "own_version", lambda: "9.9.9")
    with pytest.raises(BenchmarkError, match=r"has nablatau .* and this process 9\.9\.9"):
        run(SMALL, tmp_path, workers=Workers(dask=local_cluster.scheduler_address))
    assert sorted(os.listdir(tmp_path)) == []


def test_an_address_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    with pytest.raises(BenchmarkError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run(SMALL, tmp_path, workers=Workers(dask="tcp://127.0.0.1:9"))


def test_without_dask_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"pip install 'nablatau\[sweep\]'"):
        run(SMALL, tmp_path, workers=Workers(dask="tcp://127.0.0.1:9"))


def test_an_outcome_knows_its_failures() -> None:
    records = [{"status": "done"}, {"status": "failed"}]
    assert Outcome(page=Path("p"), records=records, run=2, left_out={}).failed == records[1:]
