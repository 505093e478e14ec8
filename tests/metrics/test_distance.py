"""Distances between outputs: definitions, bounds, and what equal models give."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from nablatau.metrics import activation_distance, churn, js_divergence, nearer_to_reference

rng = np.random.default_rng(0)
first, second, third = (rng.normal(0, 2, (80, 6)).astype(np.float32) for _ in range(3))
opposite = np.array([[1000.0, -1000], [1000, -1000]]), np.array([[-1000.0, 1000], [-1000, 1000]])


def test_activation_distance_is_the_mean_norm():
    gap = softmax(first.astype(float), axis=1) - softmax(second.astype(float), axis=1)
    assert activation_distance(first, second).value == pytest.approx(np.linalg.norm(gap, axis=1).mean())
    assert activation_distance(*opposite).value == pytest.approx(math.sqrt(2))
    assert activation_distance(first, first).value == 0


def test_js_divergence_is_scipys_squared_and_bounded_by_one():
    p, q = softmax(first.astype(float), axis=1), softmax(second.astype(float), axis=1)
    assert js_divergence(first, second).value == pytest.approx((jensenshannon(p, q, axis=1, base=2) ** 2).mean())
    assert js_divergence(first, second).value == pytest.approx(js_divergence(second, first).value)
    assert js_divergence(*opposite).value == 1


def test_adding_a_constant_to_the_logits_changes_nothing():
    assert js_divergence(first + 7, second).value == pytest.approx(js_divergence(first, second).value, rel=1e-4)


def test_churn_counts_disagreements():
    assert churn([0, 1, 2, 3], [0, 1, 3, 2]).value == 0.5
    assert churn([0, 1], [0, 1]).high > 0.5  # two agreements prove little


def naive_nearer(unlearned, original, reference):
    credit = []
    for u, o, r in zip(*(softmax(x.astype(float), axis=1) for x in (unlearned, original, reference)), strict=True):
        away, toward = jensenshannon(u, o), jensenshannon(u, r)
        credit.append(0.5 if abs(away - toward) < 1e-9 else float(toward < away))
    return np.mean(credit)


def test_nearer_to_reference_by_hand_and_at_its_ends():
    assert nearer_to_reference(first, second, third).value == pytest.approx(naive_nearer(first, second, third))
    assert nearer_to_reference(third, second, third).value == 1
    assert nearer_to_reference(second, second, third).value == 0
    equal = nearer_to_reference(first, second, second)
    assert equal.value == 0.5
    assert equal.low < 0.5 < equal.high
