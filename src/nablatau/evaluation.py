"""Evaluation: models → evidence (arrays) → rows of numbers with intervals, original, unlearned and retrained alike.

The first battery: the task's score on each split, whether losses tell forgotten from unseen records apart (AUC
with DeLong's interval), and the paper's own attack, labelled as what it is. Terms and rules: docs/guide.md.

"Unseen" is the half of the holdout set that no method has looked at. When a whole class is removed, forgotten records
are compared with unseen records of the same classes: against all classes, a perfectly retrained model would
be flagged, because it does not know the class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from nablatau.attacks.logistic_regression import AT_LEAST, logistic_regression
from nablatau.data import Request
from nablatau.errors import EvidenceError
from nablatau.fingerprints import Readable
from nablatau.metrics import accuracy, f1_micro
from nablatau.objectives import Kind, Objective
from nablatau.records import Records
from nablatau.runtime import Runtime
from nablatau.scoring import Scores, score
from nablatau.statistics import Interval, auc_delong, mean_interval

SPLITS = ("retain", "forget", "unseen", "test")
AUC_NAME = "AUC, forgotten against unseen"


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
    """Per-example arrays of each model on each split. Everything else is arithmetic on it.

    Attributes:
        kind: of the objective.
        goal: of the request.
        scores: by model ("original", "unlearned", "retrained") and split ("retain", "forget", "unseen", "test").
        costs: by model, where known.
    """

    kind: Kind
    goal: Literal["records", "class", "group"]
    scores: dict[str, dict[str, Scores]] = field(repr=False)
    costs: dict[str, Cost]

    @property
    def models(self) -> list[str]:
        """The models there are, in order."""
        return list(self.scores)

    def unseen_like_forgotten(self, model: str) -> tuple[Scores, npt.NDArray[np.intp]]:
        """The unseen scores and which of them to compare with: all, or for a class request those of its classes."""
        unseen, forget = self.scores[model]["unseen"], self.scores[model]["forget"]
        everything = np.arange(len(unseen))
        if self.goal != "class" or "target" not in unseen:
            return unseen, everything
        ours, theirs = forget["target"], unseen["target"]
        if ours.ndim == 1:
            return unseen, np.flatnonzero(np.isin(theirs, np.unique(ours)))
        return unseen, np.flatnonzero((theirs & ours.all(axis=0)).any(axis=1))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number, for each model.

    Attributes:
        name: what is measured, with its unit and split.
        values: by model; None where it cannot be computed.
        note: how the interval was obtained, and what a perfect result would be.
    """

    name: str
    values: dict[str, Interval | None]
    note: str

    def to_json(self) -> dict[str, Any]:
        """The row as JSON-able values."""
        return {
            "name": self.name,
            "note": self.note,
            "values": {model: None if each is None else vars(each) for model, each in self.values.items()},
        }


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
        models: by name.
        request: with the half of the holdout set that is kept for evaluation.
        objective: what a batch, a loss and a prediction are.
        test_set: records for the task's score alone.
        costs: by model, what it took to make it.
        runtime: device, precision and batch size.

    Raises:
        EvidenceError: the request has no records kept for evaluation, or a loss is not finite.
    """
    if request.evaluation_set is None or not len(request.evaluation_set):
        raise EvidenceError(
            "The request has no unseen records kept for evaluation, so forgetting cannot be told from remembering. "
            "Pass the request that TrainingData made, not the one handed to a method."
        )
    splits = {"retain": request.retain_set, "forget": request.forget_set, "unseen": request.evaluation_set}
    if test_set is not None:
        splits["test"] = Records.all_of(test_set)
    scores = {
        name: {split: score(model, records, objective, runtime) for split, records in splits.items()}
        for name, model in models.items()
    }
    return Evidence(kind=objective.kind, goal=request.goal, scores=scores, costs=costs or {})


def summarise(evidence: Evidence) -> list[Row]:
    """The first battery's rows.

    Args:
        evidence: of one or more models.
    """
    label, note, compute = TASK_SCORES[evidence.kind]
    splits = [split for split in SPLITS if split in next(iter(evidence.scores.values()))]
    rows = [
        Row(
            name=f"{label}, {split} set",
            values={model: compute(by_split[split]) for model, by_split in evidence.scores.items()},
            note=note,
        )
        for split in splits
    ]
    against = "unseen records of its classes" if evidence.goal == "class" else "unseen records"
    auc_note = f"loss of forgotten records below that of {against}; DeLong, logit scale; 0.5 if none is remembered"
    aucs = {model: forget_auc(evidence, model) for model in evidence.models}
    rows.append(Row(name=AUC_NAME, values=aucs, note=auc_note))
    for signal in ("loss", "entropy"):
        if all(signal in splits["forget"] for splits in evidence.scores.values()):
            rows.append(_attack_row(evidence, signal))
    return rows


def forget_auc(evidence: Evidence, model: str) -> Interval | None:
    """How well losses tell forgotten from unseen records: the chance that a forgotten record's loss is the lower one.

    Args:
        evidence: with this model.
        model: its name.

    Returns:
        The AUC with DeLong's interval; None where a class request finds fewer than 2 unseen records of its class.
    """
    unseen, like = evidence.unseen_like_forgotten(model)
    if len(like) < 2:
        return None
    return auc_delong(-evidence.scores[model]["forget"]["loss"], -unseen["loss"][like])


def paper_attack(evidence: Evidence, model: str, signal: str) -> Interval | None:
    """The accuracy of the paper's logistic-regression attack on "loss" or "entropy"; None below 10 records a side."""
    unseen, like = evidence.unseen_like_forgotten(model)
    forget = evidence.scores[model]["forget"][signal]
    if min(len(forget), len(like)) < AT_LEAST:
        return None
    found = logistic_regression(forget, unseen[signal][like])
    null = f"null spread {found.null_low:.3f} to {found.null_high:.3f}"
    size = found.records_per_side
    return Interval(found.mean, found.low, found.high, size, f"Nadeau-Bengio; {null}", size, found.confidence)


