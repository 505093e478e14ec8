"""Binomial intervals: textbook values, scipy, and exact coverage by enumeration."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from nablatau.statistics import clopper_pearson, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (81, 263), (990, 1000)])
def test_both_agree_with_scipy(successes, n):
    test = binomtest(successes, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(0.9, method=method)
        found = ours(successes, n, 0.9)
        assert (found.value, found.n) == (successes / n, n)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_value_from_newcombe_1998():
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5])
def test_exact_coverage_by_enumeration(p):
    n = 40
    weights = binom.pmf(np.arange(n + 1), n, p)
    assert sum(w for k, w in enumerate(weights) if p in clopper_pearson(k, n)) >= 0.95
    assert sum(w for k, w in enumerate(weights) if p in wilson(k, n)) >= 0.92


def test_bad_counts():
    with pytest.raises(ValueError, match="more than all"):
        wilson(11, 10)
    with pytest.raises(ValueError, match="n is 0"):
        clopper_pearson(0, 0)
    with pytest.raises(ValueError, match="whole number"):
        wilson(0.5, 10)
