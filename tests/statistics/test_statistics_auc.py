"""AUC and DeLong: against the definition, against scikit-learn, and coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from nablatau.statistics import (
    Interval,
    auc_delong,
    auc_estimate,
    auc_stratified,
    delong_paired,
    delong_unpaired,
)

scores = st.lists(st.integers(-4, 4), min_size=2, max_size=12)


def naive_delong(positives, negatives):
    """DeLong 1988, eq. 3-6, by the double loop."""
    wins = [[(x > y) + 0.5 * (x == y) for y in negatives] for x in positives]
    n, m = len(positives), len(negatives)
    v10 = [sum(row) / m for row in wins]
    v01 = [sum(row[j] for row in wins) / n for j in range(m)]
    auc = sum(v10) / n
    s10 = sum((v - auc) ** 2 for v in v10) / (n - 1)
    s01 = sum((v - auc) ** 2 for v in v01) / (m - 1)
    return auc, s10 / n + s01 / m, v10, v01


@given(scores, scores)
@settings(max_examples=80, deadline=None)
def test_estimate_is_the_double_loop_and_sklearn(positives, negatives):
    estimate = auc_estimate(positives, negatives)
    auc, variance, _, _ = naive_delong(positives, negatives)
    labels = [1] * len(positives) + [0] * len(negatives)
    assert estimate.value == pytest.approx(auc) == pytest.approx(roc_auc_score(labels, positives + negatives))
    assert estimate.standard_error == pytest.approx(math.sqrt(variance), abs=1e-9)


@given(scores, scores)
@settings(max_examples=80, deadline=None)
def test_interval_stays_inside_and_mirrors(positives, negatives):
    one, other = auc_delong(positives, negatives), auc_delong(negatives, positives)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.high > one.low  # never a point: perfect separation of a handful proves little
    assert other.value == pytest.approx(1 - one.value)
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-6)


@pytest.mark.parametrize("n", [2, 5, 20, 1000])
def test_perfect_separation_gives_an_interval_that_narrows_with_n(n):
    interval = auc_delong(np.arange(n) + 1e6, np.arange(n))
    assert (interval.value, interval.high) == (1, 1)
    t, size = interval.low, n - 1  # Newcombe 2006, method 5: (1 - t)^2 = z^2 V(t)
    model = t * (1 - t) * (1 + size * (1 - t) / (2 - t) + size * t / (1 + t)) / n**2
    assert (1 - t) ** 2 == pytest.approx(1.959964**2 * model, rel=1e-4)


def test_a_constant_attack_knows_nothing_rather_than_everything():
    interval = auc_delong(np.zeros(50), np.zeros(50))
    assert interval.value == 0.5
    assert interval.low < 0.42
    assert interval.high > 0.58


def covered(auc, n, m, shift_scale, runs=600, seed=0):
    rng = np.random.default_rng(seed)
    shift = norm.ppf(auc) * math.sqrt(1 + shift_scale**2)
    drawn = (auc_delong(rng.normal(shift, shift_scale, n), rng.normal(0, 1, m)) for _ in range(runs))
    return np.mean([auc in interval for interval in drawn])


@pytest.mark.parametrize("auc", [0.5, 0.7, 0.9])
@pytest.mark.parametrize(("n", "m"), [(15, 15), (40, 100)])
def test_coverage_is_nominal(auc, n, m):
    assert 0.925 <= covered(auc, n, m, 1.0) <= 0.985


def test_coverage_holds_for_unequal_spread():
    assert covered(0.8, 60, 60, 3.0) >= 0.925


def stratified_draw(rng, strata=8, low=2, high=9):
    """Classes of unequal size and difficulty; no record leaks within its class."""
    n, m = rng.integers(low, high, strata), rng.integers(low, high, strata)
    ours, theirs = np.repeat(np.arange(strata), n), np.repeat(np.arange(strata), m)
    return rng.normal(3 * ours, 1), rng.normal(3 * theirs, 1), ours, theirs


def test_stratified_has_its_level_where_the_pooled_one_is_misled():
    rng = np.random.default_rng(1)
    draws = [stratified_draw(rng) for _ in range(500)]
    assert np.mean([0.5 not in auc_stratified(*d).interval for d in draws]) <= 0.07
    skewed = [(d[0] + 3, d[1], d[2] + 1, d[3]) for d in draws]  # the forget set holds harder classes
    assert np.mean([0.5 not in auc_stratified(*d).interval for d in skewed]) <= 0.07
    assert np.mean([0.5 not in auc_delong(d[0], d[1]) for d in skewed]) > 0.2


def test_stratified_is_the_weighted_mean_of_each_class():
    rng = np.random.default_rng(2)
    positives, negatives, ours, theirs = stratified_draw(rng, strata=4)
    found = auc_stratified(positives, negatives, ours, theirs)
    raw, value, variance = [], 0.0, 0.0
    for k in range(4):
        n, m = np.sum(ours == k), np.sum(theirs == k)
        raw.append(n * m / (n + m + 1))
        auc, var, _, _ = naive_delong(positives[ours == k], negatives[theirs == k])
        value, variance = value + raw[-1] * auc, variance + raw[-1] ** 2 * var
    assert found.interval.value == pytest.approx(value / sum(raw))
    assert found.weight == pytest.approx(np.array(raw) / sum(raw))
    single = auc_stratified(positives, negatives, np.zeros(len(ours)), np.zeros(len(theirs)))
    plain = auc_delong(positives, negatives)
    assert (single.interval.low, single.interval.high) == pytest.approx((plain.low, plain.high))


def test_strata_on_one_side_are_left_out_and_reported():
    found = auc_stratified([1, 2, 3, 9], [1, 2, 0, 5], ["a", "a", "a", "b"], ["a", "a", "a", "c"])
    assert (found.strata, found.left_out) == (("a",), ("b", "c"))
    assert (found.positives_left_out, found.negatives_left_out) == (1, 1)
    assert (found.interval.n, found.interval.m) == (3, 3)
    with pytest.raises(ValueError, match="No stratum occurs on both sides"):
        auc_stratified([1, 2], [1, 2], [0, 0], [1, 1])


def test_paired_difference_uses_delongs_covariance():
    rng = np.random.default_rng(3)
    common_p, common_n = rng.normal(0.5, 1, 80), rng.normal(0, 1, 90)
    a = (common_p + 0.3 * rng.normal(size=80), common_n + 0.3 * rng.normal(size=90))
    b = (common_p + 0.3 * rng.normal(size=80), common_n + 0.3 * rng.normal(size=90))
    found = delong_paired(*a, *b)
    auc_a, var_a, a10, a01 = naive_delong(*a)
    auc_b, var_b, b10, b01 = naive_delong(*b)
    covariance = np.cov(a10, b10)[0, 1] / 80 + np.cov(a01, b01)[0, 1] / 90
    wald = 1.96 * math.sqrt(var_a + var_b - 2 * covariance)
    assert found.value == pytest.approx(auc_a - auc_b)
    assert (found.high - found.low) / 2 == pytest.approx(wald, rel=0.02)
    assert found.high - found.low < 0.7 * (lambda i: i.high - i.low)(delong_unpaired(*a, *b))


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("paired", [True, False])
def test_difference_has_its_coverage(shift, paired):
    rng, hits, runs, truth = np.random.default_rng(4), 0, 400, 0.0
    truth = norm.cdf(shift / math.sqrt(2)) - norm.cdf((shift + 0.3) / math.sqrt(2))
    for _ in range(runs):
        p, q = rng.normal(shift, 1, 40), rng.normal(0, 1, 40)
        if paired:  # second score: correlated 0.8 with the first, shifted by 0.3 more
            p2 = 0.8 * (p - shift) + 0.6 * rng.normal(size=40) + shift + 0.3
            q2 = 0.8 * q + 0.6 * rng.normal(size=40)
            hits += truth in delong_paired(p, q, p2, q2)
        else:
            hits += truth in delong_unpaired(p, q, rng.normal(shift + 0.3, 1, 40), rng.normal(0, 1, 40))
    assert 0.925 <= hits / runs <= 0.99


def test_identical_scores_differ_by_exactly_nothing():
    found = delong_paired([1, 2, 3], [0, 2, 1], [1, 2, 3], [0, 2, 1])
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"positives is not finite at index 1, 3"):
        auc_delong([1, np.nan, 2, np.inf], [1, 2])
    with pytest.raises(ValueError, match="negatives has 0 values"):
        auc_delong([1], [])
    with pytest.raises(ValueError, match="positives_a 2, positives_b 3"):
        delong_paired([1, 2], [1, 2], [1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="shape"):
        auc_delong([[1, 2]], [1])
    with pytest.raises(ValueError, match=r"Write 5 % as 0.05"):
        auc_delong([1, 2], [1, 2], confidence=95)


def test_interval_prints_and_refuses_nan():
    assert str(Interval(0.5312, 0.502, 0.56, 10, "x")) == "0.531 [0.502, 0.560]"
    with pytest.raises(ValueError, match="NaN"):
        Interval(float("nan"), 0, 1, 10, "x")
    with pytest.raises(ValueError, match="swapped"):
        Interval(0.5, 0.6, 0.4, 10, "x")


def test_a_hundred_thousand_records_are_quick():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=100_000), rng.normal(size=100_000)
    found = auc_delong(x, y)
    assert found.high - found.low < 0.006
    assert len(auc_stratified(x, y, np.arange(100_000) % 100, np.arange(100_000) % 100).strata) == 100
