"""RMSE and R squared against scikit-learn, with coverage."""

import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.metrics import root_mean_squared_error as sklearn_rmse

from nablatau.metrics import r_squared, root_mean_squared_error


def test_values_are_scikit_learns_also_far_from_zero():
    rng = np.random.default_rng(0)
    targets = rng.normal(1e6, 1, 200)
    predictions = targets + rng.normal(0, 0.5, 200)
    assert root_mean_squared_error(predictions, targets).value == pytest.approx(sklearn_rmse(targets, predictions))
    assert r_squared(predictions, targets).value == pytest.approx(r2_score(targets, predictions), rel=1e-6)
    assert r_squared(np.full(200, targets.mean()), targets).value == pytest.approx(0, abs=1e-6)
    assert r_squared(-targets, targets).value < -1e6


def test_coverage():
    rng, hits = np.random.default_rng(1), np.zeros(2)
    for seed in range(150):
        targets = rng.normal(0, 1, 150)
        predictions = targets + rng.normal(0, 0.5, 150)
        hits += [
            0.5 in root_mean_squared_error(predictions, targets, seed=seed),
            0.75 in r_squared(predictions, targets, seed=seed),
        ]
    assert np.all(hits / 150 >= 0.87)


def test_equal_targets_have_no_r_squared():
    with pytest.raises(ValueError, match="undefined"):
        r_squared([1.0, 2.0], [3.0, 3.0])
    with pytest.raises(ValueError, match="Lengths differ"):
        r_squared([1.0, 2.0], [3.0, 3.0, 1.0])
