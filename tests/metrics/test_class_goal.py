"""Class goals: the neighbour-class leak is seen, noise is not."""

import numpy as np
import pytest
from scipy.special import softmax

from nablatau.metrics import class_goal_distance, class_goal_null_floor, class_shifts


def outputs(rng, n=400, neighbour=0.0):
    """Examples of a removed class 0, spread over four classes; `neighbour` moves mass between classes 1 and
    2."""
    return rng.normal([-8, 1 + neighbour, 1 - neighbour, 0, -1], 1, (n, 5))


def test_distance_is_the_total_variation_of_the_mean_vectors():
    rng = np.random.default_rng(0)
    ours, theirs = outputs(rng, 50), outputs(rng, 50, 0.7)
    gap = softmax(ours, axis=1).mean(axis=0) - softmax(theirs, axis=1).mean(axis=0)
    assert class_goal_distance(ours, theirs).value == pytest.approx(np.abs(gap).sum() / 2)
    assert class_goal_distance(ours, ours).value == 0


def test_two_retrained_models_give_the_floor_and_zero_is_inside():
    rng, inside, values, floors, named = np.random.default_rng(1), 0, [], [], 0
    for seed in range(60):
        ours, theirs = outputs(rng, 200), outputs(rng, 200)
        found = class_goal_distance(ours, theirs, seed=seed)
        inside += found.low == 0
        values.append(found.value)
        floors.append(class_goal_null_floor(ours, theirs))
        named += len(class_shifts(ours, theirs)) > 0
    assert np.mean(values) == pytest.approx(np.mean(floors), rel=0.15)
    assert inside / 60 >= 0.9
    assert named / 60 <= 0.12


def test_the_neighbour_leak_is_found_where_accuracy_is_blind():
    rng = np.random.default_rng(2)
    ours, theirs = outputs(rng, neighbour=0.8), outputs(rng)
    assert np.all(ours.argmax(axis=1) != 0)
    assert np.all(theirs.argmax(axis=1) != 0)
    assert class_goal_distance(ours, theirs).low > 2 * class_goal_null_floor(ours, theirs)
    shifts = class_shifts(ours, theirs)
    assert {shifts[0].name, shifts[1].name} == {1, 2}
    by_name = {shift.name: shift.difference.value for shift in shifts}
    assert by_name[1] > 0 > by_name[2]
