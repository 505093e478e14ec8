"""Probabilities, truth ratios and model utility: TOFU's definitions, its two means, and what a wrong one hides."""

import numpy as np
import pytest
from scipy.stats import hmean

from nablatau.metrics import (
    answer_probabilities,
    choice_probabilities,
    model_utility,
    truth_ratio_nearness,
    truth_ratio_utilities,
    truth_ratios,
)


def some_losses(rng, questions=30):
    return rng.exponential(2, questions), [rng.exponential(2, rng.integers(1, 6)) for _ in range(questions)]


def naive_ratio(right, wrong):
    return np.mean([np.exp(-each) for each in wrong]) / np.exp(-right)


def naive_ratio_of_the_published_code(right, wrong):
    return np.exp(-np.mean(wrong)) / np.exp(-right)


def naive_choice(right, wrong):
    return np.exp(-right) / (np.exp(-right) + sum(np.exp(-each) for each in wrong))


def test_definitions():
    right, wrong = some_losses(np.random.default_rng(0))
    pairs = list(zip(right, wrong, strict=True))
    assert answer_probabilities(right) == pytest.approx(np.exp(-right))
    assert choice_probabilities(right, wrong) == pytest.approx([naive_choice(*pair) for pair in pairs])
    assert truth_ratios(right, wrong) == pytest.approx([naive_ratio_of_the_published_code(*pair) for pair in pairs])
    assert truth_ratios(right, wrong, mean="arithmetic") == pytest.approx([naive_ratio(*pair) for pair in pairs])


def test_the_two_means_are_two_numbers():
    arithmetic, geometric = (truth_ratios([1.0], [[0.5, 4.0]], mean=mean) for mean in ("arithmetic", "geometric"))
    assert arithmetic[0] == pytest.approx(0.849, abs=0.001)
    assert geometric[0] == pytest.approx(0.287, abs=0.001)
    with pytest.raises(ValueError, match="'geometric', as in TOFU's code, or 'arithmetic'"):
        truth_ratios([1.0], [[1.0]], mean="harmonic")


def test_answers_that_are_unlikely_alike_have_a_ratio_of_one():
    """With 10^-10 added to the divisor it would be 5e-14, and read as knowing the truth."""
    losses = np.full(5, 54.0)
    assert truth_ratios(losses, [[54.0, 54.0]] * 5) == pytest.approx(1)
    assert choice_probabilities([900.0], [[900.0, 900.0]]) == pytest.approx(1 / 3)
    assert truth_ratios([900.0], [[900.0]]) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"question.* 0 is too large .* sums over tokens"):
        truth_ratios([900.0], [[1.0]])


def test_utility_of_a_ratio_and_its_nearness_to_one():
    ratios = [0.0, 0.25, 1.0, 4.0]
    assert truth_ratio_utilities(ratios) == pytest.approx([1, 0.75, 0, 0])
    assert truth_ratio_nearness(ratios) == pytest.approx([0, 0.25, 1, 0.25])


def test_model_utility_is_the_harmonic_mean_of_the_parts():
    rng = np.random.default_rng(1)
    sets = [rng.random((n, 3)) for n in (300, 100, 117)]
    found = model_utility(sets)
    assert found.value == pytest.approx(hmean(np.concatenate([values.mean(axis=0) for values in sets])))
    assert found.low < found.value < found.high
    assert found == model_utility(sets)
    assert found != model_utility(sets, seed=1)
    drawn = [model_utility([rng.random((n, 3)) for n in (300, 100, 117)]).value for _ in range(200)]
    assert found.high - found.low == pytest.approx(np.quantile(drawn, 0.975) - np.quantile(drawn, 0.025), rel=0.3)


def test_one_part_of_zero_makes_utility_zero_and_a_set_of_one_question_is_enough():
    assert model_utility([[[0.5, 0.5]], [[0.0, 1.0]]]).value == 0
    assert model_utility([[[0.5, 0.25]]]).value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model_utility([]), "question_sets is empty"),
        (lambda: model_utility([[[0.5, 1.5]]]), r"question set 0 lies outside 0 to 1 at \(0, 1\).*not percentages"),
        (lambda: truth_ratios([1.0, 2.0], [[1.0]]), "paraphrased_losses 2, wrong_losses 1"),
        (lambda: truth_ratios([1.0], [[]]), "wrong_losses of question 0 has 0 values"),
        (lambda: truth_ratios([1.0], []), "wrong_losses is empty"),
        (lambda: answer_probabilities([1.0, -0.5]), "negative at index 1.*Turn their sign"),
        (lambda: truth_ratio_utilities([-1.0]), "negative at index 0"),
    ],
)
def test_what_cannot_be_read_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
