"""Log-space quantities: definitions, extreme logits, refusal of saturated or mistaken input."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import log_loss

from nablatau.statistics import cross_entropy, entropy, jensen_shannon, log_softmax, margin

rng = np.random.default_rng(0)
logits, other = rng.normal(0, 3, (50, 7)).astype(np.float32), rng.normal(0, 3, (50, 7)).astype(np.float32)
labels = rng.integers(0, 7, 50)


def test_against_definitions():
    p, q = softmax(logits.astype(float), axis=1), softmax(other.astype(float), axis=1)
    p_y = p[np.arange(50), labels]
    assert np.exp(log_softmax(logits)) == pytest.approx(p)
    assert cross_entropy(logits, labels).mean() == pytest.approx(log_loss(labels, p, labels=range(7)))
    assert margin(logits, labels) == pytest.approx(np.log(p_y) - np.log(1 - p_y))
    assert entropy(logits) == pytest.approx(scipy_entropy(p, axis=1))
    assert jensen_shannon(logits, other) == pytest.approx(jensenshannon(p, q, axis=1) ** 2)
    assert jensen_shannon(logits, other, normalised=True) == pytest.approx(jensenshannon(p, q, axis=1, base=2) ** 2)


def test_confident_records_keep_their_margins_where_a_softmax_saturates():
    steep = np.array([[20.0, 0, 0], [40.0, 0, 0], [-60.0, 0, 0]], dtype=np.float32)
    saturated = softmax(steep, axis=1)[:2, 0]
    assert np.all(saturated == 1)  # both confident records look alike, and their margins are infinite
    assert margin(steep, [0, 0, 0]) == pytest.approx([20 - math.log(2), 40 - math.log(2), -60 - math.log(2)])
    assert np.all(np.isfinite(cross_entropy(steep, [1, 1, 0])))
    assert jensen_shannon([[1000.0, 0]], [[0.0, 1000]]) == pytest.approx([math.log(2)])
    assert jensen_shannon(steep, steep) == pytest.approx([0, 0, 0])


def test_js_is_bounded_symmetric_and_not_what_other_tools_print():
    # two classes, p = (a, 1 - a) against its mirror image: JS = log 2 - H(a) = 0.453 nats at a = 0.9351
    a = 0.93505
    p, q = np.array([[a, 1 - a]]), np.array([[1 - a, a]])
    right = jensen_shannon(np.log(p), np.log(q))[0]
    assert right == pytest.approx(math.log(2) + a * math.log(a) + (1 - a) * math.log(1 - a))
    assert right == pytest.approx(0.453, abs=5e-4)
    assert jensen_shannon(np.log(q), np.log(p))[0] == pytest.approx(right)
    m = (p + q) / 2
    swapped = (m * (np.log(m / p) + np.log(m / q)) / 2).mean()  # kl_div(log p, m), averaged over classes too
    assert swapped == pytest.approx(0.354, abs=1e-3)
    one_half = (p * np.log(p / m)).sum() / 2
    assert one_half == pytest.approx(0.227, abs=1e-3)


def test_mistaken_input_is_refused():
    with pytest.raises(ValueError, match="are probabilities"):
        entropy(softmax(logits, axis=1))
    with pytest.raises(ValueError, match="float16"):
        margin(logits.astype(np.float16), labels)
    with pytest.raises(ValueError, match=r"outside 0\.\.6 at index 2"):
        cross_entropy(logits[:3], [0, 1, 7])
    with pytest.raises(ValueError, match="not a whole number"):
        cross_entropy(logits[:2], [0.5, 1])
    with pytest.raises(ValueError, match="Shapes differ"):
        jensen_shannon(logits, other[:, :5])
    with pytest.raises(ValueError, match=r"not finite at index \(1, 0\)"):
        log_softmax([[0.0, 1], [np.nan, 2]])
    with pytest.raises(ValueError, match="dtype"):
        log_softmax([["a", "b"]])
