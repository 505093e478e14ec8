"""Paired and unpaired changes of a share: by-hand twins, exact levels, coverage."""

import math
from math import comb

import numpy as np
import pytest

from nablatau.statistics import (
    Interval,
    difference_of_changes,
    mcnemar,
    paired_change,
    unpaired_change,
    wilson,
)


def table(both, lost, gained, neither):
    before = [1] * (both + lost) + [0] * (gained + neither)
    after = [1] * both + [0] * lost + [1] * gained + [0] * neither
    return np.array(before), np.array(after)


def naive_newcombe(e, f, g, h):
    """Newcombe 1998b, method 10: share of the first condition minus share of the second; f, g the discordant
    pairs."""
    n, z = e + f + g + h, 1.959963984540054
    p1, p2 = (e + f) / n, (e + g) / n

    def limits(p):
        half = z * math.sqrt(z * z + 4 * n * p * (1 - p))
        return (2 * n * p + z * z - half) / (2 * (n + z * z)), (2 * n * p + z * z + half) / (2 * (n + z * z))

    (l1, u1), (l2, u2), c = limits(p1), limits(p2), e * h - f * g
    root = math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    phi = (max(c - n / 2, 0) if c > 0 else c) / root if root else 0
    low = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = math.sqrt((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2)
    return p1 - p2, p1 - p2 - low, p1 - p2 + high


@pytest.mark.parametrize("cells", [(36, 2, 12, 0), (20, 5, 3, 30), (53, 1, 0, 0), (10, 0, 0, 10), (0, 9, 4, 2)])
def test_paired_change_follows_newcombe(cells):
    both, lost, gained, neither = cells
    found = paired_change(*table(*cells))
    assert (found.value, found.low, found.high) == pytest.approx(naive_newcombe(both, gained, lost, neither))


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 3), (10, 1), (0, 6)])
def test_mcnemar_is_the_sign_test_on_discordant_pairs(lost, gained):
    found, k = mcnemar(*table(30, lost, gained, 10)), lost + gained
    tail = sum(comb(k, i) for i in range(min(lost, gained) + 1)) / 2**k
    assert found.p_value == pytest.approx(min(1, 2 * tail))
    assert found.statistic == pytest.approx((gained - lost) / (40 + k))


@pytest.mark.parametrize("probabilities", [(0.9, 0.04, 0.02, 0.04), (0.5, 0.2, 0.1, 0.2), (0.97, 0.02, 0.0, 0.01)])
def test_coverage_of_the_paired_change(probabilities):
    rng, hits = np.random.default_rng(0), 0
    truth = probabilities[2] - probabilities[1]
    for cells in rng.multinomial(80, probabilities, size=600):
        hits += truth in paired_change(*table(*cells))
    assert hits / 600 >= 0.93


def test_pairing_pays_and_the_unpaired_change_covers():
    rng = np.random.default_rng(1)
    before = rng.random(500) < 0.8
    after = before ^ (rng.random(500) < 0.02)
    paired, unpaired = paired_change(before, after), unpaired_change(after, before)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    pairs = [(rng.random(40) < 0.95, rng.random(60) < 0.9) for _ in range(600)]
    assert np.mean([0.05 in unpaired_change(a, b) for a, b in pairs]) >= 0.93


def test_unpaired_change_of_newcombe_1998a():
    a, b = np.r_[np.ones(56), np.zeros(14)], np.r_[np.ones(48), np.zeros(32)]
    found = unpaired_change(a, b)  # his example (a), method 10: 0.0524 to 0.3339
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_difference_of_changes_joins_independent_intervals():
    a, b = wilson(60, 100), wilson(30, 100)
    found = difference_of_changes(a, b)
    assert found.low == pytest.approx(0.3 - math.hypot(0.6 - a.low, b.high - 0.3))
    assert found.high == pytest.approx(0.3 + math.hypot(a.high - 0.6, 0.3 - b.low))
    with pytest.raises(ValueError, match="Confidences differ"):
        difference_of_changes(a, Interval(0.1, 0, 1, 5, "x", confidence=0.9))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="neither 0 nor 1 at index 1"):
        paired_change([0, 2], [0, 1])
    with pytest.raises(ValueError, match="first 2, second 3"):
        mcnemar([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="empty"):
        unpaired_change([], [1])
