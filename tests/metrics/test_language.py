"""Extraction strength, PrivLeak and forget quality: the errors of public code as tests."""

import inspect

import numpy as np
import pytest

from nablatau.metrics import exact_memorisation, extraction_strength, forget_quality, privacy_leak
from nablatau.statistics import auc_delong, ks_critical_distance


def naive_strength(correct):
    for k in range(len(correct) + 1):
        if all(correct[k:]):
            return 1 - k / len(correct)
    raise AssertionError


def test_extraction_strength_follows_its_definition():
    rng = np.random.default_rng(0)
    texts = [rng.random(rng.integers(1, 12)) < 0.7 for _ in range(50)]
    assert extraction_strength(texts).value == pytest.approx(np.mean([naive_strength(text) for text in texts]))


def test_nothing_extracted_is_zero_and_not_one_over_the_length():
    assert extraction_strength([[0, 0, 0, 0], [1, 1, 1, 0]]).value == 0
    assert extraction_strength([[1, 1], [1, 1]]).value == 1
    with pytest.raises(ValueError, match="empty"):
        extraction_strength([[1, 0], []])


def test_each_text_weighs_alike_in_exact_memorisation():
    assert exact_memorisation([[1, 0, 0, 0], [1], [1, 0]]).value == pytest.approx((0.25 + 1 + 0.5) / 3)
    with pytest.raises(ValueError, match="empty"):
        exact_memorisation([[1, 0], []])


def test_privacy_leak_by_hand_and_its_signs():
    rng = np.random.default_rng(1)
    member, unseen, retrained = rng.normal(1, 1, 200), rng.normal(0, 1, 200), rng.normal(0.2, 1, 200)
    u, r = auc_delong(member, unseen).value, auc_delong(retrained, unseen).value
    leak = privacy_leak(member, unseen, retrained, unseen)
    assert leak.value == pytest.approx((r - u) / (1 - r) * 100)
    assert leak.high < 0
    assert 0 in privacy_leak(retrained, unseen, retrained, unseen)
    assert privacy_leak(-member, unseen, retrained, unseen).low > 0


def test_the_retrained_models_scores_cannot_be_left_out():
    parameters = list(inspect.signature(privacy_leak).parameters.values())
    assert [p.default for p in parameters[:4]] == [inspect.Parameter.empty] * 4
    with pytest.raises(ValueError, match="AUC is 1"):
        privacy_leak([1, 2], [1, 2], [5, 6], [1, 2])


def test_forget_quality_at_forty_passes_a_model_that_remembers():
    rng, passed = np.random.default_rng(2), []
    for _ in range(100):  # truth ratios half a standard deviation apart
        found = forget_quality(rng.normal(0.5, 1, 40), rng.normal(0, 1, 40))
        passed.append(found.test.p_value > 0.05)
        assert found.smallest_detectable == pytest.approx(0.304, abs=0.001)
    assert np.mean(passed) > 0.3
    assert forget_quality(rng.normal(0.5, 1, 400), rng.normal(0, 1, 400)).test.p_value < 0.01


def test_critical_distance_is_where_the_test_turns():
    rng, n = np.random.default_rng(3), 200
    for _ in range(60):
        found = forget_quality(rng.normal(0.25, 1, n), rng.normal(0, 1, n))
        if abs(found.test.statistic - found.smallest_detectable) > 0.01:
            assert (found.test.statistic > found.smallest_detectable) == (found.test.p_value < 0.05)
    assert ks_critical_distance(100, 100) == pytest.approx(1.358 * 0.02**0.5, abs=1e-3)
