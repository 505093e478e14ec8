"""Time of a step of each method that trains beside a hand-written PyTorch loop that does the same work, in one process.

    python benchmarks/method_overhead.py            # a table, and one JSON record a row on the last lines
    python benchmarks/method_overhead.py --network "digits perceptron" --method scrub --rounds 41

The loops stand in hand_written_loops.py and hand_written_descents.py. Both take the same batches in the same order and
end with the same weights, which is checked. Time is processor time on one thread, from the first step to the last: what
happens once (copying the model, labels, masks, teachers, attacks, the bound) is excluded from both; what belongs to the
steps (reading batches from tensors, a teacher's forward pass, τ, the mask, the checkpoints of scrub_r, recording
losses) is in both. The two alternate, and the figure is the median over rounds of the ratio of their times, with the
interval of that median (order statistics, 95 %).
"""

import argparse
import copy
import gc
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hand_written_descents import DESCENTS
from hand_written_loops import LOOPS as OTHERS
from hand_written_loops import Case, Loop
from scipy.stats import binom
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nablatau import Objective, Recipe, Runtime, TrainingData, recipes
from nablatau.data import Request
from nablatau.history import History
from nablatau.methods import METHODS, steps
from nablatau.methods.base import Job, Method
from nablatau.tasks.models import ResNet18, perceptron
from nablatau.training import run_steps

CLASSES, SEED = 10, 0
LOOPS = OTHERS | DESCENTS


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A network, the records of a request, and how many steps a round has.

    Attributes:
        build: makes the network.
        shape: of an input.
        batch: examples in a batch.
        forget, retain, unseen: batches of each; the holdout set has twice the last, half for methods.
        steps: about so many in a round.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    forget: int
    retain: int
    unseen: int
    steps: int

    def passes(self, batches: int) -> int:
        """Passes over so many batches that make about `steps`."""
        return max(1, round(self.steps / batches))


NETWORKS = {
    "digits perceptron": Setting(
        build=lambda: perceptron(64, 128, CLASSES), shape=(64,), batch=64, forget=4, retain=12, unseen=4, steps=48
    ),
    "small CIFAR ResNet": Setting(
        build=lambda: ResNet18(CLASSES, width=16, cifar_stem=True),
        shape=(3, 32, 32),
        batch=32,
        forget=1,
        retain=3,
        unseen=1,
        steps=3,
    ),
}
"""By name."""


def settings_of(name: str, s: Setting) -> dict[str, Any]:
    """Settings of a method that make a round of about as many steps; batches of one size; the rest is its default."""
    mixed = {"batch_size": s.batch, "epochs": s.passes(s.forget + s.retain)}
    retain = {"batch_size": s.batch, "epochs": s.passes(s.retain)}
    schedule = {"batch_size": s.batch, "budget": 2 * s.steps / s.retain}
    both = {"forget_batch_size": s.batch, "retain_batch_size": s.batch}
    epochs = s.passes(s.forget + s.retain)
    return {
        "nabla_tau_paper": schedule,
        "finetune": schedule,
        "neg_grad": {
            "batch_size": s.batch,
            "epochs": s.passes(s.forget),
            "learning_rate": 1e-4,  # far from the bound, so that no step is the last
            "loss_bound": 1e9,
        },
        "neg_grad_plus": {**both, "epochs": s.passes(s.retain)},
        "scrub": {**both, "epochs": epochs, "max_epochs": epochs},
        "scrub_r": {**both, "epochs": epochs, "max_epochs": epochs},
        "bad_teacher": {**mixed, "retain_share": 1.0},
        "amnesiac": mixed,
        "salun": mixed,
        "l1_sparse": retain,
        "boundary_shrink": {"batch_size": s.batch, "epochs": s.passes(s.forget)},
        "retrain": {},
        "eu_k": {},
        "cf_k": retain,
        "ct": retain,
        "msg": retain,
        "unsir": {
            "batch_size": s.batch,
            "impair_epochs": s.passes(2 * s.retain),
            "repair_epochs": s.passes(2 * s.retain),
            "noise_count": s.batch,  # few, and few steps on them, which happen once and are not measured
            "noise_steps": 2,
        },
        "amun": {"batch_size": s.batch, "epochs": s.passes(2 * s.forget + s.retain), "rate_factor": 1.0},
    }[name]


def request_of(s: Setting) -> Request:
    """A request for class 0, of which there are `forget` batches of random records."""
    torch.manual_seed(SEED)
    forget, kept, unseen = s.forget * s.batch, s.retain * s.batch, 2 * s.unseen * s.batch
    labels = torch.cat([torch.zeros(forget, dtype=torch.long), torch.randint(1, CLASSES, (kept,))])
    train_set = TensorDataset(torch.randn(forget + kept, *s.shape), labels)
    holdout_set = TensorDataset(torch.randn(unseen, *s.shape), torch.arange(unseen) % CLASSES)
    return TrainingData(train_set, holdout_set).forget_class(0)


