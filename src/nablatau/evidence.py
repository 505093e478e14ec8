"""Evidence: per-example arrays of each model on each split, saved with hashes, and all that evaluation needs.

Each model is scored once on each split; what follows is arithmetic on arrays and needs no model. A saved folder can be
evaluated again anywhere: `evidence.json` says what was measured and holds a SHA-256 of every array file, which are
checked when they are read.

"Unseen" is the half of the holdout set that no method has looked at. When a whole class is removed, forgotten records
are compared with unseen records of the same classes: against all classes a perfectly retrained model would be
flagged, because it does not know the class.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from nablatau.data import Request
from nablatau.errors import EvidenceError
from nablatau.fingerprints import Readable
from nablatau.near_copies import near_copies
from nablatau.objectives import Kind, Objective
from nablatau.records import Records
from nablatau.runtime import Runtime
from nablatau.scoring import Array, Scores, score

FORMAT = 1
HEAD = {"format", "kind", "goal", "random_draw", "costs", "sha256"}
SPLITS = ("retain", "forget", "unseen", "test")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What it took to make a model.

    Attributes:
        seconds: wall time.
        trained_samples: examples that went forward and backward.
        scored_samples: examples that went forward only.
    """

    seconds: float
    trained_samples: int
    scored_samples: int = 0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Per-example arrays of each model on each split.

    Attributes:
        kind: of the objective.
        goal: of the request.
        random_draw: whether the forget set is known to be a random draw of the training set.
        comparable: positions of the unseen records to compare forgotten ones with: all, or for a class request
            those of its classes (none where their classes are not known).
        scores: by model ("original", "unlearned", "retrained") and split ("retain", "forget", "unseen", "test").
        costs: by model, where known.
        arrays: further arrays by name: of copies in the retain set, compressed sizes of texts, the recovery checks, the
            shadow pipelines.
    """

    kind: Kind
    goal: Literal["records", "class", "group"]
    random_draw: bool
    comparable: npt.NDArray[np.int64]
    scores: dict[str, dict[str, Scores]] = field(repr=False)
    costs: dict[str, Cost]
    arrays: dict[str, Array] = field(default_factory=dict, repr=False)

    @property
    def models(self) -> list[str]:
        """The models there are, in order."""
        return list(self.scores)

    @property
    def splits(self) -> list[str]:
        """The splits there are, in order."""
        return [split for split in SPLITS if split in next(iter(self.scores.values()))]

    def pair(self, model: str, name: str) -> tuple[Array, Array]:
        """One array of the forgotten records, and of the unseen records to compare them with."""
        splits = self.scores[model]
        return splits["forget"][name], splits["unseen"][name][self.comparable]

    def has(self, name: str) -> bool:
        """Whether every model and split has this array."""
        return all(name in scores for splits in self.scores.values() for scores in splits.values())

    def write_into(self, folder: Path) -> None:
        """Write the arrays and their hashes into a folder that is there.

        Args:
            folder: without evidence in it.
        """
        files = {"arrays": _write(folder / "arrays.npz", {"comparable": self.comparable, **self.arrays})}
        for model, splits in self.scores.items():
            for split, scores in splits.items():
                named = {**scores.arrays, "ids": np.asarray([str(each) for each in scores.ids])}
                files[f"{model}.{split}"] = _write(folder / f"{model}.{split}.npz", named)
        head = {
            "format": FORMAT,
            "kind": self.kind,
            "goal": self.goal,
            "random_draw": self.random_draw,
            "costs": {model: vars(cost) for model, cost in self.costs.items()},
            "sha256": files,
        }
        (folder / "evidence.json").write_text(json.dumps(head, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Evidence":
        """Read a folder that `write_into` filled; record ids come back as text.

        Args:
            folder: with evidence.json and its array files.

        Raises:
            EvidenceError: no such folder, a newer format, a file that is missing or does not fit its hash, or
                arrays of different lengths.
        """
        folder = Path(folder)
        head = _read_head(folder)
        scores: dict[str, dict[str, Scores]] = {}
        arrays: dict[str, Array] = {}
        for name, digest in head["sha256"].items():
            found = _read(folder / f"{name}.npz", digest)
            if name == "arrays":
                arrays = found
                continue
            model, _, split = name.partition(".")
            ids = found.pop("ids").tolist()
            check_arrays(f"{model}, {split} set", found, ids)
            scores.setdefault(model, {})[split] = Scores(ids, found)
        return cls(
            kind=head["kind"],
            goal=head["goal"],
            random_draw=head["random_draw"],
            comparable=arrays.pop("comparable"),
            scores=scores,
            costs={model: Cost(**cost) for model, cost in head["costs"].items()},
            arrays=arrays,
        )


def collect(
    models: dict[str, nn.Module],
    request: Request,
    objective: Objective,
    *,
    test_set: Readable | None = None,
    costs: dict[str, Cost] | None = None,
    runtime: Runtime | None = None,
) -> Evidence:
    """Score each model once on each split.

    Args:
        models: by name: "original", "unlearned", and "retrained" where there is a reference.
        request: with the half of the holdout set that is kept for evaluation.
        objective: what a batch, a loss and a prediction are.
        test_set: records for the task's score alone.
        costs: by model, what it took to make it.
        runtime: device, precision and batch size.

    Raises:
        EvidenceError: the request has no records kept for evaluation, a loss is not finite, or compressed sizes that
            are not of the records.
    """
    if request.evaluation_set is None or not len(request.evaluation_set):
        raise EvidenceError(
            "The request has no unseen records kept for evaluation, so forgetting cannot be told from remembering. "
            "Pass the request that TrainingData made, not the one handed to a method."
        )
    splits = {"retain": request.retain_set, "forget": request.forget_set, "unseen": request.evaluation_set}
    if test_set is not None:
        splits["test"] = Records.all_of(test_set)
    sizes = _sizes_of_texts(request.forget_set, request.evaluation_set)
    scores = {
        name: {split: score(model, records, objective, runtime) for split, records in splits.items()}
        for name, model in models.items()
    }
    return Evidence(
        kind=objective.kind,
        goal=request.goal,
        random_draw=request.description.get("by") == "fraction" and not request.description["forget_duplicates"],
        comparable=np.zeros(0, np.int64) if request.comparable is None else request.comparable,
        scores=scores,
        costs=costs or {},
        arrays=_known_of_records(request) | sizes,
    )


def _known_of_records(request: Request) -> dict[str, Array]:
    """Copies of forgotten records in the retain set, exact and near."""
    checked = request.description.get("content_checked", False)
    exact = {"preflight_exact": np.array(len(request.duplicate_ids))} if checked else {}
    return exact | near_copies(request)


def _sizes_of_texts(forget_set: Records, unseen_set: Records) -> dict[str, Array]:
    """In bytes, as zlib compresses them, where both data sets tell by an attribute `compressed_sizes`."""
    named = {"forget": forget_set, "unseen": unseen_set}
    known = {split: getattr(records.dataset, "compressed_sizes", None) for split, records in named.items()}
    told = {split: np.asarray(sizes) for split, sizes in known.items() if sizes is not None}
    if len(told) < len(named):
        return {}
    for split, sizes in told.items():
        if len(sizes) != len(named[split].dataset):
            raise EvidenceError(
                f"compressed_sizes of the data set with the {split} set has {len(sizes)} entries for "
                f"{len(named[split].dataset)} records, so the zlib attack would take sizes of other texts. Give one "
                "number of bytes a record, in the order of the data set."
            )
    return {f"compressed_sizes_{split}": told[split][named[split].positions] for split in named}


def check_arrays(place: str, arrays: dict[str, Array], ids: list[Any]) -> None:
    """Refuse arrays of different lengths, or with values that are not finite, naming the records.

    Raises:
        EvidenceError: what is wrong with which array.
    """
    for name, array in arrays.items():
        if len(array) != len(ids):
            raise EvidenceError(
                f"{place}: {name} has {len(array)} entries for {len(ids)} records, so numbers of different records "
                "would be compared. Score the model again over the whole split."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
            raise EvidenceError(
                f"{place}: {name} is not finite for {len(rows)} records ({', '.join(str(ids[i]) for i in rows[:10])}). "
                "No statement about them can be made. Look at these records, or score in fp32."
            )


def _write(file: Path, arrays: dict[str, Array]) -> str:
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _unreadable(folder: Path, why: str) -> EvidenceError:
    return EvidenceError(f"{folder} holds no readable evidence.json: {why}. Name a folder of saved evidence.")


def _read_head(folder: Path) -> dict[str, Any]:
    file = folder / "evidence.json"
    try:
        head: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = head["format"] != FORMAT or head.keys() >= HEAD
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(folder, repr(error)) from error
    if not known:
        raise _unreadable(folder, f"{', '.join(sorted(HEAD - head.keys()))} missing")
    if head["format"] != FORMAT:
        raise EvidenceError(
            f"{folder} has format {head['format']}, and this version of nablatau reads {FORMAT}. Read it with the "
            "version that wrote it, or evaluate the models again."
        )
    return head


def _read(file: Path, digest: str) -> dict[str, Array]:
    if not file.is_file():
        raise EvidenceError(f"{file.name} is missing from {file.parent}, so the evidence is not whole.")
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise EvidenceError(
            f"{file.name} does not fit the hash in evidence.json: it was changed or damaged after it was written, and "
            "nothing can be concluded from it. Evaluate the models again."
        )
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
