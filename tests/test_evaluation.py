"""The first battery: scores against naive ones, the right comparison for classes, and what a small set gets."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.utils.data import TensorDataset

import nablatau
from nablatau import Objective, Project, TrainingData
from nablatau.errors import EvidenceError, SettingsError
from nablatau.evaluation import AUC_NAME, TASK_SCORES, summarise
from nablatau.evaluation.membership import estimate_auc, plain_sides
from nablatau.evidence import Evidence, collect
from nablatau.records import Records
from nablatau.runtime import Runtime
from nablatau.scoring import Scores, score
from nablatau.statistics import Interval
from small import random_set, small_network


def test_scores_do_not_depend_on_the_batch_size(model: nn.Module, objective: Objective) -> None:
    records = Records.all_of(random_set(50, 1), [f"r{i}" for i in range(50)])
    whole, parts = (score(model, records, objective, Runtime(evaluation_batch_size=n)) for n in (50, 7))
    assert whole.ids == parts.ids == [f"r{i}" for i in range(50)]
    for name in whole.arrays:
        assert np.allclose(whole[name], parts[name])
    assert whole["loss"].dtype == np.float64
    assert (whole["correct"] == (whole["prediction"] == whole["target"])).all()


def test_scoring_is_done_in_eval_mode_and_changes_nothing(objective: Objective) -> None:
    model = small_network(batch_norm=True).train()
    before = nablatau.fingerprints.weights_digest(model)
    records = Records.all_of(random_set(30, 1))
    first, second = (score(model, records, objective)["loss"] for _ in range(2))
    assert (first == second).all()
    assert model.training
    assert nablatau.fingerprints.weights_digest(model) == before


def test_bf16_scores_come_from_float32_arithmetic(model: nn.Module, objective: Objective) -> None:
    scores = score(model, Records.all_of(random_set(40, 1)), objective, Runtime(precision="bf16"))
    logs = -scores["loss"]
    assert scores["margin"] == pytest.approx(logs - np.log1p(-np.exp(logs)), abs=1e-4)


def test_losses_that_are_not_finite_are_named(model: nn.Module, objective: Objective) -> None:
    data = random_set(20, 1)
    data.tensors[0][13] = float("inf")
    with pytest.raises(EvidenceError, match=r"The loss of 1 records is not finite: ids \[13\]"):
        score(model, Records.all_of(data), objective)


def test_task_scores_against_naive_ones() -> None:
    generator = np.random.default_rng(0)
    target, prediction = generator.random((40, 5)) > 0.6, generator.random((40, 5)) > 0.5
    losses, shares = generator.random(40), generator.random(40)
    many = Scores(range(40), {"loss": losses, "target": target, "prediction": prediction, "right_share": shares})
    one = Scores(range(40), {"loss": losses, "target": target[:, 0], "prediction": prediction[:, 0]})
    found = {kind: compute(one if kind == "single-label" else many) for kind, (_, _, compute) in TASK_SCORES.items()}
    assert found["multi-label"].value == pytest.approx(f1_score(target, prediction, average="micro"))
    assert found["single-label"].value == pytest.approx((target[:, 0] == prediction[:, 0]).mean())
    assert found["regression"].value == pytest.approx(math.sqrt(losses.mean()))
    assert found["loss"].value == pytest.approx(losses.mean())
    assert found["causal-lm"].value == pytest.approx(math.exp(losses.mean()))
    assert found["token-classification"].value == pytest.approx(shares.mean())
    assert all(each.low < each.value < each.high for each in found.values())


def auc_of(evidence: Evidence, model: str) -> Interval:
    value = next(row.values[model] for row in summarise(evidence) if row.name == AUC_NAME)
    assert value is not None
    return value


def test_the_auc_asks_within_classes_whether_forgotten_margins_are_the_higher(
    data: TrainingData, objective: Objective
) -> None:
    request, model = data.forget_fraction(0.3), small_network()
    evidence = collect({"original": model}, request, objective)
    (forget, unseen), (ours, theirs) = evidence.pair("original", "margin"), evidence.pair("original", "target")
    total = weight = 0.0
    for label in range(3):
        a, b = forget[ours == label], unseen[theirs == label]
        share = len(a) * len(b) / (len(a) + len(b) + 1)
        total += share * (a[:, None] > b[None, :]).mean()
        weight += share
    found = auc_of(evidence, "original")
    assert found.value == pytest.approx(total / weight)
    assert (found.n, found.m) == (27, 20)


def test_a_class_is_compared_with_unseen_records_of_that_class(objective: Objective) -> None:
    """A model that never knew class 1: against all unseen records it would be flagged, against its class it is not."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    inputs = nn.functional.one_hot(labels, 3) * 3.0 + torch.randn(600, 3, generator=generator)
    data = TrainingData(TensorDataset(inputs[:300], labels[:300]), TensorDataset(inputs[300:], labels[300:]))
    ignorant = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        ignorant.weight.copy_(torch.diag(torch.tensor([1.0, -1.0, 1.0])))
    evidence = collect({"unlearned": ignorant}, data.forget_class(1), objective)
    assert set(evidence.pair("unlearned", "target")[1]) == {1}
    assert 0.5 in auc_of(evidence, "unlearned")
    forget, unseen = (evidence.scores["unlearned"][split]["loss"] for split in ("forget", "unseen"))
    pooled = roc_auc_score(np.repeat([1, 0], [100, len(unseen)]), -np.concatenate([forget, unseen]))
    assert pooled < 0.3