class Timed:
    """`run_steps`, which keeps the processor time it took, and the model as it was before the first step."""

    def __init__(self) -> None:
        self.seconds, self.start, self.steps = 0.0, None, 0

    def __call__(self, model: nn.Module, *arguments: Any, **named: Any) -> None:
        if self.start is None:
            self.start = copy.deepcopy(model)
        began, before = time.process_time(), len(named["history"])
        run_steps(model, *arguments, **named)
        self.seconds += time.process_time() - began
        self.steps += len(named["history"]) - before


class Bench:
    """One method on one network: runs it, and the loop that does the same."""

    def __init__(self, name: str, network: str) -> None:
        s = NETWORKS[network]
        torch.manual_seed(SEED)
        self.name, self.original, self.request = name, s.build().eval(), request_of(s)
        self.method: Method = METHODS[name](**settings_of(name, s))
        self.recipe = Recipe(epochs=s.passes(s.retain), learning_rate=0.01, batch_size=s.batch)
        self.runtime, self.objective = Runtime(progress=False), Objective.classification()
        self.start: nn.Module | None = None
        self.steps = 0

    def ours(self) -> tuple[float, nn.Module]:
        """Processor seconds of the method's steps, and the model it made."""
        steps.run_steps = recipes.run_steps = timed = Timed()  # type: ignore[assignment]
        gc.collect()
        model = self.method.unlearn(
            self.original, self.request, self.objective, seed=SEED, recipe=self.recipe, runtime=self.runtime
        ).model
        self.start, self.steps = timed.start, timed.steps
        return timed.seconds, model

    def hand_written(self) -> tuple[float, nn.Module]:
        """The same of the loop; the weights before its first step are those of the method's last run."""
        assert self.start is not None
        model = copy.deepcopy(self.start)
        loop: Loop = LOOPS[self.name](self._case(model))
        gc.collect()
        began = time.process_time()
        losses = loop()
        seconds = time.process_time() - began
        if len(losses) != self.steps:
            raise SystemExit(f"{self.name}: the loop takes {len(losses)} steps, the method {self.steps}.")
        return seconds, model

    def _case(self, model: nn.Module) -> Case:
        job = Job(
            request=self.request.for_methods(),
            objective=self.objective,
            recipe=self.recipe,
            seed=SEED,
            runtime=self.runtime,
            device=torch.device("cpu"),
            history=History(),
            on_step=None,
        )
        original = copy.deepcopy(self.original)
        request = self.request
        parts = [tensors_of(each) for each in (request.forget_set, request.retain_set, request.holdout_set)]
        return Case(model, original, self.method, job, *parts)


def tensors_of(records: Any) -> tuple[Tensor, Tensor]:
    x, y = records.dataset[torch.from_numpy(records.positions)]
    return x, y


def difference(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of any weight or buffer, relative to the largest value in its tensor or to 1e-3."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs if a.is_floating_point())


def measure(name: str, network: str, rounds: int) -> dict[str, Any]:
    bench = Bench(name, network)
    (_, ours), (_, theirs) = bench.ours(), bench.hand_written()  # warm-up, not counted
    apart = difference(ours, theirs)
    if apart > 1e-3 and name != "scrub_r":  # which goes back to an epoch afterwards
        raise SystemExit(f"{name} on {network}: the loop does other work, its weights differ by {apart:.2g}.")
    ratios, per_step = [], []
    for number in range(rounds):
        first = bench.ours()[0] if number % 2 else None
        taken = bench.hand_written()[0]
        ratios.append((bench.ours()[0] if first is None else first) / taken)
        per_step.append(taken / bench.steps)
    ratios.sort()
    low = int(binom.ppf(0.025, rounds, 0.5))
    return {
        "method": name,
        "network": network,
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rounds": rounds,
        "steps a round": bench.steps,
        "microseconds a hand-written step": round(1e6 * float(np.median(per_step)), 1),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio low": round(ratios[max(0, low - 1)], 4),
        "ratio high": round(ratios[min(rounds - 1, rounds - low)], 4),
        "difference of weights": apart,
    }


def has_convolutions(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--network", choices=NETWORKS, nargs="*", default=list(NETWORKS))
    parser.add_argument("--method", choices=LOOPS, nargs="*", default=list(LOOPS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = []
    for network in arguments.network:
        for name in arguments.method:
            if name == "ct" and not has_convolutions(NETWORKS[network].build()):
                continue
            record = measure(name, network, arguments.rounds)
            records.append(record)
            print(
                f"{network:<20} {name:<16} {record['microseconds a hand-written step']:>10} µs a step   "
                f"time {record['ratio']:.3f} [{record['ratio low']:.3f}, {record['ratio high']:.3f}]   "
                f"weights differ by {record['difference of weights']:.1g}",
                flush=True,
            )
    for record in records:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
