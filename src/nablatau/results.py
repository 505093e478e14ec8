"""What `forget` and `evaluate` give back: a model with its record, an evaluation with its report, and both on disk.

Saved folders are whole or not there at all.
"""

import hashlib
import io
import json
import platform
import secrets
from collections.abc import Hashable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nablatau.checkpoints import WEIGHTS_NAME, save_weights, whole_file, whole_folder
from nablatau.data import Request
from nablatau.errors import CheckpointError, SettingsError
from nablatau.evaluation import Row, Verdict, judge, preflight, sentence, summarise
from nablatau.evidence import Cost, Evidence
from nablatau.history import History
from nablatau.methods import Method
from nablatau.report import Page, render
from nablatau.runtime import process_rank

SALT_NAME = "ids.salt"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """A model that was made to forget, with what it takes to show how.

    Attributes:
        model: the unlearned model, in eval mode.
        history: what happened, step by step.
        request: what was to be forgotten.
        record: settings, seeds, versions, hashes of the model before and after; JSON-able.
        method: with its settings.
        seconds: wall time of the method.
    """

    model: nn.Module = field(repr=False)
    history: History = field(repr=False)
    request: Request = field(repr=False)
    record: dict[str, Any] = field(repr=False)
    method: Method
    seconds: float

    @property
    def cost(self) -> Cost:
        """What the method took."""
        return Cost(
            seconds=self.seconds,
            trained_samples=self.history.trained_samples,
            scored_samples=self.history.scored_samples,
        )

    def save(self, folder: str | Path, evaluation: "Evaluation | None" = None) -> Path:
        """Write weights, record and report into a new folder, which appears whole or not at all.

        Of several processes the first writes; the others need not call it, and may.

        `model.safetensors` holds the weights; `run.json` the record, with the forgotten ids hashed;
        `report.html` the page; `ids.salt` the salt of the hashes. Whoever has the salt can test
        whether an id was in the request, so keep it apart from what you hand out.

        Args:
            folder: a folder that does not exist yet.
            evaluation: to be shown in the report.

        Returns:
            The folder.

        Raises:
            CheckpointError: the folder exists, or cannot be made.
        """
        if process_rank() == 0:
            with whole_folder(Path(folder)) as part:
                self.write_into(part, evaluation)
        return Path(folder)

    def write_into(self, folder: Path, evaluation: "Evaluation | None" = None) -> None:
        """Write what `save` writes into a folder that is there.

        Args:
            folder: an empty folder.
            evaluation: to be shown in the report.

        Raises:
            CheckpointError: a file cannot be written, for instance because the disk is full.
        """
        self.write_record_into(folder, evaluation)
        try:
            save_weights(self.model, folder / WEIGHTS_NAME, {"nablatau_run": self.record["model_after"]})
        except OSError as error:
            raise _unwritten(error) from error

    def write_record_into(self, folder: Path, evaluation: "Evaluation | None" = None) -> None:
        """Write what `save` writes, but for the weights, into a folder that is there; arguments and errors as there."""
        salt = secrets.token_hex(16)
        try:
            (folder / SALT_NAME).write_text(salt + "\n", encoding="utf-8")
            self._write_record(folder, salt, evaluation)
        except OSError as error:
            raise _unwritten(error) from error

    def add_evaluation(self, folder: str | Path, evaluation: "Evaluation") -> None:
        """Put an evaluation into record and report of a folder that `save` wrote; each file is the old or the new one.

        Of several processes the first writes.

        Args:
            folder: that holds this result.
            evaluation: of it.

        Raises:
            CheckpointError: a file cannot be read or written; the model in the folder is whole.
        """
        folder = Path(folder)
        if process_rank() != 0:
            return
        try:
            salt = (folder / SALT_NAME).read_text(encoding="utf-8").strip()
            self._write_record(folder, salt, evaluation)
        except OSError as error:
            raise CheckpointError(f"The evaluation could not be added to {folder}: {error}.") from error

    def _write_record(self, folder: Path, salt: str, evaluation: "Evaluation | None") -> None:
        hashed = {"salted_sha256": salted_digests(self.request.forget_set.ids_at(range(self.forgotten)), salt)}
        record = self.record | {"forget_ids": hashed}
        if evaluation is not None:
            record |= {"evaluated": evaluation.record["evaluated"]}
            seen = [each for each in evaluation.record.get("notes", ()) if each not in record["notes"]]
            record["notes"] = [*seen, *record["notes"]]
            record["evaluation"] = evaluation.to_json()
        texts = {
            "run.json": json.dumps(record, indent=1, default=str),
            "report.html": render(_page(record, evaluation, self.history)),
        }
        for name, text in texts.items():
            with whole_file(folder / name) as part:
                part.write_text(text, encoding="utf-8")

    @property
    def forgotten(self) -> int:
        """Number of records forgotten."""
        return len(self.request.forget_set)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the evidence says.

    Attributes:
        evidence: per-example arrays of each model on each split.
        rows: the numbers, each with interval and sample sizes.
        verdict: what they say together.
        record: of the run that made the unlearned model, where nablatau made it.
        history: of that run.
    """

    evidence: Evidence
    rows: list[Row]
    verdict: Verdict
    record: dict[str, Any] = field(repr=False)
    history: History | None = field(default=None, repr=False)

    @property
    def answer(self) -> str:
        """The verdict, and the numbers that matter most, in plain words."""
        return f"{self.verdict.sentence}\n{sentence(self.evidence, self.rows)}"

    @classmethod
    def of(cls, evidence: Evidence, record: dict[str, Any], history: History | None = None) -> "Evaluation":
        """The evaluation of evidence: arithmetic on its arrays, no model needed."""
        rows, verdict = summarise(evidence), judge(evidence)
        return cls(evidence=evidence, rows=rows, verdict=verdict, record=record, history=history)

    @classmethod
    def load(cls, folder: str | Path) -> "Evaluation":
        """The evaluation of evidence that `save_evidence` wrote.

        Args:
            folder: of saved evidence.

        Raises:
            EvidenceError: it is not whole, was changed, or has a newer format.
        """
        evidence = Evidence.load(folder)
        record = json.loads((Path(folder) / "record.json").read_text(encoding="utf-8"))
        return cls.of(evidence, record)

    def save_evidence(self, folder: str | Path) -> Path:
        """Write the per-example arrays, with their hashes and record ids, and the record, into a new folder.

        Of several processes the first writes, as in all that is saved.

        Args:
            folder: must not exist yet.

        Raises:
            CheckpointError: the folder exists, or cannot be made.
        """
        if process_rank() == 0:
            with whole_folder(Path(folder)) as part:
                self.evidence.write_into(part)
                (part / "record.json").write_text(json.dumps(self.record, indent=1, default=str), encoding="utf-8")
        return Path(folder)

    def table(self, *, full: bool = False) -> str:
        """The rows that could be computed, and the costs, as text.

        Args:
            full: every row instead of the ones that matter most.
        """
        from rich.console import Console
        from rich.table import Table

        table = Table("", *self.evidence.models, box=None, pad_edge=False)
        for row in self.rows:
            if (full or row.headline) and any(each is not None for each in row.values.values()):
                table.add_row(row.name, *("" if each is None else str(each) for each in row.values.values()))
        costs = [self.evidence.costs.get(model) for model in self.evidence.models]
        table.add_row("Seconds", *("" if cost is None else f"{cost.seconds:.2f}" for cost in costs))
        table.add_row("Examples trained on", *("" if cost is None else f"{cost.trained_samples:,}" for cost in costs))
        stream = io.StringIO()
        Console(file=stream, width=60 + 25 * len(costs), color_system=None).print(table)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def to_json(self) -> dict[str, Any]:
        """The answer, rows and costs as JSON-able values."""
        return {
            "verdict": str(self.verdict.word),
            "answer": self.answer,
            "findings": [finding.to_json() for finding in self.verdict.findings],
            "preflight": preflight(self.evidence).to_json(),
            "rows": [row.to_json() for row in self.rows],
            "costs": {model: vars(cost) for model, cost in self.evidence.costs.items()},
        }

    def save(self, file: str | Path) -> Path:
        """Write the report as one self-contained HTML page.

        Args:
            file: ending in .html; replaced if it exists.

        Raises:
            SettingsError: another ending.
        """
        file = Path(file)
        check_page_name(file)
        if process_rank() == 0:
            with whole_file(file) as part:
                part.write_text(render(_page(self.record, self, self.history)), encoding="utf-8")
        return file


def _unwritten(error: OSError) -> CheckpointError:
    return CheckpointError(f"The run could not be written: {error}. Nothing was kept of it.")


def check_page_name(file: Path) -> None:
    """Refuse a report that would not be opened as a page.

    Raises:
        SettingsError: the name does not end in .html.
    """
    if file.suffix not in (".html", ".htm"):
        raise SettingsError(f"The report is an HTML page; {file} must end in .html.")


def describe_request(request: Request) -> dict[str, Any]:
    """A request as it stands in a run's record: how it was made and sizes, no ids."""
    return {
        **request.description,
        "goal": request.goal,
        "forget": len(request.forget_set),
        "retain": len(request.retain_set),
        "holdout_for_methods": len(request.holdout_set),
        "holdout_for_evaluation": 0 if request.evaluation_set is None else len(request.evaluation_set),
        "duplicates_in_retain_set": len(request.duplicate_ids),
    }


def salted_digests(ids: list[Hashable], salt: str) -> list[str]:
    """SHA-256 of salt and id for each id, in hexadecimal, sorted so that their order tells nothing."""
    return sorted(hashlib.sha256(f"{salt}:{each}".encode()).hexdigest() for each in ids)


def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    packages = {name: metadata.version(name) for name in ("nablatau", "torch", "numpy", "scipy", "scikit-learn")}
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or platform.machine()
    return packages | {"python": platform.python_version(), "platform": platform.platform(), "hardware": device}


def _page(record: dict[str, Any], evaluation: Evaluation | None, history: History | None) -> Page:
    shown = {name: value for name, value in record.items() if name != "evaluation"}
    if evaluation is None:
        return Page(record=shown, history=history)
    return Page(
        record=shown,
        evidence=evaluation.evidence,
        rows=evaluation.rows,
        verdict=evaluation.verdict,
        history=history,
    )
