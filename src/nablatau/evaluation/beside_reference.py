"""Tier 2: the rows that one retrained reference allows. The gap between two retrained models, not 0,
is the floor: where a second one was given it stands in a column of its own."""

from collections.abc import Callable

import numpy as np

from nablatau.attacks.reference_difference import reference_difference
from nablatau.attacks.swap import swap_area
from nablatau.evaluation.membership import calibrated_sides, estimate_auc, plain_signal
from nablatau.evaluation.rows import NullFloor, Row, between_retrained, chance, judged, row_of_each
from nablatau.evidence import Evidence
from nablatau.metrics import (
    activation_distance,
    average_gap,
    churn,
    js_divergence,
    nearer_to_reference,
    tug_of_war,
)
from nablatau.scoring import Array
from nablatau.statistics import Interval, auc_delong, auc_estimate, auc_interval

CALIBRATED_NAME = "AUC calibrated by the reference"


def reference_rows(evidence: Evidence) -> list[Row]:
    """The rows that compare with the model "retrained"."""
    others = [model for model in evidence.models if model != "retrained"]
    rows = []
    if len(evidence.comparable) >= 2:
        note = "each record compared with itself under the reference (difficulty calibration); DeLong, logit scale"
        estimates = {model: estimate_auc(calibrated_sides(evidence, model)) for model in others}
        rows.append(
            row_of_each(
                evidence,
                CALIBRATED_NAME,
                note,
                chance(estimates[judged(others)], "by the exact variance, also where the forget set is no random draw"),
                lambda model: auc_interval(estimates[model]),
                others,
            )
        )
        if evidence.kind == "causal-lm":
            rows.append(_difference_row(evidence, others))
    if evidence.kind == "single-label":
        rows += _gap_rows(evidence, others)
    if evidence.has("logits") and evidence.kind == "single-label":
        rows += _distance_rows(evidence, others)
    return rows


def _difference_row(evidence: Evidence, others: list[str]) -> Row:
    """The published attack on texts, which takes each difference as it is, large ones of hard texts too."""

    def sides(model: str) -> tuple[Array, Array]:
        ours, theirs = evidence.pair(model, "loss"), evidence.pair("retrained", "loss")
        return reference_difference(ours[0], theirs[0]), reference_difference(ours[1], theirs[1])

    return row_of_each(
        evidence,
        "AUC by reference difference, forgotten against unseen",
        "loss under the reference less loss under the model (Watson et al. 2021); DeLong, logit scale",
        chance(auc_estimate(*sides(judged(others))), "its range by the exact variance, for a random draw"),
        lambda model: auc_delong(*sides(model)),
        others,
    )


def swap_rows(evidence: Evidence) -> list[Row]:
    """The attack averaged over the request and its exchange; none where the exchange was not run.

    Args:
        evidence: with the arrays of the exchange.
    """
    arrays = evidence.arrays
    if "swap_positions" not in arrays:
        return []

    def area(model: str) -> Interval:
        scores = evidence.scores[model]
        forget, unseen = (plain_signal(scores[split]) for split in ("forget", "unseen"))
        when = "trained" if model == "original" else "unlearned"
        theirs = (arrays[f"swap_{when}_{side}"] for side in ("unseen", "forget"))
        return swap_area(forget, unseen[arrays["swap_positions"]], *theirs)

    note = "average over forgetting these records and, on one more original, the unseen ones in their place"
    floor = NullFloor(value=0.5, how="by construction where both retrain; on the average where with two seeds")
    models = [model for model in evidence.models if model in ("original", "unlearned")]
    return [row_of_each(evidence, "SWAP AUC", f"{note}; DeLong, paired", floor, area, models)]


def _gap_rows(evidence: Evidence, others: list[str]) -> list[Row]:
    splits = [split for split in ("retain", "forget", "test") if split in evidence.splits]

    def parts(model: str) -> list[Array]:
        return [evidence.scores[model][split]["correct"] for split in splits]

    def with_attack(model: str) -> list[Array]:
        forget, unseen = evidence.pair(model, "loss")
        return [*parts(model), forget < np.median(unseen)] if len(unseen) else parts(model)

    names = ", ".join(splits)
    return [
        row_of_each(
            evidence,
            "Average gap to the reference",
            f"mean |difference| of accuracy on {names} set and of attack success; simultaneous interval",
            between_retrained,
            lambda model: average_gap(with_attack(model), with_attack("retrained")),
            others,
        ),
        row_of_each(
            evidence,
            "ToW beside the reference",
            f"product of 1 − |difference of accuracy| on {names} set; simultaneous interval",
            between_retrained,
            lambda model: tug_of_war(parts(model), parts("retrained")),
            others,
        ),
    ]


def _distance_rows(evidence: Evidence, others: list[str]) -> list[Row]:
    def logits(model: str) -> Array:
        array: Array = evidence.scores[model]["forget"]["logits"]
        return array

    measures: list[tuple[str, str, str, Callable[..., Interval]]] = [
        ("JS divergence", "nats, from log-softmax; normal interval", "logits", js_divergence),
        ("Activation distance", "L2 of softmax outputs; normal interval", "logits", activation_distance),
        ("Churn", "share of records predicted otherwise; Wilson", "prediction", churn),
    ]
    rows = [
        row_of_each(
            evidence,
            f"{name} to the reference, {split} set",
            note,
            between_retrained,
            _distance(evidence, split, array, function),
            others,
        )
        for split in ("forget", "test")
        if split in evidence.splits
        for name, note, array, function in measures
    ]
    if "original" in evidence.models:
        rows.append(
            row_of_each(
                evidence,
                "Nearer to the reference than to the original, forget set",
                "share of records, by JS divergence; Wilson",
                between_retrained,
                lambda model: nearer_to_reference(logits(model), logits("original"), logits("retrained")),
                [model for model in others if model != "original"],
            )
        )
    return rows


def _distance(
    evidence: Evidence, split: str, array: str, function: Callable[..., Interval]
) -> Callable[[str], Interval | None]:
    theirs = evidence.scores["retrained"][split][array]
    return lambda model: function(evidence.scores[model][split][array], theirs) if len(theirs) > 1 else None
