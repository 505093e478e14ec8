"""Several processes that a launcher started: joining them, doing a thing once for all, and saying that one was lost.

`torchrun` and `accelerate launch` start the same command several times and tell each by environment variables which it
is. When one of them ends early, the others notice in the next sum that they take together, or are told to end by
the launcher; both become one error, and what was being written is removed.
"""

import datetime
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as distributed

from nablatau.checkpoints import whole_folder
from nablatau.errors import NablatauError, ProcessError
from nablatau.runtime import gather_over_processes, is_distributed, process_count, process_rank

Result = TypeVar("Result")
LONGEST_WAIT = datetime.timedelta(minutes=10)
"""For the other processes, before it is taken that one of them is stuck."""


@contextmanager
def joined_processes(device: str | None = None) -> Iterator[None]:
    """The launcher's processes work together inside; all leave together. Nothing happens where there is one alone.

    Args:
        device: that was asked for; with GPUs each process has its own unless it is the CPU.

    Raises:
        ProcessError: another process ended, or the launcher told this one to.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or is_distributed():
        yield
        return
    on_gpu = torch.cuda.is_available() and device != "cpu"
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    with naming_lost_processes(), _ends_when_told():
        yield
        distributed.barrier()
    distributed.destroy_process_group()


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """What torch says of a connection that was lost becomes an error that says what happened.

    Raises:
        ProcessError: another process ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if not (is_distributed() and _tells_of_a_loss(error)):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise _lost(f"another one ended or does not answer ({reason})") from error


def in_first_process(work: Callable[[], Result]) -> Result | None:
    """Do something in process 0; the others wait until it is done, and fail if it fails.

    Args:
        work: what to do.

    Returns:
        What came of it, in process 0; None in the others.

    Raises:
        NablatauError: of the work, in process 0; a ProcessError with its message in the others.
    """
    done, failed = None, None
    if process_rank() == 0:
        try:
            done = work()
        except NablatauError as error:
            failed = error
    said = gather_over_processes(str(failed) if failed else None)[0]
    if failed is not None:
        raise failed
    if said is not None:
        raise ProcessError(f"Process 0 failed, and this one ended with it. {said}")
    return done


@contextmanager
def one_folder(folder: Path) -> Iterator[Path | None]:
    """`whole_folder` for several processes: process 0 fills it, and it is there when the others go on.

    Args:
        folder: must not exist yet.

    Yields:
        In process 0 the temporary folder to fill, in the others None.

    Raises:
        CheckpointError: it exists, or cannot be made.
        ProcessError: another process was lost before the folder was there.
    """
    try:
        with ExitStack() as stack:
            yield in_first_process(lambda: stack.enter_context(whole_folder(folder)))
            in_first_process(stack.close)
    except ProcessError as error:
        raise ProcessError(f"{error} Nothing was written.") from error


def _tells_of_a_loss(error: RuntimeError) -> bool:
    """Whether it comes from torch.distributed; gloo's errors have no type of their own."""
    words = ("gloo", "closed by peer", "connection reset", "timed out waiting", "broken pipe")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in words)


def _lost(what: str) -> ProcessError:
    return ProcessError(
        f"Process {process_rank()} of {process_count()} stopped: {what}. Look for the first error in the output of all "
        "processes; where there is none, one was killed, as it is when memory runs out."
    )


@contextmanager
def _ends_when_told() -> Iterator[None]:
    """The signal to end raises an error, so that what is being written is removed; Python alone would end at once."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def end(*_: Any) -> None:
        if sys.exception() is None:  # else it is ending already
            raise _lost("it was told to end, as a launcher does when another one has ended")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