def test_too_few_records_are_said_and_not_hidden(objective: Objective, model: nn.Module) -> None:
    data = TrainingData(random_set(30, 1), random_set(12, 2))
    evaluation = nablatau.evaluate(model, model, data.forget_ids([4]), objective)
    by_name = {row.name: row for row in evaluation.rows}
    attack = by_name["Logistic-regression attack on losses"]
    assert attack.values == {"original": None, "unlearned": None}
    assert "needs 10 records a side" in attack.note
    assert "Logistic-regression attack" not in evaluation.table()
    assert "On the forgotten record the model's accuracy is" in evaluation.answer


def test_every_kind_of_objective_is_summarised(data: TrainingData) -> None:
    inputs, holdout = random_set(40, 1).tensors[0], random_set(40, 2).tensors[0]
    cases = [
        (Objective.multi_label(), (inputs > 0.5)[:, :3].float(), (holdout > 0.5)[:, :3].float(), "Micro F1"),
        (Objective.regression(), inputs[:, :3], holdout[:, :3], "RMSE"),
    ]
    for objective, targets, other, label in cases:
        request = TrainingData(TensorDataset(inputs, targets), TensorDataset(holdout, other)).forget_fraction(0.5)
        evidence = collect({"original": small_network()}, request, objective, test_set=TensorDataset(holdout, other))
        rows = summarise(evidence)
        assert [row.name for row in rows][:4] == [f"{label}, {s} set" for s in ("retain", "forget", "unseen", "test")]
        assert all(value is not None for row in rows[:5] for value in row.values.values())
        macro = {row.name: row.values["original"] for row in rows if row.name.startswith("Macro F1")}
        assert len(macro) == (4 if label == "Micro F1" else 0)
        if macro:
            test = evidence.scores["original"]["test"]
            expected = f1_score(test["target"], test["prediction"], average="macro")
            assert macro["Macro F1, test set"].value == pytest.approx(expected)


def test_a_request_without_its_evaluation_half_is_refused(data: TrainingData, objective: Objective) -> None:
    request = data.forget_ids([0]).for_methods()
    with pytest.raises(EvidenceError, match="no unseen records kept for evaluation"):
        collect({"original": small_network()}, request, objective)


def test_identity_and_retrained_bracket_the_truth(digits_project: Project) -> None:
    """Over draws of the forget set, the original knows its records better than a retrained model does."""
    project = digits_project
    gaps = []
    for seed in range(4):
        request = project.data.forget_fraction(0.3, seed=seed)
        assert project.recipe is not None
        done = nablatau.Retrain().unlearn(project.model, request, project.objective, recipe=project.recipe, seed=seed)
        models = {"original": project.model, "retrained": done.model}
        evidence = collect(models, request, project.objective)
        gaps.append([estimate_auc(plain_sides(evidence, name)).value for name in models])
    original, retrained = np.mean(gaps, axis=0)
    assert original - retrained > 0.02


def kinds() -> list[tuple[Objective, Any]]:
    own = Objective.of_loss(
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    )
    return [
        (Objective.classification(), lambda x: x[:, :3].argmax(1)),
        (Objective.multi_label(), lambda x: (x[:, :3] > 3).float()),
        (Objective.regression(), lambda x: x[:, :3]),
        (own, lambda x: x[:, :3].argmax(1)),
    ]


@pytest.mark.parametrize(("objective", "label"), kinds(), ids=["classes", "labels", "regression", "loss"])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_any_number_of_records_of_any_kind_is_evaluated(objective: Objective, label: Any, count: int) -> None:
    inputs, unseen = random_set(60, 1).tensors[0], random_set(80, 2).tensors[0]
    data = TrainingData(TensorDataset(inputs, label(inputs)), TensorDataset(unseen, label(unseen)))
    request = data.forget_ids(range(count))
    result = nablatau.forget(small_network(), request, objective)
    evaluation = nablatau.evaluate(small_network(), result, request, objective, reference=small_network(seed=3))
    json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert evaluation.table(full=True)
    assert "nan" not in evaluation.answer


def test_a_class_request_without_known_unseen_classes_says_so(objective: Objective) -> None:
    train, holdout = random_set(60, 1), random_set(80, 2)
    ages = ["old" if i % 3 else "young" for i in range(60)]
    request = TrainingData(train, holdout, labels=ages).forget_class("young")
    evaluation = nablatau.evaluate(small_network(), small_network(seed=1), request, objective)
    row = next(row for row in evaluation.rows if row.name == AUC_NAME)
    assert set(row.values.values()) == {None}
    assert "0 are known" in row.note
    assert evaluation.verdict.findings[0].word == "NO POWER"


def test_scoring_leaves_no_inference_tensors_behind(objective: Objective) -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)
            self.table: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.table is None:
                self.table = torch.ones(6) * 2
            return self.linear(x * self.table)

    model, records = Caching(), Records.all_of(random_set(12, 1))
    score(model, records, objective)
    objective.mean_loss(model, records.dataset.tensors, 12).backward()  # type: ignore[attr-defined]


def test_evaluation_draws_from_its_own_seed(objective: Objective) -> None:
    class Noisy(TensorDataset):
        def __getitem__(self, position: Any) -> Any:
            inputs, label = super().__getitem__(position)
            return inputs + torch.randn(6), label

    data = TrainingData(Noisy(*random_set(60, 1).tensors), random_set(80, 2), check_content=False)
    request, state = data.forget_fraction(0.3), torch.get_rng_state()
    found = [
        nablatau.evaluate(small_network(), small_network(seed=1), request, objective, seed=seed).to_json()["rows"]
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert torch.equal(state, torch.get_rng_state())


def test_a_result_of_another_request_is_refused(data: TrainingData, objective: Objective) -> None:
    result = nablatau.forget(small_network(), data.forget_ids([1]), objective)
    with pytest.raises(SettingsError, match="made for another request"):
        nablatau.evaluate(small_network(), result, data.forget_ids([2]), objective)
