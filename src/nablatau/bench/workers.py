"""Where the work runs: in this process, in a pool of processes on this machine (joblib), or on a Dask cluster.

All three take a function and items, and give back pairs of item and result as they complete, each item once. A worker
that is killed costs its items another run and nothing else. An item that keeps killing its worker (which the system
does to a process that takes too much memory) comes back as `Lost`.

Pool: joblib ends a whole call when one worker dies, and does not say which item it had. Each item in work therefore
leaves a mark in a folder, and takes it away at its end. Items whose marks remain after a death are run again one at a
time, each with the pool to itself, so that the next death has one cause; the others go on together.

Cluster: `distributed.Client` itself and not joblib's Dask backend. Tried with joblib 1.6: a task that killed its
workers (`KilledWorker`) never comes back from that backend, because it calls no callback for a future that ends in
error, and `Parallel` waits for ever. The client's own futures tell, and the scheduler runs the tasks of a dead worker
again.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nablatau.errors import BenchmarkError, SettingsError

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_RUNS_ALONE = 2
"""Runs of an item with the pool to itself before it is given up."""
WATCH_SECONDS = 1.0
"""Between looks of a worker whether its parent lives."""
MOST_IDLE_POOLS = 3
"""Pools that die one after another without having begun anything."""


@dataclass(frozen=True)
class Lost:
    """No result: the item's worker died each time.

    Attributes:
        reason: for the record.
    """

    reason: str


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item with its result, or `Lost`."""

    item: Item
    result: Result | Lost


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where the work runs.

    Attributes:
        jobs: processes on this machine; as many as it has GPUs, or cores, unless given. Of no use with `dask`.
        device: such as "cpu" or "cuda"; "cuda" gives each process a GPU of its own where there are several.
        dask: address of a Dask scheduler whose workers are to be used instead.
    """

    jobs: int | None = None
    device: str | None = None
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise SettingsError(f"jobs must be 1 or more, not {self.jobs!r}.")

    @property
    def count(self) -> int:
        """Processes on this machine."""
        if self.jobs is not None:
            return self.jobs
        if self.device is not None and self.device.startswith("cuda"):
            import torch

            return max(1, torch.cuda.device_count())
        return cores()

    @contextmanager
    def pool(self, folder: Path) -> Iterator["Pool"]:
        """The workers, ready to work; of a cluster, checked.

        Args:
            folder: of the benchmark, absolute.
        """
        if self.dask is None:
            yield Pool(self.count)
            return
        from nablatau.bench.cluster import connected

        with connected(self.dask, folder) as client:
            yield Pool(self.count, client)


@dataclass(frozen=True)
class Pool:
    """Workers that are ready.

    Attributes:
        jobs: processes on this machine.
        client: of a Dask cluster, to be used instead.
    """

    jobs: int
    client: "Client | None" = None

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Done[Item, Result]]:
        """The items with their results, as they complete, each item once.

        Args:
            function: importable by name.
            items: that can be pickled.
        """
        if self.client is not None:
            return run_on_cluster(function, items, client=self.client)
        if self.jobs == 1:
            return run_here(function, items)
        return run_in_pool(function, items, jobs=self.jobs)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------------- in this process


def run_here(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Done[Item, Result]]:
    """One item after another."""
    for item in items:
        yield Done(item, function(item))


# ---------------------------------------------------------------------- in a pool of processes


def run_in_pool(
    function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int
) -> Iterator[Done[Item, Result]]:
    """As many items at once as there are jobs, each in a process of its own.

    Args:
        function: importable by name.
        items: that can be pickled.
        jobs: number of processes, 2 or more.
    """
    waiting = dict(enumerate(items))
    alone: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="nablatau-bench-") as marks:
        call = partial(_marked, function, marks, os.getpid())
        idle = 0
        while waiting:
            together = [number for number in waiting if number not in alone]
            batch, before = together or list(alone)[:1], len(waiting)
            for number, result in _one_pool(call, [(number, items[number]) for number in batch], jobs):
                yield Done(waiting.pop(number), result)
                alone.pop(number, None)
            suspects = _taken_marks(Path(marks)) & waiting.keys()
            for number in suspects:
                alone[number] = alone.get(number, -1) + 1
            idle = 0 if suspects or len(waiting) < before else idle + 1
            if idle == MOST_IDLE_POOLS:
                raise BenchmarkError(
                    f"{idle} pools of {jobs} processes died before any of them began to work. Try --jobs 1, which runs "
                    "in this process and shows why."
                )
            for number in [number for number, runs in alone.items() if runs >= MOST_RUNS_ALONE]:
                del alone[number]
                yield Done(waiting.pop(number), Lost(LOST))


LOST = (
    "The process that ran it was killed each time, as the system does to one that takes more memory than there is. "
    "Run it with fewer jobs, or with smaller batches."
)


def _one_pool(
    call: Callable[[tuple[int, Item]], tuple[int, Result]], batch: list[tuple[int, Item]], jobs: int
) -> Iterator[tuple[int, Result]]:
    """Results as they complete, until all are there or a worker dies."""
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        results = Parallel(return_as="generator_unordered", batch_size=1)(delayed(call)(pair) for pair in batch)
        try:
            yield from results
        except BrokenProcessPool:
            return  # a worker was killed; what is missing is run again by a new pool


def _marked(function: Callable[[Item], Result], marks: str, parent: int, pair: tuple[int, Item]) -> tuple[int, Result]:
    """The item's number and result; a file of that number is there meanwhile, and stays if the process is killed."""
    _end_with(parent)
    number, item = pair
    mark = Path(marks, str(number))
    mark.touch()
    try:
        return number, function(item)
    finally:
        mark.unlink(missing_ok=True)


@cache
def _end_with(parent: int) -> None:
    """End this process once its parent has ended: if that is killed, nobody would take the results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    if os.getppid() == parent:
        Thread(target=watch, daemon=True).start()


def _taken_marks(folder: Path) -> set[int]:
    """The numbers of items that were in work when their pool ended; their marks are taken away."""
    left = list(folder.iterdir())
    for mark in left:
        mark.unlink()
    return {int(mark.name) for mark in left}


# ---------------------------------------------------------------------- on a Dask cluster


def run_on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], *, client: "Client"
) -> Iterator[Done[Item, Result]]:
    """Every item on some worker of a cluster.

    Args:
        function: importable by name on the workers.
        items: that can be pickled.
        client: connected to the scheduler.

    Raises:
        BenchmarkError: the scheduler went away.
    """
    from distributed import KilledWorker, as_completed

    futures = {client.submit(function, item, pure=False): item for item in items}
    try:
        for future in as_completed(list(futures), loop=client.loop):
            item = futures.pop(future)
            if future.status == "finished":
                yield Done(item, future.result())
                continue
            error: Any = None if future.status != "error" else future.exception()
            if not isinstance(error, KilledWorker):
                raise BenchmarkError(
                    f"The cluster gave no result ({future.status}): {error!r}. What was recorded so far stays; give "
                    "the same command again, and the rest is run."
                ) from error
            yield Done(item, Lost(LOST))
    finally:
        client.cancel(list(futures))
