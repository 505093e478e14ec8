"""Work on other processes: every item once, whatever is killed."""

from functools import partial
from pathlib import Path

import pytest

from nablatau.bench import devices, workers
from nablatau.bench.workers import Lost, Pool, Workers
from nablatau.errors import BenchmarkError, SettingsError
from worker_work import number_and_process, square, square_or_die

NUMBERS = list(range(8))
SQUARES = {number: number * number for number in NUMBERS}


def runs(folder: Path, number: int) -> int:
    return len(list(folder.glob(f"{number}-*")))


def test_every_item_comes_back_once() -> None:
    done = list(Pool(1).map(square, NUMBERS))
    assert [(each.item, each.result) for each in done] == list(SQUARES.items())


def test_a_killed_worker_costs_another_run_and_nothing_else(tmp_path: Path) -> None:
    """Item 3 kills its worker once, item 5 always."""
    work = partial(square_or_die, folder=str(tmp_path), deaths={3: 1, 5: 99})
    done = list(Pool(2).map(work, NUMBERS))
    assert len(done) == len(NUMBERS)
    found = {each.item: each.result for each in done}
    assert isinstance(found.pop(5), Lost)
    assert found == {number: square for number, square in SQUARES.items() if number != 5}
    assert runs(tmp_path, 3) >= 2
    assert workers.MOST_RUNS_ALONE <= runs(tmp_path, 5) <= 1 + workers.MOST_RUNS_ALONE


def test_workers_that_die_before_they_begin_are_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    monkeypatch.setattr(workers, "_one_pool", lambda *given: iter(tries.append(given) or ()))
    with pytest.raises(BenchmarkError, match="died before any of them began"):
        list(Pool(2).map(square, NUMBERS))
    assert len(tries) == workers.MOST_IDLE_POOLS


def test_there_are_as_many_jobs_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    assert Workers().count == 8
    assert Workers(jobs=3).count == 3
    assert Workers(device="cuda:0").count == max(1, devices.torch.cuda.device_count())
    with pytest.raises(SettingsError, match="jobs must be 1 or more"):
        Workers(jobs=0)


def test_each_worker_has_a_number_of_its_own() -> None:
    found = {each.result for each in Pool(2).map(number_and_process, range(6))}
    assert len({number for number, _ in found}) == len({process for _, process in found})
    assert devices.worker_number() == devices.worker_number()


def test_each_worker_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(devices, "worker_number", lambda: 6)
    assert devices.device_for_worker("cuda") == "cuda:2"
    assert devices.device_for_worker("cuda:1") == "cuda:1"
    assert devices.device_for_worker("cpu") == "cpu"
    assert devices.device_for_worker(None) is None
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 1)
    assert devices.device_for_worker("cuda") == "cuda"
