"""Min-K % and Min-K++ %: naive versions, short texts, and what a token is judged beside."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from nablatau.attacks.min_k import min_k, min_k_plus_plus


def naive_lowest(values: np.ndarray, share: float) -> float:
    return float(np.sort(values)[: max(1, int(share * len(values) + 1e-9))].mean())


def naive_standardised(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    found = []
    for row, target in zip(logits, targets, strict=True):
        log_p = log_softmax(row)
        mean = np.sum(np.exp(log_p) * log_p)
        found.append((log_p[target] - mean) / np.sqrt(np.sum(np.exp(log_p) * (log_p - mean) ** 2)))
    return np.array(found)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3, 1])
def test_the_mean_of_the_lowest_share(share: float) -> None:
    generator = np.random.default_rng(0)
    texts = [-generator.exponential(2, generator.integers(1, 40)) for _ in range(50)]
    assert min_k(texts, share=share) == pytest.approx([naive_lowest(text, share) for text in texts])


def test_min_k_plus_plus_by_hand() -> None:
    generator = np.random.default_rng(1)
    logits = [generator.normal(0, 2, (length, 9)) for length in (1, 4, 12, 30)]
    targets = [generator.integers(0, 9, len(each)) for each in logits]
    log_p = [log_softmax(each, axis=1) for each in logits]
    told = [each[np.arange(len(each)), target] for each, target in zip(log_p, targets, strict=True)]
    means = [(np.exp(each) * each).sum(axis=1) for each in log_p]
    deviations = [
        np.sqrt((np.exp(each) * (each - mean[:, None]) ** 2).sum(axis=1))
        for each, mean in zip(log_p, means, strict=True)
    ]
    expected = [naive_lowest(naive_standardised(*pair), 0.2) for pair in zip(logits, targets, strict=True)]
    assert min_k_plus_plus(told, means, deviations) == pytest.approx(expected)


def test_texts_of_fewer_tokens_than_one_over_the_share_have_a_score() -> None:
    assert min_k([[-3.0, -1.0], [-0.5]]).tolist() == [-3.0, -0.5]  # int(0.2 · 2) = 0 tokens would have no mean
    assert min_k([np.full(15, -1.0) - np.arange(15)]) == pytest.approx([-14.0])  # 3 of 15, not 2


def test_a_token_is_judged_beside_what_could_have_stood_there() -> None:
    log_p = [[-2.0, -2.0], [-2.0, -2.0]]
    scores = min_k_plus_plus(log_p, [[-2.0, -2.0], [-0.1, -0.1]], [[1.0, 1.0], [1.0, 1.0]])
    assert min_k(log_p)[0] == min_k(log_p)[1]
    assert scores[0] > scores[1]  # unlikely where nothing was likely, and where something was


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match=r"texts 1 have none\. Leave them out"):
        min_k([[-1.0], []])
    with pytest.raises(ValueError, match="there are no texts"):
        min_k([])
    with pytest.raises(ValueError, match="differ in the number of texts or tokens"):
        min_k_plus_plus([[-1.0, -1.0]], [[-1.0]], [[1.0, 1.0]])
    with pytest.raises(ValueError, match="0 or less at token 1 of all"):
        min_k_plus_plus([[-1.0, -1.0]], [[-1.0, -1.0]], [[1.0, 0.0]])
    with pytest.raises(ValueError, match="share is 20"):
        min_k([[-1.0]], share=20)
