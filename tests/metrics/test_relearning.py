"""Relearn time and anamnesis index from curves."""

import math

import pytest

from nablatau.metrics import anamnesis_index, relearn_time

steps = [0, 1, 2, 5, 10, 20]


def test_relearn_time_is_the_bracket_of_measurements():
    found = relearn_time(steps, [0.1, 0.2, 0.5, 0.8, 0.95, 1.0], 0.9)
    assert (found.low, found.value, found.high) == (5, 10, 10)
    at_once = relearn_time(steps, [0.95, 1, 1, 1, 1, 1], 0.9)
    assert (at_once.low, at_once.value, at_once.high) == (0, 0, 0)


def test_a_target_never_reached_is_infinite_from_the_last_step():
    found = relearn_time(steps, [0.1] * 6, 0.9)
    assert (found.low, found.value, found.high) == (20, math.inf, math.inf)


def test_anamnesis_index_by_hand():
    reference, unlearned = [0.1, 0.2, 0.3, 0.5, 0.97, 1], [0.2, 0.5, 0.96, 1, 1, 1]
    found = anamnesis_index(unlearned, reference, steps, 1.0, tolerance=0.05)
    assert found.value == pytest.approx(2 / 10)  # remembers: five times faster than the retrained model
    assert (found.low, found.high) == (pytest.approx(1 / 10), pytest.approx(2 / 5))
    assert 1 in anamnesis_index(reference, reference, steps, 1.0)
    assert anamnesis_index([1.0] * 6, reference, steps, 1.0).value == 0
    assert anamnesis_index([0.0] * 6, reference, steps, 1.0).value == math.inf


def test_undefined_indices_are_refused():
    with pytest.raises(ValueError, match="Neither model reaches"):
        anamnesis_index([0.0] * 6, [0.0] * 6, steps, 1.0)
    with pytest.raises(ValueError, match="before any relearning"):
        anamnesis_index([0.1] * 6, [1.0] * 6, steps, 1.0)
    with pytest.raises(ValueError, match="Sort the measurements"):
        relearn_time([0, 5, 2], [0.1, 0.2, 0.3], 0.2)
    with pytest.raises(ValueError, match="original_accuracy"):
        anamnesis_index([0.1], [0.1], [0], 95)
