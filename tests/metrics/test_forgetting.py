"""ZRF with the right divergence; recovery by retain-only fine-tuning."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from nablatau.metrics import recovery_contrast, zero_retrain_forgetting


def test_zrf_is_one_minus_the_true_divergence():
    rng = np.random.default_rng(0)
    ours, teacher = rng.normal(0, 3, (50, 3)), rng.normal(0, 0.5, (50, 3))
    p, q = softmax(ours, axis=1), softmax(teacher, axis=1)
    right = 1 - (jensenshannon(p, q, axis=1, base=2) ** 2).mean()
    assert zero_retrain_forgetting(ours, teacher).value == pytest.approx(right)
    m = (p + q) / 2
    swapped = (
        1 - ((m * np.log(m / p) + m * np.log(m / q)) / 2).mean()
    )  # as in public code: KL(m || .), mean over classes
    assert abs(swapped - right) > 0.1


def test_zrf_of_a_disjoint_and_of_an_equal_model():
    sure = np.array([[900.0, 0], [900, 0]])
    assert zero_retrain_forgetting(sure, sure).value == 1
    assert zero_retrain_forgetting(sure, sure[:, ::-1]).value == pytest.approx(0)


def flags(rng, n, before, after):
    """0/1 before and after, with the same records coming back: after is at least before where it rises."""
    level = rng.random(n)
    return level < before, level < after


def test_recovery_is_seen_where_memory_was_hidden_and_not_where_it_was_absent():
    rng = np.random.default_rng(1)
    hidden = recovery_contrast(*flags(rng, 300, 0.64, 0.91), *flags(rng, 300, 0.60, 0.62))
    assert hidden.low > 0.1
    assert hidden.value == pytest.approx(0.25, abs=0.06)
    absent = [recovery_contrast(*flags(rng, 300, 0.61, 0.63), *flags(rng, 300, 0.60, 0.62)) for _ in range(100)]
    assert np.mean([0 in found for found in absent]) >= 0.9


def test_its_coverage():
    rng, hits = np.random.default_rng(2), 0
    for _ in range(400):
        draws = [*flags(rng, 60, 0.5, 0.8), *flags(rng, 80, 0.6, 0.7)]
        hits += 0.2 in recovery_contrast(*draws)
    assert hits / 400 >= 0.93


def test_by_hand():
    found = recovery_contrast([0, 0, 1, 1], [1, 1, 1, 1], [1, 0], [1, 0])
    assert found.value == pytest.approx(0.5)
    assert (found.n, found.m) == (4, 2)
