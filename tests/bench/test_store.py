"""Shared work is made once, whoever asks, and a process that died holds nobody up."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from nablatau.bench import locks
from nablatau.bench.locks import Lock, Owner
from nablatau.bench.store import Store, facts_of
from nablatau.bench.workers import run_in_pool
from nablatau.errors import BenchmarkError
from worker_work import obtain


def test_made_once_by_several_workers(tmp_path: Path) -> None:
    places = {done.result for done in run_in_pool(partial(obtain, folder=str(tmp_path)), range(6), jobs=2)}
    assert len(list(tmp_path.glob("made by *"))) == 1
    (place,) = places
    assert facts_of(Path(str(place))) == {"answer": 42}
    assert sorted(os.listdir(tmp_path / "artifacts")) == [Path(str(place)).name]


def test_an_error_leaves_nothing_and_the_next_makes_it(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(part: Path) -> dict[str, object]:
        (part / "half").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        store.obtain({"kind": "a"}, fail)
    assert os.listdir(store.folder) == []
    assert facts_of(store.obtain({"kind": "a"}, lambda part: {"seconds": 1})) == {"seconds": 1}
    assert store.obtain({"kind": "a"}, fail) == store.place({"kind": "a"})


def test_what_a_kill_left_half_written_is_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.obtain({"kind": "a"}, lambda part: {})
    (store.folder / ".abc.xyz.part").mkdir()
    store.clear()
    assert os.listdir(store.folder) == [place.name]


def test_a_damaged_artifact_is_named(tmp_path: Path) -> None:
    place = Store(tmp_path).obtain({"kind": "a"}, lambda part: {})
    (place / "artifact.json").write_text("{")
    with pytest.raises(BenchmarkError, match="Delete that folder"):
        facts_of(place)


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(vars(Owner.myself()) | changes))


def test_a_lock_is_for_one_at_a_time(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    first.give_back()
    assert second.take()
    first.give_back()  # not its own any more
    assert (tmp_path / "lock").exists()
    second.give_back()
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("changes", [{"process": None}, {"started": "1"}], ids=["dead", "number used again"])
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path, changes: dict[str, object]) -> None:
    file = tmp_path / "lock"
    leave(file, **{name: dead_process() if value is None else value for name, value in changes.items()})
    lock = Lock(file)
    assert lock.take()
    lock.give_back()


def test_an_owner_elsewhere_is_dead_once_it_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, now = tmp_path / "lock", [0.0]
    monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])
    leave(file, host="elsewhere", process=dead_process())
    lock = Lock(file)
    assert not lock.take()
    now[0] = locks.SILENT_SECONDS - 1
    os.utime(file)  # the owner lives, and touches its file
    assert not lock.take()
    now[0] += locks.SILENT_SECONDS - 1
    assert not lock.take()
    now[0] += 2
    assert lock.take()
    lock.give_back()


def test_an_owner_keeps_touching_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TOUCH_SECONDS", 0.01)
    file = tmp_path / "lock"
    lock = Lock(file)
    assert lock.take()
    os.utime(file, (0, 0))
    for _ in range(200):
        if file.stat().st_mtime > 0:
            break
        locks.time.sleep(0.01)
    assert file.stat().st_mtime > 0
    lock.give_back()
