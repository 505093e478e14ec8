"""The one-run audit: the theorem's numbers, its inversion, and guesses that record order cannot help."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nablatau.attacks.one_run_epsilon import epsilon_lower_bound, one_run_audit, one_run_p_value


def naive_p_value(right: int, guesses: int, epsilon: float, delta: float, canaries: int) -> float:
    """The theorem, with binomial probabilities written out."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    mass = [math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(guesses + 1)]
    beta = sum(mass[right:])
    alpha = max((sum(mass[right - i : right]) / i for i in range(1, right + 1)), default=0.0)
    return min(1.0, beta + 2 * canaries * delta * alpha)


def test_seventy_five_of_a_hundred_at_log_three() -> None:
    assert one_run_p_value(75, 100, math.log(3)) == pytest.approx(0.553, abs=5e-4)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40),
    st.floats(0, 1),
    st.floats(0, 4),
    st.sampled_from([0.0, 1e-6, 1e-3]),
    st.integers(0, 30),
)
def test_the_p_value_is_the_theorem(guesses: int, share: float, epsilon: float, delta: float, spare: int) -> None:
    right = round(share * guesses)
    expected = naive_p_value(right, guesses, epsilon, delta, guesses + spare)
    found = one_run_p_value(right, guesses, epsilon, delta=delta, canaries=guesses + spare)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("right", "guesses"), [(75, 100), (60, 80), (100, 100), (540, 1000)])
def test_without_delta_the_bound_is_clopper_and_pearson_s(right: int, guesses: int) -> None:
    lowest = stats.beta.ppf(0.05, right, guesses - right + 1)  # one-sided 95 %
    expected = max(0.0, math.log(lowest / (1 - lowest)))
    assert epsilon_lower_bound(right, guesses) == pytest.approx(expected, abs=1e-9)


def test_all_right_is_bounded_by_the_number_of_guesses_alone() -> None:
    q = 0.05 ** (1 / 500)
    assert epsilon_lower_bound(500, 500) == pytest.approx(math.log(q / (1 - q)))


def test_the_bound_sits_where_the_p_value_crosses() -> None:
    bound = epsilon_lower_bound(80, 100, canaries=400, delta=1e-5)
    settings_ = {"delta": 1e-5, "canaries": 400}
    assert one_run_p_value(80, 100, bound - 1e-6, **settings_) <= 0.05
    assert one_run_p_value(80, 100, bound + 1e-6, **settings_) > 0.05


def test_delta_and_spare_canaries_lower_the_bound() -> None:
    assert epsilon_lower_bound(90, 100, delta=1e-4) < epsilon_lower_bound(90, 100)
    assert epsilon_lower_bound(90, 100, delta=1e-4, canaries=900) < epsilon_lower_bound(90, 100, delta=1e-4)


def test_coin_flips_rule_nothing_out() -> None:
    assert epsilon_lower_bound(50, 100) == 0.0
    assert epsilon_lower_bound(0, 100) == 0.0


def test_the_guesses_are_the_extremes() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.4, 0.8, 0.2])
    included = np.array([False, True, True, False, False, False])
    result = one_run_audit(scores, included, guesses=4)
    assert (result.right, result.guesses, result.canaries) == (3, 4, 6)  # 0.8 was not included
    assert one_run_audit(scores[:5], included[:5]).guesses == 4


def test_a_constant_model_does_not_leak_through_the_order_of_the_canaries() -> None:
    included = np.arange(1000) < 500
    for order in (included, ~included):
        result = one_run_audit(np.zeros(1000), order)
        assert abs(result.right - 500) < 60
        assert result.epsilon_low < 0.1


def test_exact_forgetting_is_flagged_no_more_often_than_stated() -> None:
    generator = np.random.default_rng(0)
    flagged = 0
    for _ in range(300):
        included = generator.random(120) < 0.5
        flagged += one_run_audit(generator.normal(size=120), included, guesses=60).epsilon_low > 0
    assert flagged <= 0.05 * 300 + 2 * math.sqrt(0.05 * 0.95 * 300)


def test_randomised_response_is_bounded_below_its_epsilon_and_not_far_below() -> None:
    generator = np.random.default_rng(1)
    included = generator.random(4000) < 0.5
    truthful = generator.random(4000) < math.e**2 / (1 + math.e**2)
    answers = np.where(truthful, included, ~included) + 0.1 * generator.random(4000)
    assert 1.7 < one_run_audit(answers, included).epsilon_low < 2.0


def test_unusable_counts_and_scores_are_named() -> None:
    with pytest.raises(ValueError, match="right is 5, guesses 4"):
        one_run_p_value(5, 4, 1.0)
    with pytest.raises(ValueError, match="canaries 3"):
        one_run_p_value(2, 4, 1.0, canaries=3)
    with pytest.raises(ValueError, match="epsilon is -1"):
        one_run_p_value(2, 4, -1.0)
    with pytest.raises(ValueError, match="guesses is 3 for 4 canaries"):
        one_run_audit(np.arange(4.0), [0, 1, 0, 1], guesses=3)
    with pytest.raises(ValueError, match=r"included has shape \(3,\), \(4,\) needed"):
        one_run_audit(np.arange(4.0), [0, 1, 0])
