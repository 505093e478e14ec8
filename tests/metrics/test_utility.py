"""Accuracy, changes, flips, worst class, average gap and ToW: by hand and by simulation."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from nablatau.metrics import (
    accuracy,
    accuracy_change,
    average_gap,
    class_accuracies,
    negative_flips,
    tug_of_war,
    worst_class_accuracy,
)
from nablatau.statistics import wilson


def test_accuracy_is_the_share_of_hits():
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    found = accuracy(predictions, labels)
    assert found.value == pytest.approx(accuracy_score(labels, predictions))
    assert (found.low, found.high) == (wilson(int((predictions == labels).sum()), 200).low, found.high)


def test_change_and_flips_by_hand():
    labels = np.array([0, 1, 2, 3, 0, 1])
    before = np.array([0, 1, 2, 0, 0, 0])  # right on four
    after = np.array([0, 0, 2, 3, 1, 0])  # loses two, gains one
    assert accuracy_change(before, after, labels).value == pytest.approx(-1 / 6)
    assert negative_flips(before, after, labels).value == pytest.approx(2 / 6)
    assert negative_flips(before, before, labels).value == 0


def test_a_model_that_trades_errors_has_no_change_but_flips():
    labels = np.zeros(100, dtype=int)
    before, after = np.r_[np.ones(20), np.zeros(80)], np.r_[np.zeros(20), np.ones(20), np.zeros(60)]
    assert accuracy_change(before, after, labels).value == 0
    assert negative_flips(before, after, labels).value == 0.2


def test_worst_class_covers_the_truly_worst():
    rng, hits = np.random.default_rng(1), 0
    truth = np.array([0.9] * 9 + [0.85])
    for _ in range(300):
        labels = np.repeat(np.arange(10), 60)
        predictions = np.where(rng.random(600) < truth[labels], labels, 99)
        hits += 0.85 in worst_class_accuracy(predictions, labels)
    assert hits / 300 >= 0.95
    found = class_accuracies([0, 0, 1, 1, 1], [0, 0, 1, 1, 0])
    assert {k: v.value for k, v in found.items()} == {0: pytest.approx(2 / 3), 1: 1}


def parts(rng, sizes, base, flip):
    ours = [rng.random(n) < base for n in sizes]
    return ours, [part ^ (rng.random(len(part)) < flip) for part in ours]


def test_gap_and_tug_of_war_follow_their_definitions():
    ours, theirs = parts(np.random.default_rng(2), (50, 80, 40), 0.7, 0.2)
    gaps = [abs(a.mean() - b.mean()) for a, b in zip(ours, theirs, strict=True)]
    assert average_gap(ours, theirs).value == pytest.approx(np.mean(gaps))
    assert tug_of_war(ours, theirs).value == pytest.approx((1 - gaps[0]) * (1 - gaps[1]) * (1 - gaps[2]))
    assert average_gap(ours, ours).value == 0
    assert tug_of_war(ours, ours).value == 1


@pytest.mark.parametrize("flip", [0.0, 0.02, 0.2])
def test_their_intervals_cover_also_where_the_models_are_equal(flip):
    rng, gap_hits, tow_hits, symmetric = (
        np.random.default_rng(3),
        0,
        0,
        0.5,
    )  # base 0.5: flips cancel, true gap 0
    for _ in range(80):
        ours, theirs = parts(rng, (100, 60, 80), symmetric, flip)
        gap_hits += 0 in average_gap(ours, theirs)
        tow_hits += 1 in tug_of_war(ours, theirs)
    assert min(gap_hits, tow_hits) / 80 >= 0.93


def test_no_change_among_few_records_is_no_proof_of_equality():
    same = [np.ones(30)]
    assert average_gap(same, same).high > 0.05


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="not a whole number"):
        accuracy([0.3, 0.7], [0, 1])
    with pytest.raises(ValueError, match="2 parts of the unlearned model and 1"):
        average_gap([[1, 0], [1, 0]], [[1, 0]])
    with pytest.raises(ValueError, match="Lengths differ"):
        negative_flips([1, 0], [1, 0, 1], [1, 0])
