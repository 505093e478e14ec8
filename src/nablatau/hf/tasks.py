"""What a model of texts is trained for: which class loads it, how its labels are read, and what its loss is.

One entry of `TASKS` a task. Another task needs a function that reads its texts and labels, and a line here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from nablatau.batches import Padding
from nablatau.errors import SettingsError
from nablatau.fingerprints import Readable
from nablatau.hf.answers import answered
from nablatau.hf.labels import class_numbers, zeros_and_ones
from nablatau.hf.pretrained import Pretrained
from nablatau.hf.tables import Table
from nablatau.hf.texts import Texts, tokenised
from nablatau.objectives import Objective

ReadLabels = Callable[[Table, Sequence[str], Mapping[str, int]], Tensor]
Read = Callable[[Table, "Columns", Pretrained, int | None], Readable]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        id: names a record; None for positions.
        text: the text, or where there is a prompt the answer to it.
        prompt: what comes before an answer; None for texts that stand alone.
        alternative: an answer to give instead, for methods that teach one; None where there is none.
        label: its label or labels; none for the task's own name for them.
        group: whom or what it belongs to; None where no request is made by it.
    """

    id: str | None = None
    text: str = "text"
    prompt: str | None = None
    alternative: str | None = None
    label: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """A task.

    Attributes:
        name: as the command line knows it.
        auto_class: of transformers, that loads its models.
        adapter_type: what peft calls it.
        columns: fields of `Columns` that mean something to it, beside `id`, `text` and `group`.
        texts_at_once: that an evaluation reads unless said otherwise.
        read: the texts of a table with their labels, each of at most so many tokens.
        objective: from the rule that makes batches.
        packed_objective: likewise, of packed batches; None where there are none.
    """

    name: str
    auto_class: str
    adapter_type: str
    columns: frozenset[str]
    texts_at_once: int
    read: Read
    objective: Callable[[Padding], Objective]
    packed_objective: Callable[[Padding], Objective] | None = None

    def check(self, columns: Columns) -> None:
        """Refuse columns that mean nothing to the task.

        Raises:
            SettingsError: naming them.
        """
        known = self.columns | {"id", "text", "group"}
        given = [each.name for each in fields(columns) if getattr(columns, each.name) != each.default]
        useless = [f"--{name}-column" for name in given if name not in known]
        if useless:
            raise SettingsError(f"{', '.join(useless)} would not be read: --task {self.name} has no use for it.")


def _labelled(read_labels: ReadLabels, label: str) -> Read:
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
        columns=frozenset({"label"}),
        texts_at_once=64,
        read=_labelled(read, label),
        objective=objective,
    )


def _answers(table: Table, columns: Columns, pretrained: Pretrained, most_tokens: int | None) -> Readable:
    """Prompts with answers, or texts alone, from the columns of a table."""
    return answered(
        table,
        pretrained,
        answer=columns.text,
        prompt=columns.prompt,
        alternative=columns.alternative,
        most_tokens=most_tokens,
    )


CAUSAL_LM = TextTask(
    name="causal-lm",
    auto_class="AutoModelForCausalLM",
    adapter_type="CAUSAL_LM",
    columns=frozenset({"prompt", "alternative"}),
    texts_at_once=8,  # their logits are as many as the texts have tokens, times a vocabulary
    read=_answers,
    objective=lambda collate: Objective.causal_lm(collate=collate),
    packed_objective=lambda collate: Objective.causal_lm(collate=collate, packed=True),
)

TASKS = {
    task.name: task
    for task in (
        _classifier(
            "text-classification", "label", class_numbers, lambda collate: Objective.classification(collate=collate)
        ),
        _classifier("multi-label", "labels", zeros_and_ones, lambda collate: Objective.multi_label(collate=collate)),
        CAUSAL_LM,
    )
}
"""The tasks, by name."""
