"""A causal language model's step beside a hand-written loop, and the memory of LoRA unlearning beside LoRA training.

    python benchmarks/language_models.py                      # a small Llama on a CPU, about four minutes
    python benchmarks/language_models.py --size 1b --device cuda --precision bf16

*Step*: both loops descend on the same batches with AdamW, in alternation, so that what else the machine does falls on
both alike; by hand the loss is the one that transformers computes. The figure is the median over rounds of the ratio of
their times, with the interval of that median (order statistics, 95 %). *Packed*: forward and backward of the same texts
of 16 to 128 tokens, padded and packed, compared in the same way. *Memory*: the peak of each way in a process of
its own, less what the process holds before (model and texts), the median of 3: by hand a LoRA adapter is trained on
batches of as many texts as a step of the default of ∇τ has with the forget records that join it; ours unlearns a tenth
of the texts with `share_frozen`, evaluation not included.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from scipy.stats import binom
from torch import Tensor, nn

from nablatau import NablaTau, Objective, Runtime, TrainingData
from nablatau.bench.memory import peak_memory
from nablatau.history import History, Step
from nablatau.loading import RecordBatch
from nablatau.records import Records
from nablatau.training import batch_mean, run_steps

SIZES: dict[str, dict[str, int]] = {
    "small": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 768,
    },
    "1b": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
    },
}
"""Of Llamas from config; the larger is as large as Llama-3.2-1B."""
TEXTS, BATCH, TOKENS, STEPS, RATE = 160, 8, 128, 6, 1e-4
OBJECTIVE = Objective.causal_lm()
Batch = dict[str, Tensor]


def llama(size: str, device: str) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES[size], max_position_embeddings=TOKENS, use_cache=False)
    return transformers.LlamaForCausalLM(config).to(device).eval()  # type: ignore[no-any-return,arg-type]


def adapted(size: str, device: str) -> nn.Module:
    import peft

    config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    return peft.get_peft_model(llama(size, device), config).eval()  # type: ignore[arg-type,return-value]


def texts(size: str, count: int, seed: int) -> list[Batch]:
    """Random tokens, all of which count."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(SIZES[size]["vocab_size"], (count, TOKENS), generator=generator)
    return [{"input_ids": each, "labels": each} for each in tokens]


def by_hand(model: nn.Module, batches: list[Batch], optimizer: torch.optim.Optimizer, runtime: Runtime) -> None:
    """What a user would write."""
    device = batches[0]["input_ids"].device
    for batch in batches:
        with runtime.autocast(device):
            loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # both loops keep each step's loss


def ours(model: nn.Module, batches: list[Batch], optimizer: torch.optim.Optimizer, runtime: Runtime) -> None:
    """The same through nablatau's loop, history and checks included."""

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        return {"loss": batch_mean(OBJECTIVE, model, step.batches["train"])}

    nothing = Records.all_of([])
    size = len(batches[0]["input_ids"])
    wrapped = (RecordBatch(each, torch.arange(size), nothing, size, size, 1 / size) for each in batches)
    run_steps(
        model,
        (Step({"train": each}, RATE) for each in wrapped),
        step_loss,
        optimizer,
        runtime=runtime,
        device=batches[0]["input_ids"].device,
        mode="eval",
        history=History(),
        total=len(batches),
    )


def batches_of(size: str, device: str, batch: int, count: int) -> list[Batch]:
    rows = texts(size, batch * count, seed=1)
    pieces = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return [{key: torch.stack([each[key] for each in piece]).to(device) for key in piece[0]} for piece in pieces]


def compared(ways: Sequence[Callable[[], None]], device: str, rounds: int) -> dict[str, float]:
    """The time of the second way ÷ that of the first: median over rounds and its interval; seconds of the first."""

    def seconds(which: int) -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        ways[which]()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for which in (0, 1):
        seconds(which)  # warm-up, not counted
    taken = [{which: seconds(which) for which in ((0, 1) if number % 2 else (1, 0))} for number in range(rounds)]
    ratios = sorted(each[1] / each[0] for each in taken)
    low = int(binom.ppf(0.025, rounds, 0.5))
    return {
        "ratio": statistics.median(ratios),
        "low": ratios[max(0, low - 1)],
        "high": ratios[min(rounds - 1, rounds - low)],
        "rounds": rounds,
        "seconds": statistics.median(each[0] for each in taken),
    }


