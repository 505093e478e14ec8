"""What a model of texts is trained for: which class loads it, how its labels are read, and what its loss is.

One entry of `TASKS` a task. Another task needs a function that reads its texts and labels, and a line here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from nablatau.hf.labels import class_numbers, zeros_and_ones
from nablatau.hf.pretrained import Pretrained
from nablatau.hf.tables import Table
from nablatau.hf.texts import Padding, Texts, tokenised
from nablatau.objectives import Objective

ReadLabels = Callable[[Table, Sequence[str], Mapping[str, int]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        id: names a record; None for positions.
        text: the text.
        label: its label or labels; none for the task's own name for them.
        group: whom or what it belongs to; None where no request is made by it.
    """

    id: str | None = None
    text: str = "text"
    label: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """A task.

    Attributes:
        name: as the command line knows it.
        auto_class: of transformers, that loads its models.
        adapter_type: what peft calls it.
        label: name of the label column unless another is given.
        read: the texts of a table with their labels, each of at most so many tokens.
        objective: from the rule that makes batches.
    """

    name: str
    auto_class: str
    adapter_type: str
    label: str
    read: Callable[[Table, Columns, Pretrained, int | None], Texts]
    objective: Callable[[Padding], Objective]


def _labelled(read_labels: ReadLabels, label: str) -> Callable[[Table, Columns, Pretrained, int | None], Texts]:
    """A reader of texts whose labels are known by the model's config."""

    def read(table: Table, columns: Columns, pretrained: Pretrained, most_tokens: int | None) -> Texts:
        labels = read_labels(table, columns.label or (label,), pretrained.label_numbers)
        return Texts(tokenised(table, columns.text, pretrained, most_tokens=most_tokens), labels)

    return read


def _classifier(name: str, label: str, read: ReadLabels, objective: Callable[[Padding], Objective]) -> TextTask:
    return TextTask(
        name=name,
        auto_class="AutoModelForSequenceClassification",
        adapter_type="SEQ_CLS",
        label=label,
        read=_labelled(read, label),
        objective=objective,
    )


TASKS = {
    task.name: task
    for task in (
        _classifier(
            "text-classification", "label", class_numbers, lambda collate: Objective.classification(collate=collate)
        ),
        _classifier("multi-label", "labels", zeros_and_ones, lambda collate: Objective.multi_label(collate=collate)),
    )
}
"""The tasks, by name."""
