"""Rows on the task itself: how well each model does what it is for, on each split, and what changed.

The floor of most is the retrained model's value: a model that did better on forgotten records would remember them, one
that did worse would have lost more than it was asked to.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nablatau.evaluation.rows import NullFloor, Row, as_retrained, judged, row_of_each
from nablatau.evidence import Evidence
from nablatau.metrics import (
    accuracy,
    calibration_null_floor,
    expected_calibration_error,
    f1_macro,
    f1_micro,
    negative_flips,
    negative_log_likelihood,
    worst_class_accuracy,
)
from nablatau.objectives import Kind
from nablatau.scoring import Array, Scores
from nablatau.statistics import Interval, mean_interval, paired_change


def _f1(scores: Scores) -> Interval | None:
    """Micro F1; None for a single record, or where there is neither a label nor a prediction of one."""
    return f1_micro(scores["prediction"], scores["target"]) if _has_labels(scores) else None


def _f1_of_labels(scores: Scores) -> Interval | None:
    """Macro F1; None where there is no micro F1."""
    return f1_macro(scores["prediction"], scores["target"]) if _has_labels(scores) else None


def _has_labels(scores: Scores) -> bool:
    return bool(scores["prediction"].any() or scores["target"].any()) and len(scores) > 1


def _mean(scores: Scores) -> Interval | None:
    """Mean loss; None for a single record, whose spread is not known."""
    return mean_interval(scores["loss"]) if len(scores) > 1 else None


def _root_mean_square(scores: Scores) -> Interval | None:
    """Root of the mean loss, with the root of its interval."""
    mean = _mean(scores)
    if mean is None:
        return None
    return replace(mean, value=mean.value**0.5, low=max(0.0, mean.low) ** 0.5, high=mean.high**0.5)


def _perplexity(scores: Scores) -> Interval | None:
    """e to the mean loss, with e to its interval: each text weighs alike."""
    mean = _mean(scores)
    if mean is None:
        return None
    return replace(mean, value=float(np.exp(mean.value)), low=float(np.exp(mean.low)), high=float(np.exp(mean.high)))


def _mean_of(name: str) -> Callable[[Scores], Interval | None]:
    """The mean of an array of shares; None for a single record."""
    return lambda scores: mean_interval(scores[name]) if len(scores) > 1 else None


TASK_SCORES: dict[Kind, tuple[str, str, Callable[[Scores], Interval | None]]] = {
    "single-label": (
        "Accuracy",
        "share of right predictions; Wilson",
        lambda scores: accuracy(scores["prediction"], scores["target"]),
    ),
    "multi-label": (
        "Micro F1",
        "over all labels; bootstrap over records",
        _f1,
    ),
    "regression": (
        "RMSE",
        "in target units; root of the mean squared error's normal interval",
        _root_mean_square,
    ),
    "causal-lm": (
        "Perplexity",
        "e to the mean over texts of the mean loss of a token; e to its normal interval",
        _perplexity,
    ),
    "token-classification": (
        "Token accuracy",
        "mean over records of the share of right tokens; normal interval",
        _mean_of("right_share"),
    ),
    "loss": (
        "Mean loss",
        "in the loss function's unit; normal interval",
        _mean,
    ),
}
"""By kind of objective: name, how the interval is made, function."""


def task_rows(evidence: Evidence) -> list[Row]:
    """Score, worst class, changes from the original and calibration.

    Args:
        evidence: of one or more models.
    """
    label, note, compute = TASK_SCORES[evidence.kind]
    rows = [
        row_of_each(evidence, f"{label}, {split} set", note, as_retrained, _scored(evidence, split, compute))
        for split in evidence.splits
    ]
    if evidence.kind == "single-label":
        rows += _classification_rows(evidence, "test" if "test" in evidence.splits else "unseen")
    if evidence.kind == "multi-label":
        note = "mean over labels of their F1; bootstrap over records"
        rows += [
            row_of_each(evidence, f"Macro F1, {split} set", note, as_retrained, _scored(evidence, split, _f1_of_labels))
            for split in evidence.splits
        ]
    if evidence.kind == "causal-lm":
        rows += _memorisation_rows(evidence)
    return rows


def _memorisation_rows(evidence: Evidence) -> list[Row]:
    """What of a text a model says word for word: of retained texts, which it may go on knowing by heart, and of unseen
    ones too, for some words can be told by anyone."""
    measures = [
        ("Exact memorisation", "share of a text's tokens told rightly from the true ones before", "right_share"),
        ("Extraction strength", "1 − shortest prefix after which all is told rightly ÷ length", "extraction_strength"),
    ]
    return [
        row_of_each(
            evidence,
            f"{name}, {split} set",
            f"{note}; mean over texts, normal interval",
            as_retrained,
            _scored(evidence, split, _mean_of(array)),
        )
        for name, note, array in measures
        for split in ("retain", "forget", "unseen")
    ]


def _scored(
    evidence: Evidence, split: str, compute: Callable[[Scores], Interval | None]
) -> Callable[[str], Interval | None]:
    return lambda model: compute(evidence.scores[model][split])


def _classification_rows(evidence: Evidence, split: str) -> list[Row]:
    def of(model: str, name: str) -> Array:
        array: Array = evidence.scores[model][split][name]
        return array

    others = [model for model in evidence.models if model != "original"]
    rows = [
        row_of_each(
            evidence,
            f"Accuracy of the worst class, {split} set",
            "Wilson",
            as_retrained,
            lambda model: worst_class_accuracy(of(model, "prediction"), of(model, "target")),
        )
    ]
    if "original" in evidence.models:
        rows += [
            row_of_each(
                evidence,
                f"Change of accuracy from the original, {split} set",
                "paired; Newcombe",
                as_retrained,
                lambda model: paired_change(of("original", "correct"), of(model, "correct")),
                others,
            ),
            row_of_each(
                evidence,
                f"Negative flips from the original, {split} set",
                "share of records that were right and are wrong now; Wilson",
                as_retrained,
                lambda model: negative_flips(
                    of("original", "prediction"), of(model, "prediction"), of(model, "target")
                ),
                others,
            ),
        ]
    if evidence.has("logits"):
        rows += [
            row_of_each(
                evidence,
                f"Negative log-likelihood, {split} set",
                "nats; normal interval",
                as_retrained,
                lambda model: negative_log_likelihood(of(model, "logits"), of(model, "target")),
            ),
            row_of_each(
                evidence,
                f"Expected calibration error, {split} set",
                "15 bins; bootstrap",
                NullFloor(
                    value=calibration_null_floor(of(judged(evidence.models), "logits")),
                    how="expected where the judged model's confidences are exactly right, in closed form",
                ),
                lambda model: expected_calibration_error(of(model, "logits"), of(model, "target")),
            ),
        ]
    return rows
