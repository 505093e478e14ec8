"""KLoM and the challenge's forgetting score: twins, null floors, what bad unlearning gives."""

import math

import numpy as np
import pytest

from nablatau.metrics import (
    epsilon_per_example,
    forgetting_score,
    forgetting_score_null_floor,
    klom_gaussian,
    klom_gaussian_null_floor,
    klom_histogram,
    klom_null_floor,
    klom_per_example,
)


def naive_klom(p, q, bins=20):
    low, high = min(*p, *q), max(*p, *q)
    shares = []
    for sample in (p, q):
        counts = [0] * bins
        for x in sample:
            counts[min(int((x - low) / (high - low) * bins), bins - 1)] += 1
        shares.append([c / len(sample) for c in counts])
    return sum(a * math.log(a / max(b, 1e-5)) for a, b in zip(*shares, strict=True) if a > 0)


def test_klom_follows_its_definition():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0, 1, (30, 25)), rng.normal(0.5, 2, (40, 25))
    expected = [naive_klom(ours[:, i], theirs[:, i]) for i in range(25)]
    assert klom_per_example(ours, theirs) == pytest.approx(expected)
    assert klom_histogram(ours, theirs).value == pytest.approx(np.mean(expected))


def test_gaussian_klom_follows_its_definition_and_survives_a_constant_model():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(0, 1, (30, 2)), rng.normal(0.5, 2, (40, 2))
    m, s, mr, sr = ours.mean(0), ours.std(0, ddof=1), theirs.mean(0), theirs.std(0, ddof=1)
    expected = np.log(sr / s) + (s**2 + (m - mr) ** 2) / (2 * sr**2) - 0.5
    assert klom_gaussian(ours, theirs).value == pytest.approx(expected.mean())
    assert 3 < klom_gaussian(np.zeros((30, 2)), theirs).value < math.inf


@pytest.mark.parametrize(("models", "floor", "tolerance"), [(16, 3.85, 0.1), (100, 0.35, 0.02), (200, 0.15, 0.01)])
def test_the_null_floors_of_the_histogram(models, floor, tolerance):
    assert klom_null_floor(models, models).value == pytest.approx(floor, abs=tolerance)


@pytest.mark.parametrize(("k", "r"), [(16, 16), (100, 20), (8, 30)])
def test_the_gaussian_floor_is_exact(k, r):
    rng = np.random.default_rng(2)
    found = klom_gaussian(rng.normal(3, 2, (k, 4000)), rng.normal(3, 2, (r, 4000)))
    assert klom_gaussian_null_floor(k, r) in found or klom_gaussian_null_floor(k, r) == pytest.approx(
        found.value, rel=0.06
    )


def test_a_floor_read_as_zero_would_condemn_a_perfect_unlearning():
    rng = np.random.default_rng(3)
    perfect = klom_histogram(rng.normal(size=(16, 200)), rng.normal(size=(16, 200)))
    leaking = klom_histogram(rng.normal(2, 1, (16, 200)), rng.normal(size=(16, 200)))
    assert perfect.low > 3
    assert leaking.low > perfect.high


def naive_epsilon(u, r, delta=1e-5):
    """Every threshold, and every window around the narrower sample's median, by brute force."""
    n, best = len(u), 1.0
    high, low = (r, u) if np.median(r) > np.median(u) else (u, r)
    for t in np.concatenate([u, r]):
        missed, passed = np.sum(high < t), np.sum(low < t)
        best = max(best, (passed - delta * n) / missed if missed else 1)
        missed, passed = np.sum(low > t), np.sum(high > t)
        best = max(best, (passed - delta * n) / missed if missed else 1)
    narrow, wide = (r, u) if np.ptp(r) < np.ptp(u) else (u, r)
    ordered = np.sort(narrow)
    for a in ordered[: n // 2]:
        for b in ordered[n - n // 2 :]:
            out, found = np.sum((narrow < a) | (narrow > b)), np.sum((wide < a) | (wide > b))
            best = max(best, (found - delta * n) / out if out else 1)
    return math.log(best)


@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (0.7, 1), (0, 2), (-1, 0.4)])
def test_epsilon_is_the_brute_force_optimum(shift, scale):
    rng = np.random.default_rng(4)
    u, r = rng.normal(shift, scale, (24, 12)), rng.normal(0, 1, (24, 12))
    expected = [naive_epsilon(u[:, i], r[:, i]) for i in range(12)]
    assert epsilon_per_example(u, r) == pytest.approx(expected)


def test_score_buckets_by_hand():
    rng = np.random.default_rng(5)
    u, r = rng.normal(0.5, 1, (40, 30)), rng.normal(0, 1, (40, 30))
    epsilon, most = epsilon_per_example(u, r), math.ceil(math.log(39))
    expected = [0.5 ** int(e / 0.5) if e < most else 0 for e in epsilon]
    assert forgetting_score(u, r).value == pytest.approx(np.mean(expected))


def test_a_perfect_unlearning_scores_far_below_one():
    for models in (16, 128):
        assert forgetting_score_null_floor(models).value == pytest.approx(0.185, abs=0.02)
    rng = np.random.default_rng(6)
    assert forgetting_score(rng.normal(4, 1, (64, 50)), rng.normal(0, 1, (64, 50))).value < 0.02


def test_told_apart_without_error_is_infinite_and_scores_nothing():
    u, r = np.arange(20.0)[:, None] + [100, 0], np.arange(20.0)[:, None] * [1, 0.001]
    assert np.all(np.isinf(epsilon_per_example(u, r)))
    assert forgetting_score(u, r).value == 0


def test_mismatched_models_or_examples_are_refused():
    with pytest.raises(ValueError, match="rows are models"):
        klom_histogram(np.zeros((5, 4)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="equal numbers"):
        forgetting_score(np.zeros((5, 4)), np.zeros((6, 4)))
    with pytest.raises(ValueError, match="at least 3 rows"):
        klom_gaussian(np.zeros((2, 4)), np.zeros((6, 4)))
