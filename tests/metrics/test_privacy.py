"""The epsilon bound holds, is not empty, and sample splitting is what makes it hold."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from nablatau.metrics import epsilon_lower_bound
from nablatau.metrics.privacy import _all_bounds, _thresholds


def laplace(rng, epsilon, n):
    """Scores whose likelihood ratio is bounded by exp(epsilon), and reaches it on half of the line."""
    return rng.laplace(epsilon, 1, n), rng.laplace(0, 1, n)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_the_bound_holds_at_its_confidence(epsilon):
    rng = np.random.default_rng(0)
    bounds = [epsilon_lower_bound(*laplace(rng, epsilon, 400), seed=s).value for s in range(150)]
    assert np.mean([b > epsilon for b in bounds]) <= 0.05


def test_the_bound_comes_near_with_many_records_and_sees_over_forgetting():
    rng = np.random.default_rng(1)
    leak = epsilon_lower_bound(*laplace(rng, 1.0, 20_000))
    assert 0.85 < leak.value <= 1.0
    assert (leak.low, leak.high) == (leak.value, math.inf)
    over = epsilon_lower_bound(*laplace(rng, -1.0, 20_000))
    assert 0.85 < over.value <= 1.0
    assert epsilon_lower_bound(*laplace(rng, 1.0, 20_000), delta=0.1).value < leak.value


def test_without_splitting_it_would_not_hold():
    rng, broken = np.random.default_rng(2), 0
    for _ in range(150):
        p, q = laplace(rng, 0.0, 200)
        broken += _all_bounds(p, q, _thresholds(np.r_[p, q]), 0.0, 0.025).max() > 0
    assert broken / 150 > 0.08


def test_one_statement_by_hand():
    p, q = np.arange(40) + 30.0, np.arange(40) + 0.0  # 30 of 40 above 39, against none
    found = _all_bounds(p, q, np.array([39.0]), 0.05, 0.025)[0, 0]
    low, high = beta.ppf(0.025, 30, 11), beta.ppf(0.975, 1, 40)
    assert found == pytest.approx(math.log((low - 0.05) / high))


def test_perfect_separation_is_limited_by_the_number_of_records():
    found = epsilon_lower_bound(np.arange(100) + 1000.0, np.arange(100.0))
    limit = math.log(0.025 ** (1 / 50) / (1 - 0.025 ** (1 / 50)))
    assert found.value == pytest.approx(limit, abs=0.8)
    assert found.value <= limit
    with pytest.raises(ValueError, match="at least 20"):
        epsilon_lower_bound(np.arange(19), np.arange(100))
