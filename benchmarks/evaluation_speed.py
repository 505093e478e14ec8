"""Time and memory of the evaluation alone: all rows of tiers 1 and 2 and the verdict, from saved arrays.

    python benchmarks/evaluation_speed.py            # a line, and one JSON record on the last line

100,000 examples of 10 classes: retain 45,000, forget 15,000, unseen 20,000 and test 20,000, each scored under three
models (original, unlearned, retrained), so 300,000 rows of arrays. The models are made up: margins with a known effect.
No model runs. Reading the folder (with its hashes), `summarise` and `judge` are timed apart; peak memory is that of the
process, and what it held before the folder was read is given beside it.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nablatau.evaluation import judge, summarise
from nablatau.evidence import Evidence
from nablatau.scoring import Scores
from nablatau.signals import signals

SIZES = {"retain": 45_000, "forget": 15_000, "unseen": 20_000, "test": 20_000}
CLASSES = 10
MODELS = {"original": ("retain", "forget"), "unlearned": ("retain",), "retrained": ("retain",)}
"""By model: the splits on which it knows the label by 2 nats more."""


def made_up(seed: int = 0) -> Evidence:
    """Evidence of a perfect unlearning."""
    generator = torch.Generator().manual_seed(seed)
    scores: dict[str, dict[str, Scores]] = {model: {} for model in MODELS}
    for split, size in SIZES.items():
        target = torch.randint(0, CLASSES, (size,), generator=generator)
        ease = 2 + 1.5 * torch.randn(size, generator=generator)
        for model, known in MODELS.items():
            logits = torch.randn(size, CLASSES, generator=generator)
            logits[torch.arange(size), target] += ease + 2 * (split in known)
            found = signals("single-label", logits, target)
            arrays = {
                name: (each.double() if each.is_floating_point() else each).numpy() for name, each in found.items()
            }
            arrays["loss"] = torch.nn.functional.cross_entropy(logits, target, reduction="none").double().numpy()
            arrays |= {"correct": arrays["prediction"] == arrays["target"], "logits": logits.numpy()}
            scores[model][split] = Scores([f"{split} {i}" for i in range(size)], arrays)
    return Evidence(
        kind="single-label",
        goal="records",
        random_draw=True,
        comparable=np.arange(SIZES["unseen"]),
        scores=scores,
        costs={},
    )


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def measure(folder: Path) -> dict[str, Any]:
    """Seconds and megabytes of one evaluation of the saved evidence."""
    before = peak_mb()
    times = [time.perf_counter()]
    found = Evidence.load(folder)
    times.append(time.perf_counter())
    rows = summarise(found)
    times.append(time.perf_counter())
    verdict = judge(found)
    times.append(time.perf_counter())
    load, summary, judgement = np.diff(times).round(2).tolist()
    return {
        "load_seconds": load,
        "summarise_seconds": summary,
        "judge_seconds": judgement,
        "seconds": round(summary + judgement, 2),
        "processor_seconds": round(time.process_time(), 2),
        "memory_before_mb": round(before),
        "peak_memory_mb": round(peak_mb()),
        "rows": len(rows),
        "verdict": str(verdict.word),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="measure this saved evidence, in this process")
    parser.add_argument("--rounds", type=int, default=3, help="processes to measure; the median is shown")
    chosen = parser.parse_args()
    if chosen.folder is not None:
        print(json.dumps(measure(chosen.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        made_up().write_into(Path(folder))
        command = [sys.executable, __file__, "--folder", folder]
        outputs = [
            subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(chosen.rounds)
        ]
    records = sorted((json.loads(output) for output in outputs), key=lambda record: record["seconds"])
    middle = records[len(records) // 2]
    print(f"{middle['seconds']} s and {middle['peak_memory_mb']} MB at most for {sum(SIZES.values()):,} examples.")
    where = {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    every = [record["seconds"] for record in records]
    print(json.dumps({"sizes": SIZES, "models": len(MODELS), **middle, "every_seconds": every, **where, **versions}))


if __name__ == "__main__":
    main()
