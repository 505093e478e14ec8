"""Bootstrap, means, corrections for many tests: twins, scipy, coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_1samp, ttest_ind

from nablatau.statistics import (
    benjamini_hochberg,
    bootstrap_absolute_sum,
    bootstrap_means,
    bootstrap_paired,
    bootstrap_unpaired,
    holm,
    mean_interval,
    paired_mean_difference,
    unpaired_mean_difference,
)


def ratio(means):
    return means[..., 0] / means[..., 1]


def test_mean_intervals_are_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 2, 40), rng.normal(0, 1, 60)
    one, theirs = mean_interval(a, 0.9), ttest_1samp(a, 0).confidence_interval(0.9)
    assert (one.low, one.high) == pytest.approx((theirs.low, theirs.high))
    two, theirs = unpaired_mean_difference(a, b), ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (two.low, two.high) == pytest.approx((theirs.low, theirs.high))
    assert paired_mean_difference(a, a + 1).value == pytest.approx(-1)
    assert unpaired_mean_difference([1, 1], [0, 0]).low == 1
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])


def test_bootstraps_agree_with_the_t_interval_and_repeat_with_the_seed():
    rng = np.random.default_rng(1)
    a = rng.normal(0.3, 1, 200)
    b = a + rng.normal(0, 0.2, 200)
    paired, unpaired = bootstrap_paired(a, b, seed=3), bootstrap_unpaired(a, b, seed=3)
    for ours, exact in ((paired, paired_mean_difference(a, b)), (unpaired, unpaired_mean_difference(a, b))):
        width = exact.high - exact.low
        assert ours.value == pytest.approx(exact.value)
        assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=0.06 * width)
    assert paired == bootstrap_paired(a, b, seed=3)
    assert paired != bootstrap_paired(a, b, seed=4)


def test_bootstrap_takes_any_vectorised_statistic():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=99), rng.normal(1, 1, 99)
    found = bootstrap_unpaired(a, b, lambda x, y, axis=-1: np.median(x, axis=axis) - np.median(y, axis=axis), seed=0)
    assert found.value == pytest.approx(np.median(a) - np.median(b))
    assert found.low < -1 < found.high


def naive_bootstrap(columns, statistic, resamples, seed):
    rng, n = np.random.default_rng(seed), len(columns)
    drawn = [statistic(columns[rng.integers(n, size=n)].mean(axis=0)) for _ in range(resamples)]
    return np.quantile(drawn, [0.025, 0.975])


@pytest.mark.parametrize("n", [60, 6001])  # 6001: groups of unequal size
def test_bootstrap_means_agrees_with_the_loop(n):
    rng = np.random.default_rng(3)
    columns = np.stack([rng.exponential(1, n), rng.exponential(2, n)], axis=1)
    found = bootstrap_means(columns, ratio, seed=0, resamples=3000)
    low, high = naive_bootstrap(columns, ratio, 1500, seed=1)
    assert found.value == pytest.approx(columns[:, 0].mean() / columns[:, 1].mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize("n", [80, 3000])
def test_bootstrap_means_has_its_coverage(n):
    rng, hits = np.random.default_rng(4), 0
    for seed in range(200):
        columns = np.stack([rng.exponential(1, n), rng.exponential(2, n)], axis=1)
        hits += 0.5 in bootstrap_means(columns, ratio, seed=seed, resamples=400)
    assert hits / 200 >= 0.89


def test_an_undefined_statistic_is_refused():
    with pytest.raises(ValueError, match="undefined"), np.errstate(invalid="ignore"):
        bootstrap_means(np.zeros((5, 2)), ratio, seed=0)


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(p_values)
@settings(max_examples=60, deadline=None)
def test_corrections_follow_their_definitions(p):
    n, order = len(p), np.argsort(p, kind="stable")
    step_up = [min(min(p[order[j]] * n / (j + 1) for j in range(i, n)), 1) for i in range(n)]
    step_down = [min(max(p[order[j]] * (n - j) for j in range(i + 1)), 1) for i in range(n)]
    assert benjamini_hochberg(p)[order] == pytest.approx(step_up)
    assert holm(p)[order] == pytest.approx(step_down)
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p))


def test_levels_of_both_corrections():
    rng = np.random.default_rng(5)
    nulls = rng.uniform(size=(2000, 20))
    assert np.mean([holm(row).min() <= 0.05 for row in nulls]) <= 0.06
    assert np.mean([benjamini_hochberg(row).min() <= 0.05 for row in nulls]) <= 0.06
    with pytest.raises(ValueError, match="outside"):
        holm([0.1, 1.2])


def test_a_hundred_thousand_records_are_quick():
    rng = np.random.default_rng(6)
    columns = rng.exponential(1, (100_000, 3))
    found = bootstrap_means(columns, ratio, seed=0)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 100_000), rel=0.1)


@pytest.mark.parametrize("means", [(0, 0, 0, 0, 0), (0.3, -0.3, 0, 0, 0), (1, 1, 1, 1, 1)])
def test_absolute_sums_are_covered_also_at_zero(means):
    rng, hits, percentile_hits = np.random.default_rng(7), 0, 0
    for seed in range(150):
        columns = rng.normal(means, 1, (100, 5))
        hits += sum(np.abs(means)) in bootstrap_absolute_sum(columns, seed=seed, resamples=300)
        percentile = bootstrap_means(columns, lambda m: np.abs(m).sum(axis=-1), seed=seed, resamples=300)
        percentile_hits += sum(np.abs(means)) in percentile
    assert hits / 150 >= 0.9
    if not any(means):
        assert percentile_hits == 0  # the reason for the other interval
