"""New labels for forget records, by position: which they are, and the loss under them.

Four methods train on forget records under other labels and differ in which: drawn at random (amnesiac, salun), or
asked of the original model (boundary_shrink, amun). They mix them with retain records as one set, forget records
first, so that a record's position in the set tells whether its label is replaced.

Shapes: N records of a set, F forget records, B examples in a batch, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.loading import RecordBatch, select_rows
from nablatau.methods.base import Job
from nablatau.modes import in_mode
from nablatau.records import Records
from nablatau.runtime import gather_over_processes, random_generator
from nablatau.training import StepLoss, mean_of_outputs


def joined(*parts: Records) -> Records:
    """The records of several parts of one request as one set, in this order; a record may occur twice."""
    return replace(parts[0], positions=np.concatenate([part.positions for part in parts]))


def by_position(
    job: Job, records: Records, batch_size: int, ask: Callable[[RecordBatch], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """What `ask` says of each of the N records, in their order and in every process.

    Args:
        job: with the objective and the device.
        records: N records, read once.
        batch_size: examples in a batch.
        ask: from a batch to tensors with one row an example.

    Returns:
        The tensors of all batches, with N rows each, on the job's device.
    """
    pieces: list[tuple[Sequence[int], tuple[Tensor, ...]]] = []
    for batch in job.loader(records, batch_size):
        rows = ask(batch)
        if batch.weight:
            pieces.append((batch.positions, tuple(each.cpu() for each in rows)))
    gathered = [piece for part in gather_over_processes(pieces) for piece in part]
    order = torch.tensor([position for positions, _ in gathered for position in positions]).argsort()
    columns = zip(*(rows for _, rows in gathered), strict=True)
    return tuple(torch.cat(column)[order].to(job.device) for column in columns)


def class_count(model: nn.Module, job: Job) -> int:
    """C, the width of the model's logits, asked of one forget record.

    Raises:
        SettingsError: there is one logit, and so no other class.
    """
    (batch,) = job.loader(job.request.forget_set.subset([0]), 1)
    with in_mode(model, "eval"), torch.no_grad():
        classes = job.objective.outputs(model, batch.data).shape[1]
    if classes < 2:
        raise SettingsError(
            f"The model gives {classes} logit an example, so a record can be given no other class. Use a model with "
            "one logit a class, or a method that replaces no labels."
        )
    return int(classes)


def wrong_labels(labels_N: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """For each label another one, uniformly from the C − 1 others.

    Args:
        labels_N: true class numbers.
        classes: C.
        generator: of the CPU.
    """
    shift_N = torch.randint(1, classes, labels_N.shape, generator=generator)
    return (labels_N + shift_N.to(labels_N)) % classes


def replaced_examples(batch: RecordBatch, count: int, device: torch.device) -> tuple[Tensor | None, Tensor]:
    """Which examples of a batch are among the first F records of the set, and where they stand there.

    Args:
        batch: it tells each example's position in the set.
        count: F.
        device: where the rows lie that are to be put in.

    Returns:
        chosen_B, whether an example is one of the F, None where all are; places_B, its place among them, any
        if it is none.
    """
    places_B = batch.rows.to(device)
    if count == len(batch.records):
        return None, places_B
    return places_B < count, places_B.clamp_max(count - 1)


def with_rows(column_B: Tensor, rows_F: Tensor, chosen_B: Tensor | None, places_B: Tensor) -> Tensor:
    """The column with the given rows in the places of the first F records of the set; the others as they are.

    Args:
        column_B: labels or inputs of a batch.
        rows_F: what stands for the first F records, of the column's type and on its device.
        chosen_B, places_B: as `replaced_examples` gives them.
    """
    if chosen_B is None:
        return select_rows(rows_F, places_B)
    if column_B.ndim > 1:
        chosen_B = chosen_B.view(-1, *[1] * (column_B.ndim - 1))
    return torch.where(chosen_B, select_rows(rows_F, places_B), column_B)


def relabelled_loss(job: Job, part: str, labels_F: Tensor) -> StepLoss:
    """The mean loss of a step's batch in which the first F records of the set have these labels.

    Args:
        job: with the objective.
        part: what the batch is called in the step.
        labels_F: the new class numbers.
    """

    count = len(labels_F)

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        batch = step.batches[part]
        targets_B = job.objective.targets(batch.data)
        targets_B = with_rows(targets_B, labels_F, *replaced_examples(batch, count, job.device))
        outputs_BC = job.objective.outputs(model, batch.data)
        return {"loss": mean_of_outputs(job.objective, outputs_BC, targets_B, batch)}

    return step_loss


def randomly_relabelled(model: nn.Module, job: Job, batch_size: int) -> Tensor:
    """A wrong label for each forget record, drawn once, alike in every process.

    Args:
        model: its logits tell the number of classes.
        job: with the forget set and the seed.
        batch_size: examples read at once.
    """
    classes = class_count(model, job)
    (labels_F,) = by_position(
        job, job.request.forget_set, batch_size, lambda batch: (job.objective.targets(batch.data),)
    )
    return wrong_labels(labels_F, classes, random_generator(job.seed, "wrong labels"))
