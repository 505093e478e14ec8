"""SWAP: retraining scores nothing by construction, however unlike the two sets are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score, roc_curve

from nablatau.attacks.swap import swap

scores = arrays(np.float64, st.integers(1, 12), elements=st.integers(-3, 3).map(float))


def area(members: np.ndarray, others: np.ndarray) -> float:
    labels = [1] * len(members) + [0] * len(others)
    return float(roc_auc_score(labels, np.concatenate([members, others])))


@settings(max_examples=60, deadline=None)
@given(scores, scores)
def test_a_model_that_retrains_scores_one_half_exactly(a: np.ndarray, b: np.ndarray) -> None:
    result = swap(a, b, b, a)
    assert result.area == pytest.approx(0.5, abs=1e-12)
    assert result.advantage == pytest.approx(0.0, abs=1e-12)


def test_a_plain_attack_blames_an_easy_forget_set_and_swap_does_not() -> None:
    generator = np.random.default_rng(0)
    easy, hard = generator.normal(1.5, 1, 300), generator.normal(0, 1, 200)
    noise = lambda size: generator.normal(0, 0.1, size)  # noqa: E731 - two retrainings, two seeds
    result = swap(easy + noise(300), hard + noise(200), hard + noise(200), easy + noise(300))
    assert result.area_split > 0.8
    assert result.area == pytest.approx(0.5, abs=0.01)


def test_remembering_and_over_forgetting_have_opposite_signs() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(1, 1, 300), generator.normal(0, 1, 300)
    remembered, pushed_out = swap(a + 1, b, b + 1, a), swap(a - 1, b, b - 1, a)
    assert remembered.area > 0.6
    assert remembered.advantage > 0.2
    assert pushed_out.area < 0.4
    assert pushed_out.advantage < -0.2


@settings(max_examples=40, deadline=None)
@given(scores, scores, st.integers(0, 99))
def test_areas_are_sklearns_and_the_advantage_is_the_largest_of_a_scan(a: np.ndarray, b: np.ndarray, seed: int) -> None:
    generator = np.random.default_rng(seed)
    b2, a2 = generator.integers(-3, 3, b.size).astype(float), generator.integers(-3, 3, a.size).astype(float)
    result = swap(a, b, b2, a2)
    assert result.area_split == pytest.approx(area(a, b))
    assert result.area_swapped == pytest.approx(area(b2, a2))
    best = 0.0
    for t in np.unique(np.concatenate([a, b, a2, b2])):
        gain = ((a >= t).mean() - (b >= t).mean() + (b2 >= t).mean() - (a2 >= t).mean()) / 2
        best = gain if abs(gain) > abs(best) + 1e-12 else best
    assert abs(result.advantage) == pytest.approx(abs(best))


def test_without_the_exchange_it_is_the_usual_advantage() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(1, 1, 100), generator.normal(0, 1, 100)
    false_rate, true_rate, _ = roc_curve([1] * 100 + [0] * 100, np.concatenate([a, b]))
    assert swap(a, b, a, b).advantage == pytest.approx((true_rate - false_rate).max())


def test_sides_that_are_not_exchanged_are_refused() -> None:
    with pytest.raises(ValueError, match="swapped split has 3 forget and 2 unseen"):
        swap(np.ones(3), np.ones(2), np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="swapped_unseen_scores is not finite at index 0"):
        swap([1.0], [1.0], [1.0], [np.nan])