def _attack_row(evidence: Evidence, signal: str) -> Row:
    values = {model: paper_attack(evidence, model, signal) for model in evidence.models}
    nulls = "; ".join(f"{name}: {each.method.split('; ')[1]}" for name, each in values.items() if each)
    note = (
        f"compatibility number, the paper's protocol: accuracy over 10 splits, Nadeau-Bengio interval ({nulls})"
        if nulls
        else f"compatibility number, the paper's protocol; needs {AT_LEAST} records a side"
    )
    return Row(name=f"Logistic-regression attack on {_PLURAL[signal]}", values=values, note=note)


_PLURAL = {"loss": "losses", "entropy": "entropies"}


# ---------------------------------------------------------------------- the task's own score


TASK_SCORES: dict[Kind, tuple[str, str, Callable[[Scores], Interval]]] = {
    "single-label": (
        "Accuracy",
        "share of right predictions; Wilson; best as retrained",
        lambda scores: accuracy(scores["prediction"], scores["target"]),
    ),
    "multi-label": (
        "Micro F1",
        "over all labels; bootstrap over records; best as retrained",
        lambda scores: f1_micro(scores["prediction"], scores["target"]),
    ),
    "regression": (
        "RMSE",
        "in target units; root of the mean squared error's normal interval; best as retrained",
        lambda scores: _rooted(mean_interval(scores["loss"])),
    ),
    "loss": (
        "Mean loss",
        "in the loss function's unit; normal interval; best as retrained",
        lambda scores: mean_interval(scores["loss"]),
    ),
}
"""By kind of objective: name, how the interval is made, function."""


def _rooted(mean: Interval) -> Interval:
    """The interval of the root of a mean of squares."""
    return replace(mean, value=mean.value**0.5, low=max(0.0, mean.low) ** 0.5, high=mean.high**0.5)


def sentence(evidence: Evidence, rows: Sequence[Row]) -> str:
    """The answer in one sentence, in plain words, from the rows alone."""
    by_name = {row.name: row.values for row in rows}
    label = TASK_SCORES[evidence.kind][0]
    split = "test" if f"{label}, test set" in by_name else "unseen"
    name = label if label.isupper() else label.lower()
    forgotten = _told(by_name[f"{label}, forget set"], evidence.models)
    utility = _told(by_name[f"{label}, {split} set"], evidence.models)
    auc = by_name[AUC_NAME]
    if auc[_judged(evidence.models)] is None:
        attack = "too few unseen records of the forgotten classes are at hand to attack it"
    else:
        attack = f"its loss gives a forgotten record away with AUC {_told(auc, evidence.models)}, where 0.5 is chance"
    count = len(evidence.scores[evidence.models[0]]["forget"])
    records = "the forgotten record" if count == 1 else f"the {count:,} forgotten records"
    return f"On {records} the model's {name} is {forgotten}; {attack}; on the {split} set {name} is {utility}."


def _judged(models: Sequence[str]) -> str:
    """The model that an evaluation is about."""
    return "unlearned" if "unlearned" in models else models[-1]


def _told(values: dict[str, Interval | None], models: Sequence[str]) -> str:
    """The judged model's number with its interval, those of the others in brackets."""
    names = {"original": "before", "retrained": "retrained without them"}
    others = [f"{names[model]} {each.value:.3f}" for model in names if (each := values.get(model)) is not None]
    return f"{values[_judged(models)]}" + (f" ({', '.join(others)})" if others else "")
