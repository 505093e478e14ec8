"""From a model's name and files of records to a `Project`, and from what was made of it to a folder.

The folder is one that `from_pretrained` loads: weights, config and tokenizer, and beside them the run's record, its
report, and the model card, to which is added what was done.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from nablatau.batches import Padding
from nablatau.checkpoints import load_weights, whole_file, whole_folder
from nablatau.errors import CheckpointError, SettingsError, shortened
from nablatau.hf.adapters import merged, with_adapter
from nablatau.hf.cards import CARD_NAME, card
from nablatau.hf.pretrained import Pretrained, load, quiet
from nablatau.hf.tables import read_table
from nablatau.hf.tasks import TASKS, Columns, TextTask
from nablatau.methods.low_rank import is_adapted
from nablatau.projects import Project
from nablatau.results import Evaluation, Forgotten
from nablatau.runtime import process_rank


@dataclass(frozen=True, kw_only=True, eq=False)
class TextProject:
    """A project of a Hugging Face model and texts.

    Attributes:
        project: whose examples are dicts of tensors; all that `forget` and `evaluate` need.
        pretrained: the model and its tokenizer.
        task: what the model is trained for.
        columns: of the files that the texts come from.
    """

    project: Project = field(repr=False)
    pretrained: Pretrained
    task: TextTask = field(repr=False)
    columns: Columns

    @property
    def is_adapted(self) -> bool:
        """Whether the model has an adapter, and so frozen weights below it."""
        return is_adapted(self.pretrained.model)

    def described(self, result: Forgotten) -> Forgotten:
        """The result, its record with the model's name, the task and the versions of the libraries."""
        names = ["transformers", "tokenizers", *(["peft"] if is_adapted(result.model) else [])]
        versions = {name: metadata.version(name) for name in names}
        texts = {
            "model": self.pretrained.source,
            "architecture": type(self.pretrained.model).__name__,
            "task": self.task.name,
            "columns": vars(self.columns),
        }
        return replace(
            result, record=result.record | {"texts": texts, "versions": result.record["versions"] | versions}
        )

    def load_weights(self, place: Path) -> nn.Module:
        """A model of the same architecture with other weights.

        Args:
            place: folder that `from_pretrained` loads, or a .safetensors file of one.

        Raises:
            CheckpointError: nothing is there, or it does not fit.
        """
        if place.is_dir():
            return load(str(place), self.task.auto_class).model
        return load_weights(copy.deepcopy(self.project.model), place)

    def class_numbers(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The numbers of classes that are given by name; numbers stay.

        Raises:
            SettingsError: texts of this task have no class.
        """
        if classes and "label" not in self.task.columns:
            raise SettingsError(
                f"--forget-class needs texts that have a class, and those of --task {self.task.name} have none. Name "
                "the records with --forget-ids, or whom they belong to with --forget-group."
            )
        numbers = self.pretrained.label_numbers
        return tuple(str(numbers.get(each, each)) for each in classes)

    def save(
        self, folder: str | Path, result: Forgotten, evaluation: Evaluation | None = None, *, merge: bool = False
    ) -> Path:
        """Write a new folder that `from_pretrained` loads; it appears whole or not at all.

        Of several processes the first writes; the others need not call it, and may.

        Args:
            folder: must not exist yet.
            result: of `nablatau.forget` on `project.model`.
            evaluation: to be shown in report and card.
            merge: work an adapter into the weights of the model, rather than save it alone.

        Returns:
            The folder.

        Raises:
            CheckpointError: the folder exists, or cannot be made.
            SettingsError: there is no adapter to merge.
        """
        if process_rank() == 0:
            with whole_folder(Path(folder)) as part:
                self.write_into(part, self.described(result), evaluation, merge=merge)
        return Path(folder)

    def write_into(
        self, folder: Path, result: Forgotten, evaluation: Evaluation | None = None, *, merge: bool = False
    ) -> None:
        """Write what `save` writes into a folder that is there; arguments and errors as there.

        Args:
            folder: an empty folder.
            result: with the record of `described`.
            evaluation, merge: as of `save`.
        """
        self.check_merge(merge)
        model = merged(copy.deepcopy(result.model)) if merge else result.model
        result.write_record_into(folder, evaluation)
        try:
            with quiet():
                model.save_pretrained(folder)  # type: ignore[operator]
                if self.pretrained.has_own_config and not merge:
                    self.pretrained.config.save_pretrained(folder)
                self.pretrained.tokenizer.save_pretrained(folder)
            (folder / CARD_NAME).write_text(card(self.pretrained, result, evaluation), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"The model could not be written: {error}. Nothing was kept of it.") from error

    def add_evaluation(self, folder: str | Path, result: Forgotten, evaluation: Evaluation) -> None:
        """Put an evaluation into record, report and card of a folder that `save` wrote.

        Args:
            folder: that holds the result.
            result: with the record of `described`.
            evaluation: of it.

        Raises:
            CheckpointError: a file cannot be read or written; the model in the folder is whole.
        """
        result.add_evaluation(folder, evaluation)
        if process_rank() == 0:
            try:
                with whole_file(Path(folder) / CARD_NAME) as part:
                    part.write_text(card(self.pretrained, result, evaluation), encoding="utf-8")
            except OSError as error:
                raise CheckpointError(f"The evaluation could not be added to {folder}: {error}.") from error

    def check_merge(self, merge: bool) -> None:
        """Refuse to merge where there is no adapter.

        Raises:
            SettingsError: there is none.
        """
        if merge and not self.is_adapted:
            raise SettingsError(
                f"{self.pretrained.source} has no adapter that could be merged. Leave --merge out, or add --lora-rank."
            )


def text_project(
    model: str,
    *,
    task: str,
    train: str | Path,
    holdout: str | Path,
    test: str | Path | None = None,
    columns: Columns | None = None,
    most_tokens: int | None = None,
    lora_rank: int | None = None,
    packed: bool = False,
) -> TextProject:
    """A Hugging Face model with the texts it was trained on.

    Args:
        model: folder with weights (safetensors), config and tokenizer, or a name on the hub.
        task: "text-classification", "multi-label" or "causal-lm".
        train: file of the records it was trained on: .jsonl, .csv, .parquet, or a folder that `datasets` saved.
        holdout: file of records it was not trained on, in the same form.
        test: file of records for the evaluation alone, in the same form.
        columns: which columns hold what.
        most_tokens: of each text; as many as the model takes unless given.
        lora_rank: put a fresh LoRA adapter of this rank on the model, which alone is trained, with the head.
        packed: of causal-lm, lay the texts of a batch behind one another on their way into the model.

    Raises:
        SettingsError: an unknown task, columns that mean nothing to it, packed batches of a task or model that has
            none, or a library that is not installed.
        CheckpointError: a model or tokenizer that cannot be used.
        ProjectError: files that do not hold what is needed.
    """
    if task not in TASKS:
        raise SettingsError(f"There is no task {task!r}. Known: {shortened(list(TASKS))}.")
    kind, columns = TASKS[task], columns or Columns()
    kind.check(columns)
    make_objective = kind.packed_objective if packed else kind.objective
    if make_objective is None:
        raise SettingsError(
            f"Packed batches are for texts that are read token by token (--task causal-lm), not for --task {task}. "
            "Leave --packed out."
        )
    tables = {
        name: read_table(Path(file)) for name, file in (("train", train), ("holdout", holdout), ("test", test)) if file
    }
    ids, groups = (
        None if name is None else read(name)
        for name, read in ((columns.id, tables["train"].ids), (columns.group, tables["train"].groups))
    )
    pretrained = load(model, kind.auto_class)
    sets = {
        name: kind.read(
            table, columns if name == "train" else replace(columns, alternative=None), pretrained, most_tokens
        )
        for name, table in tables.items()
    }
    if lora_rank is not None:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of the adapter's fresh weights: the same name gives the same model
            pretrained = with_adapter(pretrained, kind.adapter_type, lora_rank)
    project = Project(
        model=pretrained.model,
        train_set=sets["train"],
        holdout_set=sets["holdout"],
        test_set=sets.get("test"),
        objective=make_objective(Padding(pretrained.tokenizer.pad_token_id)),
        ids=ids,
        groups=groups,
    )
    return TextProject(project=project, pretrained=pretrained, task=kind, columns=columns)
