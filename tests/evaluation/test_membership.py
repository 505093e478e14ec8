"""The signals of the membership tests, against slow ones."""

import numpy as np
import pytest

from nablatau.evaluation.membership import Sides, calibrated_sides, estimate_auc, false_alarms, plain_sides
from nablatau.statistics import auc_estimate
from synthetic import REMEMBERED, Shifts, eases, evidence

RETRAINED: Shifts = {**REMEMBERED, "retrained": {"retain": 1.0}}


@pytest.mark.parametrize(("unseen", "others"), [(400, 39), (60, 19), (12, 11), (2, 1)])
def test_a_difference_is_measured_by_those_of_the_nearest_other_unseen_records(unseen: int, others: int) -> None:
    generator = np.random.default_rng(0)
    found = evidence(generator, eases(generator, retain=5, forget=30, unseen=unseen, test=5), RETRAINED)
    (ours, ours_unseen), (reference, reference_unseen) = (
        found.pair(model, "margin") for model in ("unlearned", "retrained")
    )
    places = (ours_unseen + reference_unseen) / 2
    order = np.argsort(places)
    sizes = np.abs(ours_unseen - reference_unseen)[order]

    def usual(rank: int, own: int | None) -> float:
        width = others if own is None else others + 1
        low = min(max(rank - width // 2, 0), unseen - width)
        return float(np.mean([sizes[i] for i in range(low, low + width) if i != own]))

    sides = calibrated_sides(found, "unlearned")
    for i in range(30):
        rank = int((places < (ours[i] + reference[i]) / 2).sum())
        assert sides.forget[i] == pytest.approx((ours[i] - reference[i]) / usual(rank, None))
    for rank, i in enumerate(order):
        expected = (ours_unseen[i] - reference_unseen[i]) / usual(rank, rank)
        assert sides.unseen[i] == pytest.approx(expected)


def test_a_model_equal_to_the_reference_differs_nowhere() -> None:
    generator = np.random.default_rng(0)
    found = evidence(generator, eases(generator, retain=5, forget=30, unseen=40, test=5), RETRAINED)
    found.scores["unlearned"] = found.scores["retrained"]
    sides = calibrated_sides(found, "unlearned")
    assert not sides.forget.any()
    assert not sides.unseen.any()
    assert estimate_auc(sides).value == 0.5


def test_a_model_that_differs_from_the_reference_on_forgotten_records_alone_is_told_apart() -> None:
    generator = np.random.default_rng(0)
    found = evidence(generator, eases(generator, retain=5, forget=30, unseen=40, test=5), RETRAINED)
    found.scores["unlearned"] = {**found.scores["retrained"], "forget": found.scores["original"]["forget"]}
    sides = calibrated_sides(found, "unlearned")
    assert np.isfinite(sides.forget).all()
    assert estimate_auc(sides).value > 0.7


@pytest.mark.parametrize("kind", ["regression", "loss"])
def test_without_classes_the_signal_is_minus_the_loss(kind: str) -> None:
    generator = np.random.default_rng(0)
    found = evidence(generator, eases(generator, retain=5, forget=30, unseen=40, test=5), kind=kind)  # type: ignore[arg-type]
    sides = plain_sides(found, "unlearned")
    assert np.array_equal(sides.forget, -found.pair("unlearned", "loss")[0])
    assert sides.forget_strata is None


def test_the_negative_control_counts_subsets_with_a_significant_auc() -> None:
    generator = np.random.default_rng(1)
    unseen = np.round(generator.normal(size=120), 1)
    draws = np.random.default_rng(5)
    limit = 1.959964 * np.sqrt((120 + 1) / (12 * 40 * 80))
    naive = 0
    for _ in range(200):
        shuffled = draws.permutation(unseen)
        naive += abs(auc_estimate(shuffled[:40], shuffled[40:]).value - 0.5) >= limit
    assert false_alarms(Sides(forget=np.zeros(40), unseen=unseen), seed=5) == (naive, 200)
