"""Equivalence tests, sample sizes and minimum detectable effects: level, power, and the planned sample
sizes."""

import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp, ttest_ind

from nablatau.statistics import (
    auc_delong,
    auc_equivalence,
    auc_equivalence_of,
    auc_equivalence_power,
    auc_equivalence_sample_size,
    auc_estimate,
    auc_minimum_detectable_effect,
    auc_minimum_detectable_effect_of,
    auc_stratified,
    binomial_test,
    proportion_minimum_detectable_effect,
    tost_paired,
    tost_welch,
)


def test_planned_sample_sizes():
    assert auc_equivalence_sample_size(0.05) == 571
    assert auc_equivalence_sample_size(0.10) == 143


def test_power_formula_agrees_with_sample_size_and_with_simulation():
    assert auc_equivalence_power(571, 571, 0.05) >= 0.8 > auc_equivalence_power(570, 570, 0.05)
    rng = np.random.default_rng(0)
    found = [auc_equivalence_of(rng.normal(size=143), rng.normal(size=143), 0.1).p_value < 0.05 for _ in range(800)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.045)
    assert auc_equivalence_power(10, 10, 0.05) == 0


@pytest.mark.parametrize(("auc", "n", "m"), [(0.6, 150, 150), (0.4, 150, 150), (0.6, 100, 400)])
def test_equivalence_keeps_its_level_at_the_edge_of_the_margin(auc, n, m):
    rng, shift = np.random.default_rng(1), norm.ppf(auc) * math.sqrt(2)
    draws = ((rng.normal(shift, 1, n), rng.normal(0, 1, m)) for _ in range(800))
    assert np.mean([auc_equivalence_of(x, y, 0.1).p_value < 0.05 for x, y in draws]) <= 0.07


def test_equivalent_exactly_when_the_90_percent_interval_lies_inside():
    rng = np.random.default_rng(2)
    for _ in range(40):
        x, y = rng.normal(0.1, 1, 120), rng.normal(0, 1, 150)
        interval = auc_delong(x, y, confidence=0.9)
        inside = interval.low > 0.4 and interval.high < 0.6
        assert inside == (auc_equivalence_of(x, y, 0.1).p_value < 0.05)


def test_a_stratified_auc_can_be_tested_and_a_perfect_or_constant_attack_is_not_equivalent():
    rng = np.random.default_rng(3)
    x, y, strata = rng.normal(size=900), rng.normal(size=900), np.arange(900) % 9
    estimate = auc_stratified(x, y, strata, strata).estimate
    assert auc_equivalence(estimate, 0.1).p_value < 0.001
    assert auc_minimum_detectable_effect_of(estimate) == pytest.approx(
        auc_minimum_detectable_effect(900, 900), rel=0.02
    )
    assert auc_equivalence_of(np.arange(30) + 100, np.arange(30), 0.1).p_value > 0.99
    assert auc_equivalence_of(np.zeros(20), np.zeros(20), 0.05).p_value > 0.2


def test_welch_tost_by_hand():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.1, 1, 60), rng.normal(0, 2, 90)
    error = math.sqrt(a.var(ddof=1) / 60 + b.var(ddof=1) / 90)
    freedom = ttest_ind(a, b, equal_var=False).df
    from scipy.stats import t

    by_hand = max(
        t.sf((a.mean() - b.mean() + 0.5) / error, freedom),
        t.cdf((a.mean() - b.mean() - 0.5) / error, freedom),
    )
    found = tost_welch(a, b, 0.5)
    assert found.p_value == pytest.approx(by_hand)
    assert (found.n, found.m) == (60, 90)
    assert tost_welch(a, b, 5.0).p_value < 1e-6 < 0.5 < tost_welch(a + 5, b, 0.5).p_value


def test_paired_tost_by_hand():
    rng = np.random.default_rng(5)
    a = rng.normal(size=50)
    b = a + rng.normal(0, 0.1, 50)
    low, high = (
        ttest_1samp(a - b, bound, alternative=side).pvalue for bound, side in ((-0.05, "greater"), (0.05, "less"))
    )
    assert tost_paired(a, b, 0.05).p_value == pytest.approx(max(low, high))
    assert tost_paired(a, a, 0.05).p_value == 0
    assert tost_paired(a, a + 1, 0.05).p_value == 1


def test_tost_keeps_its_level():
    rng = np.random.default_rng(6)
    found = [tost_welch(rng.normal(0.5, 1, 30), rng.normal(0, 2, 60), 0.5).p_value < 0.05 for _ in range(600)]
    assert np.mean(found) <= 0.07


@pytest.mark.parametrize(("n", "m"), [(30, 30), (40, 200), (200, 200)])
def test_the_minimum_detectable_auc_is_found_with_the_stated_power(n, m):
    effect = auc_minimum_detectable_effect(n, m)
    rng, shift = np.random.default_rng(7), norm.ppf(0.5 + effect) * math.sqrt(2)
    found = [0.5 not in auc_delong(rng.normal(shift, 1, n), rng.normal(0, 1, m)) for _ in range(600)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_detectable_effects_shrink_with_n_and_are_infinite_where_nothing_can_be_seen():
    assert auc_minimum_detectable_effect(2, 2) == math.inf
    assert auc_minimum_detectable_effect(4000, 4000) == pytest.approx(
        auc_minimum_detectable_effect(1000, 1000) / 2, rel=0.02
    )
    assert proportion_minimum_detectable_effect(5, 0.9) == math.inf
    assert proportion_minimum_detectable_effect(500, 0.05, 500) > proportion_minimum_detectable_effect(500, 0.05)


@pytest.mark.parametrize(("n", "baseline"), [(60, 0.05), (100, 0.0), (40, 0.5)])
def test_the_minimum_detectable_share_is_found_with_the_stated_power(n, baseline):
    share = baseline + proportion_minimum_detectable_effect(n, baseline)
    hits = np.random.default_rng(8).binomial(n, share, 2000)
    rejects = {k: binomial_test(k, n, baseline, "greater").p_value <= 0.025 for k in set(hits.tolist())}
    assert np.mean([rejects[k] for k in hits.tolist()]) == pytest.approx(0.8, abs=0.03)


def test_the_two_group_effect_is_found_with_the_stated_power():
    share = 0.1 + proportion_minimum_detectable_effect(300, 0.1, 400)
    rng = np.random.default_rng(9)
    a, b = rng.binomial(300, share, 4000) / 300, rng.binomial(400, 0.1, 4000) / 400
    pooled = (300 * a + 400 * b) / 700
    z = (a - b) / np.sqrt(pooled * (1 - pooled) * (1 / 300 + 1 / 400))
    assert np.mean(z > 1.96) == pytest.approx(0.8, abs=0.03)


def test_bad_margins_and_samples_are_refused():
    with pytest.raises(ValueError, match=r"must be below 0\.5"):
        auc_equivalence(auc_estimate([1, 2], [1, 2]), 0.5)
    with pytest.raises(ValueError, match="margin is -1"):
        tost_welch([1, 2], [1, 2], -1)
    with pytest.raises(ValueError, match="constant model"):
        tost_welch([1, 1], [1, 1], 0.1)
    with pytest.raises(ValueError, match="power"):
        auc_equivalence_sample_size(0.05, power=1)
