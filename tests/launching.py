"""Scripts in one process and, by torchrun or `accelerate launch`, in several of this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

TESTS = Path(__file__).parent
Launcher = Literal["torchrun", "accelerate"]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def launcher(count: int, by: Launcher = "torchrun") -> list[str]:
    """What stands before a script, or before `-m NAME`: Python itself, or a launcher."""
    if count == 1:
        return [sys.executable]
    if by == "torchrun":
        run = ["torch.distributed.run", f"--nproc-per-node={count}", f"--master-port={free_port()}"]
    else:  # --multi_gpu without a GPU: with --cpu it starts one process
        known = [
            "--num_machines=1",
            "--mixed_precision=no",
            "--dynamo_backend=no",
            f"--main_process_port={free_port()}",
        ]
        run = ["accelerate.commands.launch", "--multi_gpu", f"--num_processes={count}", *known]
    return [sys.executable, "-m", *run]


def launch(
    command: Sequence[str], count: int, folder: Path | None = None, by: Launcher = "torchrun"
) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m NAME`, with its arguments, in so many processes of one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher(count, by), *command], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )


def start_without_launcher(command: Sequence[str], count: int, folder: Path) -> list[subprocess.Popen[str]]:
    """So many processes with the variables that a launcher sets, and nobody to end the others when one has ended."""
    together = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=os.environ | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]


def run_script(script: str, folder: Path, count: int) -> Path:
    """The file that a script writes; it is given the folder of the tests and the file's name."""
    written, output = folder / "run.py", folder / f"of_{count}.pt"
    written.write_text(script)
    done = launch([str(written), str(TESTS), str(output)], count)
    assert done.returncode == 0, done.stderr[-3000:]
    return output
