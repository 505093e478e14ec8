"""What ∇τ does to scikit-learn's digits: single records go, whole classes go, the rest stays."""

import pytest
from torch import nn

from nablatau import NablaTau, Project, Retrain
from nablatau.data import Request
from nablatau.records import Records
from nablatau.scoring import score
from nablatau.statistics import auc_delong
from nablatau.tasks import digits_noisy
from small import accuracy

FORGOTTEN = 52 / 500
"""So many that retraining's batches of 64 come out even: a last batch of two records would cost it a quarter of what
it learns, and it would be no reference."""


def auc(model: nn.Module, request: Request, project: Project) -> float:
    """Of telling forgotten from unseen records by the loss; the unseen ones are those that no method has looked at."""
    assert request.evaluation_set is not None
    sets: list[Records] = [request.forget_set, request.evaluation_set]
    return auc_delong(*(-score(model, each, project.objective)["loss"] for each in sets)).value


@pytest.mark.parametrize("seed", [0, 1])
def test_single_records_are_forgotten_and_nothing_else(seed: int) -> None:
    project = digits_noisy().trained(seed=seed)
    request = project.data.forget_fraction(FORGOTTEN, seed=seed)
    retrained = (
        Retrain().unlearn(project.model, request, project.objective, seed=seed + 10, recipe=project.recipe).model
    )
    done = NablaTau().unlearn(project.model, request, project.objective, seed=seed)
    assert len(done.history.notes) == 2  # what it is and what it did: nothing to warn of
    before, after = (auc(model, request, project) for model in (project.model, done.model))
    assert before > 0.65
    assert abs(after - 0.5) <= abs(before - 0.5) / 2
    for records, above in ((request.retain_set, 0.05), (project.test_set, 0.03)):
        assert -0.03 < accuracy(done.model, records) - accuracy(retrained, records) < above


def test_a_class_is_forgotten_and_nothing_else(digits_project: Project) -> None:
    request = digits_project.data.forget_class(3)
    done = NablaTau().unlearn(digits_project.model, request, digits_project.objective)
    assert len(done.history.notes) == 2  # what it is and what it did: nothing to warn of
    assert accuracy(done.model, request.forget_set) <= 0.01
    assert accuracy(done.model, request.retain_set) > 0.98
    kept = request.holdout_set.subset(request.holdout_kept)
    assert accuracy(done.model, kept) > accuracy(digits_project.model, kept) - 0.03
