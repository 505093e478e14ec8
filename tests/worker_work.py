"""Work for other processes that takes milliseconds, some of which kills its worker.

Only Python is imported here, so that a worker that is killed costs no more than another start of Python.
"""

import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def square_or_die(number: int, folder: str, deaths: dict[int, int]) -> int:
    """The square; some numbers kill their process, the first so many times. Each run leaves a file."""
    run = sum(name.startswith(f"{number}-") for name in os.listdir(folder))
    Path(folder, f"{number}-{run}-{os.getpid()}").touch()
    if run < deaths.get(number, 0):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number * number


def obtain(number: int, folder: str) -> str:
    """The artifact that all ask for; whoever makes it leaves a file."""
    from nablatau.bench.store import Store

    def make(part: Path) -> dict[str, int]:
        time.sleep(0.3)
        (part / "content").write_text("made")
        Path(folder, f"made by {number}").touch()
        return {"answer": 42}

    return str(Store(Path(folder)).obtain({"kind": "test"}, make))


def number_and_process(_: int) -> tuple[int, int]:
    """The worker's number and its process."""
    from nablatau.bench.devices import worker_number

    time.sleep(0.1)
    return worker_number(), os.getpid()
