"""The logistic-regression attack: published protocol, an interval that covers, what chance looks like."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

from nablatau.attacks.logistic_regression import corrected_interval, logistic_regression, mean_accuracy, null_spread


def heavy_losses(generator: np.random.Generator, size: int) -> np.ndarray:
    """Losses shaped like a trained classifier's: most near zero, a long tail."""
    return np.logaddexp(0, -generator.normal(5, 4, size))


def naive_protocol(forget: np.ndarray, unseen: np.ndarray) -> list[float]:
    """The challenge's evaluation, one split at a time."""
    values = np.concatenate([unseen, forget]).reshape(-1, 1)
    labels = np.array([0] * len(unseen) + [1] * len(forget))
    accuracies = []
    for train, test in StratifiedShuffleSplit(n_splits=10, random_state=0).split(values, labels):
        model = LogisticRegression().fit(values[train], labels[train])
        accuracies.append(float((model.predict(values[test]) == labels[test]).mean()))
    return accuracies


def test_equal_sides_follow_the_published_protocol_split_by_split() -> None:
    generator = np.random.default_rng(3)
    forget, unseen = heavy_losses(generator, 120), heavy_losses(generator, 120) + 0.3
    result = logistic_regression(forget, unseen, seed=17)
    assert list(result.split_accuracies) == naive_protocol(forget, unseen)
    assert result.mean == pytest.approx(np.mean(result.split_accuracies))


@pytest.mark.parametrize("sizes", [(60, 200), (200, 60)])
def test_the_larger_side_is_subsampled_with_the_seed(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(5)
    forget, unseen = heavy_losses(generator, sizes[0]), heavy_losses(generator, sizes[1])
    first, again = (logistic_regression(forget, unseen, seed=1) for _ in range(2))
    other = logistic_regression(forget, unseen, seed=2)
    assert first.records_per_side == 60
    assert first == again
    assert first.split_accuracies != other.split_accuracies


def test_separable_sides_score_one_and_a_constant_model_scores_chance() -> None:
    apart = logistic_regression(np.zeros(50), np.full(50, 9.0))
    assert apart.mean == 1.0
    assert apart.mean > apart.null_high
    constant = logistic_regression(np.ones(50), np.ones(50))
    assert constant.mean == 0.5
    assert constant.null_low <= 0.5 <= constant.null_high


def test_over_forgetting_scores_as_high_as_remembering() -> None:
    generator = np.random.default_rng(0)
    low, high = heavy_losses(generator, 200), heavy_losses(generator, 200) + 3
    assert logistic_regression(low, high).mean > 0.8
    assert logistic_regression(high, low).mean > 0.8


def test_equal_means_hide_a_difference_that_the_area_under_the_curve_shows() -> None:
    generator = np.random.default_rng(1)
    unseen = generator.gamma(4.0, 0.25, 1000)
    forget = np.where(generator.random(1000) < 0.9, 0.3 * generator.gamma(4.0, 0.25, 1000), 7.3)
    forget *= unseen.mean() / forget.mean()
    result = logistic_regression(forget, unseen)
    labels = np.repeat([1, 0], 1000)
    assert roc_auc_score(labels, -np.concatenate([forget, unseen])) > 0.75
    assert result.mean < 0.6


def test_the_corrected_interval_is_nadeau_and_bengio() -> None:
    accuracies = np.array([0.5, 0.55, 0.45, 0.6, 0.52, 0.48, 0.5, 0.58, 0.51, 0.49])
    spread = np.sqrt((1 / 10 + 0.1 / 0.9) * accuracies.var(ddof=1))
    expected = stats.t.interval(0.95, df=9, loc=accuracies.mean(), scale=spread)
    assert corrected_interval(accuracies) == pytest.approx(expected)


def test_the_corrected_interval_covers_and_the_naive_one_does_not() -> None:
    generator = np.random.default_rng(11)
    covered, naively = 0, 0
    for _ in range(80):
        accuracies = np.array(naive_protocol(heavy_losses(generator, 60), heavy_losses(generator, 60)))
        low, high = corrected_interval(accuracies)
        covered += low <= 0.5 <= high
        naive = stats.t.interval(0.95, df=9, loc=accuracies.mean(), scale=accuracies.std(ddof=1) / np.sqrt(10))
        naively += naive[0] <= 0.5 <= naive[1]
    assert covered >= 0.88 * 80
    assert naively <= 0.88 * 80


@pytest.mark.parametrize(("size", "published"), [(100, (0.44, 0.60)), (2500, (0.486, 0.516))])
def test_the_null_spread_of_losses_agrees_with_the_measured_one(size: int, published: tuple[float, float]) -> None:
    spread = null_spread(size, values=heavy_losses(np.random.default_rng(2), 4 * size))
    assert spread == pytest.approx(published, abs=0.4 / np.sqrt(size))


def test_the_null_spread_is_what_the_sklearn_protocol_gives() -> None:
    generator = np.random.default_rng(4)
    means = [np.mean(naive_protocol(generator.normal(size=40), generator.normal(size=40))) for _ in range(120)]
    low, high = null_spread(40)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.06)


def test_one_simulated_attack_is_the_sklearn_attack_up_to_its_tolerance() -> None:
    from nablatau.attacks.logistic_regression import _shuffled_accuracies, _split_indices

    values = np.random.default_rng(9).normal(size=400)
    (fast,) = _shuffled_accuracies(values[None], *_split_indices(200))
    assert fast == pytest.approx(np.mean(naive_protocol(values[200:], values[:200])), abs=0.005)


def test_the_null_spread_narrows_with_the_root_of_the_size() -> None:
    at_thousand, at_four_thousand = null_spread(1000), null_spread(4000)
    assert np.subtract(at_four_thousand, 0.5) * 2 == pytest.approx(np.subtract(at_thousand, 0.5))


def test_the_null_spread_keeps_its_seed() -> None:
    assert null_spread(50, seed=3) == null_spread(50, seed=3)
    assert null_spread(50, seed=3) != null_spread(50, seed=4)


def test_a_retrained_model_scores_inside_its_null_spread_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(6)
    inside = 0
    for _ in range(25):
        result = logistic_regression(heavy_losses(generator, 50), heavy_losses(generator, 50))
        inside += result.null_low <= result.mean <= result.null_high
    assert inside >= 21


@pytest.mark.parametrize(
    ("forget", "unseen", "message"),
    [
        ([], np.ones(20), "forget_values has 0 values"),
        (np.ones(20), np.ones(4), "unseen_values has 4 values; at least 10"),
        (np.where(np.arange(20) == 7, np.nan, 1.0), np.ones(20), "not finite at index 7"),
        (np.ones((20, 2)), np.ones(20), r"forget_values has shape \(\d+, \d+\)"),
    ],
)
def test_unusable_values_are_named(forget: np.ndarray, unseen: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        logistic_regression(forget, unseen)


def test_impossible_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"Write 5 % as 0\.05, not as 5"):
        logistic_regression(np.ones(20), np.ones(20), confidence=95)
    with pytest.raises(ValueError, match="records_per_side is 3"):
        null_spread(3)


def test_the_accuracy_alone_is_that_of_the_attack() -> None:
    generator = np.random.default_rng(5)
    forget, unseen = generator.normal(0.5, 1, 40), generator.normal(0, 1, 90)
    whole, alone = logistic_regression(forget, unseen, seed=2), mean_accuracy(forget, unseen, seed=2)
    assert (alone.value, alone.low, alone.high, alone.n) == (whole.mean, whole.low, whole.high, whole.records_per_side)
