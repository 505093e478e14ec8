"""F1 scores against scikit-learn; labels that do not occur; all labels count, not the first."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from nablatau.metrics import f1_macro, f1_micro, f1_per_label

rng = np.random.default_rng(0)
labels = rng.random((300, 6)) < [0.5, 0.3, 0.1, 0.05, 0.6, 0.2]
predictions = labels ^ (rng.random((300, 6)) < 0.15)


def test_values_are_scikit_learns():
    assert f1_macro(predictions, labels).value == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert f1_micro(predictions, labels).value == pytest.approx(f1_score(labels, predictions, average="micro"))
    each = f1_score(labels, predictions, average=None)
    assert [i.value for i in f1_per_label(predictions, labels).values()] == pytest.approx(each)


def test_a_label_that_does_not_occur_is_left_out():
    empty = np.zeros((300, 1), dtype=bool)
    with_empty = f1_macro(np.hstack([predictions, empty]), np.hstack([labels, empty]))
    assert with_empty.value == pytest.approx(f1_macro(predictions, labels).value)
    assert list(f1_per_label(np.hstack([empty, predictions]), np.hstack([empty, labels]))) == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    with pytest.raises(ValueError, match="undefined"):
        f1_macro(empty, empty)


def test_every_label_counts_and_not_only_the_first():
    spoiled = predictions.copy()
    spoiled[:, 1:] = ~labels[:, 1:]
    assert f1_macro(spoiled, labels).high < f1_macro(predictions, labels).low


def test_rare_labels_have_wide_intervals():
    each = f1_per_label(predictions, labels)
    assert each[3].high - each[3].low > 2 * (each[4].high - each[4].low)


def test_probabilities_are_refused():
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        f1_micro(np.full((2, 2), 0.4), np.ones((2, 2)))
    with pytest.raises(ValueError, match="rows are examples"):
        f1_micro([1, 0], [1, 0])
