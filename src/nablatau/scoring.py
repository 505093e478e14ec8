"""Scoring: one pass of a model over some records, in eval mode, to arrays with one entry a record.

Everything that evaluation says is arithmetic on these arrays; no metric or attack runs a model.
Outputs are brought to float32 before any of it is computed, whatever the precision of the forward pass.

Shapes: N records; the arrays are numpy's, float64 unless they are predictions or targets of classes.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nablatau.errors import EvidenceError, shortened
from nablatau.loading import Loader, RecordBatch
from nablatau.modes import in_mode
from nablatau.objectives import Objective
from nablatau.records import Records
from nablatau.runtime import Runtime, device_of, gather_over_processes, move
from nablatau.sharding import shard
from nablatau.signals import signals, widened

Array = npt.NDArray[Any]
MOST_LOGITS = 20_000_000
"""Numbers above which logits are not kept (80 MB a split and model)."""


@dataclass(frozen=True)
class Scores:
    """What one model says of some records.

    Attributes:
        ids: N record ids.
        arrays: by name, N entries: always "loss"; "margin", "prediction" and "target" where the objective has
            outputs; "entropy" for classes; "correct" and, up to 20 million numbers, "logits" (N, C) in float32 for
            single-label classes. Of tokens, in place of predictions and targets, "right_share" and, for
            texts, "extraction_strength", "min_k" and "min_k_plus_plus".
    """

    ids: Sequence[Hashable]
    arrays: dict[str, Array]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays


def score(model: nn.Module, records: Records, objective: Objective, runtime: Runtime | None = None) -> Scores:
    """One forward pass over the records, shared among the processes there are.

    Args:
        model: in any mode; it is asked in eval mode and put back.
        records: N records.
        objective: what a batch, a loss and a prediction are.
        runtime: device, precision and batch size; with `sharded` a copy of the model in shares is asked.

    Returns:
        The scores, in the order of the records, in every process.

    Raises:
        EvidenceError: a record's loss or margin is not finite, with the ids.
    """
    runtime = runtime or Runtime()
    device, home = runtime.device_for(model), device_of(model)
    loader = Loader(
        records,
        objective,
        batch_size=runtime.evaluation_batch_size,
        device=device,
        workers=runtime.workers,
    )
    pieces: list[tuple[npt.NDArray[np.int64], dict[str, Array]]] = []
    asked = shard(model, device) if runtime.sharded else move(model, device)
    try:
        with in_mode(asked, "eval"), torch.no_grad():
            for batch in loader:
                arrays = _score_batch(asked, batch, objective, runtime, device)
                if batch.weight:
                    pieces.append((batch.rows.numpy(), arrays))
    finally:
        move(model, home)
    return _joined([piece for part in gather_over_processes(pieces) for piece in part], records)


def _score_batch(
    model: nn.Module, batch: RecordBatch, objective: Objective, runtime: Runtime, device: torch.device
) -> dict[str, Array]:
    with runtime.autocast(device):
        if not objective.has_outputs:
            return {"loss": _array(objective.loss(model, batch.data, batch.size))}
        outputs = objective.outputs(model, batch.data)
    outputs = widened(objective.kind, outputs)
    targets = objective.targets(batch.data)
    found = {"loss": objective.loss_of_outputs(outputs, targets)} | signals(objective.kind, outputs, targets)
    arrays = {name: _array(tensor) for name, tensor in found.items()}
    if objective.kind == "single-label":
        arrays["correct"] = arrays["prediction"] == arrays["target"]
        if outputs.shape[1] * len(batch.records) <= MOST_LOGITS:
            arrays["logits"] = outputs.float().numpy(force=True)
    return arrays


def _array(tensor: Tensor) -> Array:
    """The tensor as numpy array, real numbers in float64."""
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy(force=True)


def _joined(pieces: list[tuple[npt.NDArray[np.int64], dict[str, Array]]], records: Records) -> Scores:
    """The pieces of all batches and processes in the order of the records."""
    ids = records.ids_at(range(len(records)))
    if not pieces:
        return Scores(ids, {"loss": np.zeros(0)})
    order = np.concatenate([positions for positions, _ in pieces]).argsort()
    arrays = {name: np.concatenate([part[name] for _, part in pieces])[order] for name in pieces[0][1]}
    for name in ("loss", "margin"):
        bad = np.flatnonzero(~np.isfinite(arrays.get(name, np.zeros(1))))
        if len(bad):
            raise EvidenceError(
                f"The {name} of {len(bad)} records is not finite: ids {shortened([ids[i] for i in bad])}. No statement "
                "about them can be made. Look at these records, or evaluate with precision='fp32'."
            )
    return Scores(ids, arrays)
