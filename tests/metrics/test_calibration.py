"""Likelihood and calibration error: definitions, and the floor that noise alone makes."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from nablatau.metrics import calibration_null_floor, expected_calibration_error, negative_log_likelihood


def calibrated(rng, n, scale=1.5, classes=4):
    logits = rng.normal(0, scale, (n, classes))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random(n)[:, None] > cumulative[:, :-1]).sum(axis=1)


def naive_calibration_error(logits, labels, bins):
    p, total = softmax(logits, axis=1), 0.0
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_follows_its_definition(bins):
    logits, labels = calibrated(np.random.default_rng(0), 300)
    found = expected_calibration_error(2 * logits, labels, bins=bins)
    assert found.value == pytest.approx(naive_calibration_error(2 * logits, labels, bins))


def test_likelihood_is_scikit_learns():
    logits, labels = calibrated(np.random.default_rng(1), 100)
    expected = log_loss(labels, softmax(logits, axis=1), labels=range(4))
    assert negative_log_likelihood(logits, labels).value == pytest.approx(expected)
    assert np.isfinite(negative_log_likelihood(logits * 500, labels).value)  # a saturated softmax would give infinity


def test_a_calibrated_model_has_the_floor_and_its_interval_holds_zero():
    rng, runs = np.random.default_rng(2), 60
    found, floors = [], []
    for seed in range(runs):
        logits, labels = calibrated(rng, 400)
        found.append(expected_calibration_error(logits, labels, seed=seed))
        floors.append(calibration_null_floor(logits))
    assert np.mean([i.value for i in found]) == pytest.approx(np.mean(floors), rel=0.08)
    assert np.mean(floors) > 0.04  # far from zero
    assert np.mean([i.low == 0 for i in found]) >= 0.88


def test_an_overconfident_model_is_seen():
    logits, labels = calibrated(np.random.default_rng(3), 4000)
    found = expected_calibration_error(4 * logits, labels)
    assert found.low > 3 * calibration_null_floor(4 * logits)
