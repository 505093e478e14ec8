"""Time and memory of the loss of texts and its gradient beside what a user would write, from the same logits.

    python benchmarks/token_losses.py             # a table, and one JSON record a type on the last lines

The loss is the mean over texts of the mean over their labelled tokens. By hand: all logits in float32, torch's
cross-entropy, the mean. Both alternate, so that what else the machine does falls on both alike; the figure is the
median over rounds of the ratio of their times. Memory is the peak of each in a process of its own, less what it
holds before, logits among that; the gradient, as large as the logits, is in it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from nablatau import Objective
from nablatau.bench.memory import peak_memory

TEXTS, TOKENS, WORDS, ROUNDS = 8, 256, 32_000, 7
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OBJECTIVE = Objective.causal_lm()


def by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    """What a user would write."""
    targets = functional.pad(labels[:, 1:], (0, 1), value=-100)
    losses = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return (losses.view_as(targets).sum(1) / (targets != -100).sum(1)).mean()


def ours(logits: Tensor, labels: Tensor) -> Tensor:
    return OBJECTIVE.mean_loss(nn.Identity(), (logits, labels), TEXTS)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ours": ours, "by hand": by_hand}


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits, and labels of which a third are a prompt's."""
    torch.manual_seed(0)
    labels = torch.randint(0, WORDS, (TEXTS, TOKENS))
    labels[:, : TOKENS // 3] = -100
    return torch.randn(TEXTS, TOKENS, WORDS, dtype=dtype).requires_grad_(), labels


def seconds(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> float:
    logits.grad = None
    start = time.perf_counter()
    loss(logits, labels).backward()
    return time.perf_counter() - start


def megabytes(name: str, kind: str) -> float:
    """Of one loss in a process of its own."""
    command = [sys.executable, __file__, name, kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measured_alone(name: str, kind: str) -> float:
    logits, labels = inputs(TYPES[kind])
    with peak_memory(logits.device) as before:
        pass
    with peak_memory(logits.device) as peak:
        LOSSES[name](logits, labels).backward()
    return (peak.size - before.size) / 1e6


def main() -> None:
    if len(sys.argv) == 3:
        print(measured_alone(*sys.argv[1:]))
        return
    torch.set_num_threads(1)
    records = []
    for kind, dtype in TYPES.items():
        logits, labels = inputs(dtype)
        times = [{name: seconds(loss, logits, labels) for name, loss in LOSSES.items()} for _ in range(ROUNDS)]
        ratio = sorted(each["ours"] / each["by hand"] for each in times)[ROUNDS // 2]
        memory = {name: round(megabytes(name, kind)) for name in LOSSES}
        shape = (TEXTS, TOKENS, WORDS)
        records.append({"type": kind, "shape": shape, "rounds": ROUNDS, "time_ratio": ratio, "megabytes": memory})
        print(f"{kind:10} time ÷ by hand {ratio:.3f}   memory {memory['ours']} MB, by hand {memory['by hand']} MB")
    for record in records:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
