"""Time and memory of the ∇τ step beside a hand-written PyTorch loop that does the same work, in one process.

    python benchmarks/step_overhead.py            # a table, and one JSON record a model on the last lines

Both loops take the same batches in the same order: two forward passes, one backward pass, one AdamW step. They
alternate, so that what else the machine does falls on both alike; the figure is the median over rounds of the ratio of
their times, with the interval of that median (order statistics, 95 %). Memory is the peak of each loop in a process of
its own, less what the process holds before the loop, the median of 7 processes: of the process on a CPU, of the
allocator on a GPU.
"""

import argparse
import copy
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn import functional

from nablatau import Objective, Runtime
from nablatau.history import History, Step
from nablatau.loading import RecordBatch
from nablatau.methods.nabla_tau_paper import nabla_tau_loss
from nablatau.records import Records
from nablatau.tasks.models import ResNet18, perceptron
from nablatau.training import batch_mean, run_steps

TAU, ALPHA, RATE = 1.0, 0.25, 1e-3
Batch = tuple[Tensor, Tensor]


class TinyTransformer(nn.Module):
    """Two encoder layers of width 64 over 32 tokens; the mean token is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(dim=1))


def images(size: int, *shape: int) -> Tensor:
    return torch.randn(size, *shape)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], int, int]] = {
    "digits perceptron": (lambda: perceptron(64, 128, 10), lambda n: images(n, 64), 256, 100),
    "small CIFAR ResNet": (lambda: ResNet18(10, width=16, cifar_stem=True), lambda n: images(n, 3, 32, 32), 32, 4),
    "tiny transformer": (TinyTransformer, lambda n: torch.randint(0, 1000, (n, 32)), 64, 10),
}
"""By name: network, inputs of a batch, batch size, steps in a round."""


def hand_written(model: nn.Module, batches: list[tuple[Batch, Batch]], optimizer: torch.optim.Optimizer) -> None:
    """What a user would write."""
    model.eval()
    for (x_forget, y_forget), (x_retain, y_retain) in batches:
        forget_loss = functional.cross_entropy(model(x_forget), y_forget)
        retain_loss = functional.cross_entropy(model(x_retain), y_retain)
        loss = ALPHA * torch.relu(TAU - forget_loss) ** 2 + (1 - ALPHA) * retain_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def ours(model: nn.Module, batches: list[tuple[Batch, Batch]], optimizer: torch.optim.Optimizer) -> None:
    """The same through nablatau's loop, history and checks included."""
    objective, device = Objective.classification(), batches[0][0][0].device

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        forget, retain = step.batches["forget"], step.batches["retain"]
        forget_loss = batch_mean(objective, model, forget)
        retain_loss = batch_mean(objective, model, retain)
        loss = nabla_tau_loss(forget_loss, retain_loss, step.values["tau"], step.values["alpha"])
        return {"loss": loss, "forget_loss": forget_loss, "retain_loss": retain_loss}

    values = {"epoch": 0.0, "tau": TAU, "alpha": ALPHA}
    steps = (Step({"forget": wrap(a), "retain": wrap(b)}, RATE, values) for a, b in batches)
    run_steps(
        model,
        steps,
        step_loss,
        optimizer,
        runtime=Runtime(progress=False),
        device=device,
        mode="eval",
        history=History(),
        total=len(batches),
    )


NOTHING = Records.all_of([])


def wrap(batch: Batch) -> RecordBatch:
    size = len(batch[1])
    return RecordBatch(batch, torch.arange(size), NOTHING, size, size, 1 / size)


def set_up(name: str, device: str) -> tuple[nn.Module, list[tuple[Batch, Batch]]]:
    build, inputs, size, steps = MODELS[name]
    torch.manual_seed(0)
    if device != "cpu":
        steps *= 5
    pairs = [
        tuple((inputs(size).to(device), torch.randint(0, 10, (size,)).to(device)) for _ in "fr") for _ in range(steps)
    ]
    return build().to(device), pairs  # type: ignore[return-value]


def seconds_of(loop: Any, model: nn.Module, batches: Any, optimizer: Any, device: str) -> float:
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    loop(model, batches, optimizer)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, device: str, rounds: int) -> dict[str, Any]:
    model, batches = set_up(name, device)
    loops = [hand_written, ours]
    models = [copy.deepcopy(model) for _ in loops]
    optimizers = [torch.optim.AdamW(each.parameters(), lr=RATE) for each in models]
    for loop, each, optimizer in zip(loops, models, optimizers, strict=True):
        loop(each, batches, optimizer)  # warm-up, not counted
    ratios, per_step = [], []
    for number in range(rounds):
        order = [0, 1] if number % 2 else [1, 0]
        taken = {i: seconds_of(loops[i], models[i], batches, optimizers[i], device) for i in order}
        ratios.append(taken[1] / taken[0])
        per_step.append(taken[0] / len(batches))
    ratios.sort()
    low = int(binom.ppf(0.025, rounds, 0.5))
    memory = [float(np.median([peak_memory(name, device, loop.__name__) for _ in range(7)])) for loop in loops]
    return {
        "model": name,
        "device": torch.cuda.get_device_name() if device != "cpu" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
        "steps a round": len(batches),
        "microseconds a hand-written step": round(1e6 * float(np.median(per_step)), 1),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio low": round(ratios[max(0, low - 1)], 4),
        "ratio high": round(ratios[min(rounds - 1, rounds - low)], 4),
        "memory MiB hand-written": round(memory[0], 2),
        "memory ratio": round(memory[1] / memory[0], 4),
    }


def peak_memory(name: str, device: str, loop: str) -> float:
    """Peak memory of one loop in MiB, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, "--loop", loop, "--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, device: str, loop: Callable[..., None]) -> None:
    model, batches = set_up(name, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        loop(model, batches, optimizer)
        print(torch.cuda.max_memory_allocated() / 2**20)
        return
    before = kibibytes("VmRSS")
    loop(model, batches, optimizer)
    print((kibibytes("VmHWM") - before) / 2**10)


def kibibytes(name: str) -> int:
    """A line of this process's memory status (Linux): VmRSS is what it holds now, VmHWM the most it ever held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak-of", choices=MODELS)
    parser.add_argument("--loop", choices=["hand_written", "ours"])
    arguments = parser.parse_args()
    if arguments.peak_of:
        print_peak(arguments.peak_of, arguments.device, globals()[arguments.loop])
        return
    records = [measure(name, arguments.device, arguments.rounds) for name in MODELS]
    for record in records:
        print(
            f"{record['model']:<20} {record['microseconds a hand-written step']:>10} µs a step   "
            f"time {record['ratio']:.3f} [{record['ratio low']:.3f}, {record['ratio high']:.3f}]   "
            f"memory {record['memory ratio']:.3f}"
        )
    for record in records:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
