"""Rows: null floors as numbers, against draws in which nothing was to be found; recovery, relearning and the rest."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nablatau.contrasts import RELEARNING_RATE, packed_relearning, relearn_index, relearn_times
from nablatau.evaluation import AUC_NAME, NullFloor, Row
from nablatau.evaluation.beside_reference import reference_rows
from nablatau.evaluation.compatibility import compatibility_rows
from nablatau.evaluation.membership_rows import membership_rows
from nablatau.evaluation.recovery_rows import recovery_rows
from nablatau.evaluation.rows import SECOND, as_retrained, between_retrained
from nablatau.evaluation.task_rows import task_rows
from nablatau.evidence import Evidence
from nablatau.metrics import calibration_null_floor, zero_retrain_forgetting
from nablatau.recovery import Relearning
from nablatau.statistics import Interval, clopper_pearson
from synthetic import REMEMBERED, Shifts, eases, evidence

RETRAINED: Shifts = {**REMEMBERED, "retrained": {"retain": 1.0}}


def made(shifts: Shifts = REMEMBERED, *, seed: int = 0, **rest: Any) -> Evidence:
    generator = np.random.default_rng(seed)
    return evidence(generator, eases(generator, retain=60, forget=80, unseen=320, test=50), shifts, **rest)


def rows_of(found: Evidence) -> dict[str, Row]:
    """All rows but those of the logistic regression, which take longest."""
    rows = [*task_rows(found), *membership_rows(found), *recovery_rows(found)]
    rows += reference_rows(found) if "retrained" in found.models else []
    return {row.name: row for row in rows}


def test_a_perfect_unlearning_lies_within_the_floors_in_95_percent_of_draws() -> None:
    """Their null is tested apart: the logistic regression's in tests/attacks/test_logistic_regression.py."""
    names = (AUC_NAME, "TPR at 10 % FPR", "TPR at 1 % FPR", "KS distance, forgotten against unseen")
    outside: Counter[str] = Counter()
    for seed in range(100):
        rows = {row.name: row for row in membership_rows(made(seed=seed))}
        for name in names:
            value, floor = rows[name].values["unlearned"], rows[name].null
            assert value is not None
            assert floor.low is not None
            assert floor.high is not None
            outside[name] += not floor.low <= value.value <= floor.high
    assert all(clopper_pearson(outside[name], 100).low <= 0.05 for name in names), outside


def test_floors_are_the_retrained_models_value_where_there_is_one() -> None:
    plain, beside = rows_of(made()), rows_of(made(RETRAINED))
    assert plain["Accuracy, forget set"].null == NullFloor(how="the retrained model's value")
    row = beside["Accuracy, forget set"]
    retrained = row.values["retrained"]
    assert retrained is not None
    assert (row.null.value, row.null.low, row.null.high) == (retrained.value, retrained.low, retrained.high)
    assert str(row.null) == f"{retrained.value:.3f} ({retrained.low:.3f} to {retrained.high:.3f}); {row.null.how}"


def test_a_forget_set_that_is_no_random_draw_has_the_retrained_models_auc_for_a_floor() -> None:
    row = rows_of(made(RETRAINED, random_draw=False))[AUC_NAME]
    assert row.null == as_retrained(row.values)
    assert "not known to be" in rows_of(made(random_draw=False))[AUC_NAME].null.how
    assert rows_of(made(RETRAINED))[AUC_NAME].null.value == 0.5


def test_a_second_retrained_model_gives_the_floor_of_distances() -> None:
    rows = rows_of(made({**RETRAINED, SECOND: {"retain": 1.0}}, logits=True))
    for name in ("Average gap to the reference", "JS divergence to the reference, forget set"):
        row = rows[name]
        second = row.values[SECOND]
        assert second is not None
        assert row.null.value == second.value
    assert between_retrained({"unlearned": None}).value is None


def test_the_floor_of_the_calibration_error_is_above_zero() -> None:
    found = made(logits=True)
    floor = rows_of(found)["Expected calibration error, test set"].null
    assert floor.value == calibration_null_floor(found.scores["unlearned"]["test"]["logits"])
    assert str(floor).startswith(f"{floor.value:.3g}; expected")


