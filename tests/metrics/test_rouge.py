"""ROUGE-L: against a naive longest common subsequence, by hand, and in other scripts."""

import numpy as np
import pytest

from nablatau.metrics import rouge_l
from nablatau.metrics.rouge import longest_common_subsequence, words


def naive_length(first, second):
    lengths = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            skipped = max(lengths[i, j + 1], lengths[i + 1, j])
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if one == other else skipped
    return lengths[-1, -1]


def test_longest_common_subsequence_against_a_naive_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        one, other = (["abcd"[i] for i in rng.integers(0, 4, rng.integers(0, 90))] for _ in range(2))
        assert longest_common_subsequence(one, other) == naive_length(one, other)


def test_by_hand():
    found = rouge_l("The cat, the cat sat!", "the cat sat on a mat")
    assert found.recall == pytest.approx(3 / 6)
    assert found.precision == pytest.approx(3 / 5)
    assert found.f == pytest.approx(2 * 0.5 * 0.6 / 1.1)
    assert rouge_l("mat a on sat cat the", "the cat sat on a mat").recall == pytest.approx(1 / 6)  # order counts
    assert rouge_l("same words", "Same, words.").f == 1
    assert rouge_l("", "something") == rouge_l("?", "something") == rouge_l("else", "something")


def test_words_are_runs_of_letters_and_digits_in_any_script():
    assert words("Don't stop-at 1,000_x") == ["don", "t", "stop", "at", "1", "000", "x"]
    assert words("Müller schrieb «Öde»") == ["müller", "schrieb", "öde"]
    assert rouge_l("Он родился в Баку", "Он родился в Баку.").recall == 1  # letters a to z alone would score 0


def without_endings(word):
    """A tiny stemmer."""
    return word.removesuffix("ning").removesuffix("s")


def test_words_of_four_letters_or_more_are_stemmed_where_a_stemmer_is_given():
    assert words("She runs, running as gas", without_endings) == ["she", "run", "run", "as", "gas"]  # as in rouge-score
    assert words("She runs, running as gas") == ["she", "runs", "running", "as", "gas"]
    assert rouge_l("she runs", "she running").recall == 1 / 2
    assert rouge_l("she runs", "she running", stem=without_endings).recall == 1
    assert rouge_l("gas", "ga", stem=without_endings).recall == 0


def test_a_true_text_without_words_is_refused():
    with pytest.raises(ValueError, match=r"The true text '\?!' has no word"):
        rouge_l("anything", "?!")
