"""What a run records: its steps, their numbers, and what a method noticed.

A loss that is no number stops the run with an error that names step and records.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nablatau.errors import NonFiniteLossError
from nablatau.loading import RecordBatch

RECORDED_AT_ONCE = 32
"""Steps whose numbers are read from the device together: reading each would make a GPU wait."""


@dataclass
class History:
    """What happened, step by step.

    Attributes:
        columns: by name, one number a step: always `step`, `loss`, `learning_rate` and `seconds` since
            the start, and whatever the method records.
        trained_samples: examples that went forward and backward, over all processes.
        scored_samples: examples that went forward only.
        notes: what the method noticed and did, in sentences for the person who asked for it.
    """

    columns: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trained_samples: int = 0
    scored_samples: int = 0

    def __len__(self) -> int:
        return len(self.columns.get("step", ()))

    def append(self, row: dict[str, float]) -> None:
        """Add one step."""
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    @property
    def active_hinge_share(self) -> float | None:
        """Share of steps in which the forget term pushed; None for a method without one."""
        active = self.columns.get("active_hinge")
        return sum(active) / len(active) if active else None


@dataclass(slots=True)
class Step:
    """One optimizer step.

    Attributes:
        batches: by part of the request ("forget", "retain", "train"), its batch.
        learning_rate: of this step.
        values: numbers the loss function uses and the history records, such as τ and α.
    """

    batches: dict[str, RecordBatch]
    learning_rate: float
    values: dict[str, float] = field(default_factory=dict)


class Recorder:
    """Writes steps into the history; from a GPU it reads the numbers of several steps at once."""

    def __init__(
        self, history: History, on_step: Callable[[dict[str, float]], None] | None, device: torch.device
    ) -> None:
        self.history, self.on_step = history, on_step
        self.at_once = 1 if on_step or device.type == "cpu" else RECORDED_AT_ONCE
        self.waiting: list[tuple[Step, float, dict[str, Tensor]]] = []
        before = history.columns.get("seconds", ())
        self.start = time.perf_counter() - (before[-1] if before else 0.0)  # a second run goes on where one ended

    def add(self, step: Step, numbers: dict[str, Tensor]) -> None:
        seconds = time.perf_counter() - self.start
        if self.at_once == 1:
            self._write(step, seconds, {name: number.item() for name, number in numbers.items()})
            return
        self.waiting.append((_without_data(step), seconds, {name: each.detach() for name, each in numbers.items()}))
        if len(self.waiting) >= self.at_once:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        stacked = torch.stack([number for *_, numbers in self.waiting for number in numbers.values()])
        values = iter(stacked.double().tolist())
        for step, seconds, numbers in self.waiting:
            self._write(step, seconds, {name: next(values) for name in numbers})
        self.waiting.clear()

    def _write(self, step: Step, seconds: float, row: dict[str, float]) -> None:
        row |= step.values
        number = len(self.history)
        if not math.isfinite(sum(row.values())):
            _stop(number, step, row)
        if "tau" in row:
            row["active_hinge"] = float(row["tau"] > row["forget_loss"])
        row |= {"step": float(number), "learning_rate": step.learning_rate, "seconds": seconds}
        self.history.append(row)
        for batch in step.batches.values():
            self.history.trained_samples += batch.whole_size
        if self.on_step is not None:
            self.on_step(row)


def _without_data(step: Step) -> Step:
    """What is kept of a step while its numbers wait: not its examples, which would stay in memory with it."""
    return replace(step, batches={part: replace(batch, data=None) for part, batch in step.batches.items()})


def _stop(number: int, step: Step, row: dict[str, float]) -> None:
    """Name the first number that is none."""
    for name, value in row.items():
        if not math.isfinite(value):
            ids = {part: batch.records.ids_at(batch.positions) for part, batch in step.batches.items()}
            raise NonFiniteLossError(number, name, value, ids)
