"""The reference attack: by hand, and where a ratio of losses fails."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nablatau.attacks.reference_difference import reference_difference


def test_by_hand() -> None:
    assert reference_difference([0.5, 2.0], [1.5, 1.0]).tolist() == [1.0, -1.0]


def test_records_of_unequal_difficulty() -> None:
    generator = np.random.default_rng(0)
    member, difficulty = np.arange(1000) % 2 == 0, generator.exponential(3, 1000)
    losses = np.maximum(0, difficulty + generator.normal(0, 0.1, 1000) - 0.3 * member)
    references = np.maximum(0.001, difficulty + generator.normal(0, 0.1, 1000))
    assert roc_auc_score(member, -losses) < 0.6
    assert roc_auc_score(member, reference_difference(losses, references)) > 0.9
    assert roc_auc_score(member, -losses / references) < 0.86  # the ratio is noise where a text is easy


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="losses 2, reference_losses 1"):
        reference_difference([1.0, 1.0], [1.0])