def step_ratio(size: str, device: str, runtime: Runtime, rounds: int) -> dict[str, float]:
    """Ours ÷ by hand, and tokens a second by hand."""
    model, batches = llama(size, device), batches_of(size, device, BATCH, STEPS)
    ways = []
    for loop, own in ((by_hand, model), (ours, copy.deepcopy(model))):
        ways.append(partial(loop, own, batches, torch.optim.AdamW(own.parameters(), lr=RATE), runtime))
    found = compared(ways, device, rounds)
    return found | {"tokens a second by hand": BATCH * TOKENS * STEPS / found["seconds"]}


def packed_ratio(size: str, device: str, runtime: Runtime, rounds: int) -> dict[str, float]:
    """Packed ÷ padded: forward and backward of two batches of 32 texts of 16 to 128 tokens."""
    model = llama(size, device)
    generator = torch.Generator().manual_seed(3)
    rows = texts(size, 2 * 4 * BATCH, seed=1)
    for row in rows:
        length = int(torch.randint(16, TOKENS + 1, (1,), generator=generator))
        row |= {name: tokens[:length] for name, tokens in row.items()}
    pieces = [OBJECTIVE.collate(rows[start::2]) for start in range(2)]
    batches = [{name: tokens.to(device) for name, tokens in piece.items()} for piece in pieces]

    def descend(objective: Objective) -> None:
        for batch in batches:
            model.zero_grad()
            with runtime.autocast(torch.device(device)):
                loss = objective.mean_loss(model, batch, 4 * BATCH)
            loss.backward()  # type: ignore[no-untyped-call]

    ways = [partial(descend, objective) for objective in (OBJECTIVE, Objective.causal_lm(packed=True))]
    return compared(ways, device, rounds)


def train_adapter(size: str, device: str, runtime: Runtime) -> Callable[[], None]:
    """LoRA fine-tuning by hand, on as many texts a step as the other way has at most."""
    model = adapted(size, device)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=RATE)
    batches = batches_of(size, device, BATCH + 1, STEPS)  # 64 visits in some 40 steps of the second half: 1 or 2
    return lambda: by_hand(model, batches, optimizer, runtime)


def unlearn_adapter(size: str, device: str, runtime: Runtime) -> Callable[[], None]:
    """∇τ's default into the adapter."""
    model = adapted(size, device)
    data = TrainingData(texts(size, TEXTS, seed=1), texts(size, 32, seed=2))
    request = data.forget_fraction(0.1)
    method = NablaTau(batch_size=BATCH, passes=5.0, least_records=1)
    return lambda: void(method.unlearn(model, request, OBJECTIVE, runtime=runtime))


def void(_: object) -> None:
    """Nothing."""


WAYS = {"by hand": train_adapter, "ours": unlearn_adapter}


def peak_of(way: str, arguments: list[str]) -> float:
    """Peak memory of one way in MiB, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", way, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(way: str, size: str, device: str, runtime: Runtime) -> None:
    run = WAYS[way](size, device, runtime)
    before = torch.cuda.memory_allocated() if device != "cpu" else resident()
    with peak_memory(torch.device(device)) as peak:
        run()
    print((peak.size - before) / 2**20)


def resident() -> int:
    """What this process holds, in bytes (Linux)."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return int(status.read().split("VmRSS:")[1].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--peak-of", choices=WAYS)
    asked = parser.parse_args()
    runtime = Runtime(
        precision=asked.precision, share_frozen=True, progress=False, evaluation_batch_size=BATCH, device=asked.device
    )
    if asked.peak_of:
        print_peak(asked.peak_of, asked.size, asked.device, runtime)
        return
    step: dict[str, Any] = step_ratio(asked.size, asked.device, runtime, asked.rounds)
    packed = packed_ratio(asked.size, asked.device, runtime, asked.rounds)
    for name, found in (("step ÷ by hand", step), ("packed ÷ padded", packed)):
        print(f"{name} {found['ratio']:.3f} [{found['low']:.3f}, {found['high']:.3f}], {found['rounds']} rounds")
    passed_on = ["--size", asked.size, "--device", asked.device, "--precision", asked.precision]
    peaks = {way: statistics.median(peak_of(way, passed_on) for _ in range(3)) for way in WAYS}
    base = sum(each.nbytes for each in llama(asked.size, "cpu").parameters()) / 2**20
    print(
        f"LoRA, MiB beside the model: by hand {peaks['by hand']:.0f}, ours {peaks['ours']:.0f}, the model {base:.0f}; "
        f"ratio with the model {(peaks['ours'] + base) / (peaks['by hand'] + base):.3f}"
    )
    print(
        json.dumps(
            {"torch": torch.__version__, "threads": torch.get_num_threads(), **step, "packed": packed, "MiB": peaks}
        )
    )


if __name__ == "__main__":
    main()