@pytest.mark.parametrize("split", ["forget", "retain"])
def test_risk_is_a_records_place_among_unseen_ones(split: str) -> None:
    found = made(RETRAINED)

    def risk(model: str) -> list[float]:
        unseen = found.scores[model]["unseen"]["loss"]
        return [float((unseen >= loss).mean()) for loss in found.scores[model][split]["loss"]]

    row = rows_of(found)[f"{'Forgotten' if split == 'forget' else 'Retained'} records whose risk rose"]
    for model in ("unlearned", "retrained"):
        value = row.values[model]
        assert value is not None
        assert value.value == np.mean(np.array(risk(model)) > np.array(risk("original")))
    assert row.values["original"] is None


def test_zrf_needs_an_untrained_model_and_is_read_beside_the_retrained_one() -> None:
    found = made(RETRAINED, logits=True)
    assert "needs 2 records and a recipe" in compatibility_rows(found)[-1].note
    untrained = np.random.default_rng(0).normal(size=(80, 4))
    row = compatibility_rows(replace(found, arrays={"untrained_logits": untrained}))[-1]
    expected = zero_retrain_forgetting(found.scores["unlearned"]["forget"]["logits"], untrained)
    assert row.values["unlearned"] == expected
    assert row.null == as_retrained(row.values)


STEPS = (0, 1, 2, 4, 8)


def relearned(unlearned: list[float], retrained: list[float], original: float = 0.1) -> Relearning:
    curves = {"original": [original] * 5, "unlearned": unlearned, "retrained": retrained}
    return Relearning(
        steps=STEPS, seeds=(0,), losses={name: np.array([curve]) for name, curve in curves.items()}, accuracies={}
    )


def test_relearning_is_timed_beside_the_retrained_model() -> None:
    found = relearned([0.5, 0.12, 0.1, 0.1, 0.1], [1.0, 0.9, 0.5, 0.12, 0.1])
    rows = rows_of(replace(made(RETRAINED), arrays=packed_relearning(found)))
    row = rows["Steps to relearn the forget set"]
    assert {model: each.value for model, each in row.values.items() if each} == {
        model: relearn_times(found, model)[0].value for model in found.losses
    }
    assert [row.values[model].value for model in ("original", "unlearned", "retrained")] == [0, 1, 4]  # type: ignore[union-attr]
    index = rows["Anamnesis index"]
    assert index.values["unlearned"] == relearn_index(found, "unlearned")
    assert index.null.value == 1.0
    assert "AdamW 0.001;" in row.note
    slower = rows_of(replace(made(RETRAINED), arrays=packed_relearning(replace(found, learning_rate=1e-4))))
    assert "AdamW 0.0001;" in slower[row.name].note
    arrays = {name: array for name, array in packed_relearning(found).items() if name != RELEARNING_RATE}
    assert rows_of(replace(made(RETRAINED), arrays=arrays))[row.name] == row  # evidence of earlier releases


def test_relearning_that_shows_nothing_says_why() -> None:
    found = relearned([0.5] * 5, [0.05] * 5)
    row = rows_of(replace(made(RETRAINED), arrays=packed_relearning(found)))["Steps to relearn the forget set"]
    assert row.note.startswith("not run: The original's loss on the forget set, 0.1, is not below that of retrained")
    assert set(row.values.values()) == {None}
    never = relearned([0.9] * 5, [1.0] * 5)
    rows = rows_of(replace(made(RETRAINED), arrays=packed_relearning(never)))
    assert str(rows["Steps to relearn the forget set"].values["retrained"]) == "above 8.000"
    assert rows["Anamnesis index"].values["unlearned"] is None
    json.dumps([row.to_json() for row in rows.values()], allow_nan=False)
    assert "needs the recovery checks" in rows_of(made(RETRAINED))["Anamnesis index"].note
    assert "Anamnesis index" not in rows_of(made())


def test_an_interval_without_an_upper_end_reads_as_a_bound() -> None:
    assert str(Interval(0.5, 0.5, float("inf"), 10, "bound")) == "0.500 or more"
