"""Language models from end to end: forget, evaluate, save, and measures of the benchmark, on a small transformer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nablatau
from bench_work import TEXTS
from nablatau import Objective, Recipe, TrainingData
from nablatau.bench import Grid, Workers, read_records, run
from nablatau.bench.measures import score_on
from nablatau.bench.numbers import numbers_of
from nablatau.bench.tuning import lost_utility
from nablatau.data import Request
from nablatau.evaluation.membership_rows import AUC_NAME
from nablatau.evidence import Evidence
from nablatau.fingerprints import record_digest
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.scoring import Scores, score
from nablatau.stacks import score_models
from small import random_texts, small_transformer

RECIPE = Recipe(
    epochs=60,
    learning_rate=0.01,
    batch_size=20,
    optimizer="adamw",
    weight_decay=0.0,
    build=lambda: small_transformer(blocks=1),
)


@pytest.fixture(scope="module")
def request_and_model() -> tuple[Request, torch.nn.Module]:
    torch.set_num_threads(1)
    request = TrainingData(random_texts(60, 1), random_texts(60, 2)).forget_fraction(0.5)
    everything = Records.all_of(request.forget_set.dataset)
    return request, train(RECIPE, everything, Objective.causal_lm(), seed=3)


@pytest.mark.usefixtures("no_plots")
def test_forget_and_evaluate(request_and_model: tuple[Request, torch.nn.Module], tmp_path: Path) -> None:
    (request, model), objective = request_and_model, Objective.causal_lm()
    result = nablatau.forget(model, request, objective, method=nablatau.Retrain(), recipe=RECIPE, seed=4)
    evaluation = nablatau.evaluate(model, result, request, objective, recipe=RECIPE, recovery=False)
    rows = {row.name: row.values for row in evaluation.rows}
    before, after = (rows["Perplexity, forget set"][name] for name in ("original", "unlearned"))
    assert before is not None
    assert after is not None
    assert before.low < before.value < 2 < after.low < after.value < after.high
    assert rows["Extraction strength, forget set"]["original"].value > 0.5  # type: ignore[union-attr]
    assert rows["Exact memorisation, forget set"]["unlearned"].value < 0.3  # type: ignore[union-attr]
    retained = rows["Exact memorisation, retain set"]
    assert retained["unlearned"].value > 0.8 > rows["Exact memorisation, unseen set"]["unlearned"].value  # type: ignore[union-attr]
    assert rows["AUC by reference difference, forgotten against unseen"]["original"].low > 0.9  # type: ignore[union-attr]
    for name in (AUC_NAME, *(f"AUC by {each} 20 %, forgotten against unseen" for each in ("Min-K", "Min-K++"))):
        assert rows[name]["original"].value > 0.9  # type: ignore[union-attr]
        assert 0.5 in rows[name]["unlearned"]  # type: ignore[operator]
    assert "perplexity" in evaluation.answer
    assert evaluation.verdict.word in ("NOT DETECTED", "EQUIVALENT")
    assert "Perplexity" in evaluation.save(tmp_path / "report.html").read_text(encoding="utf-8")
    evaluation.save_evidence(tmp_path / "evidence")
    again = Evidence.load(tmp_path / "evidence")
    assert again.kind == "causal-lm"
    assert again.has("extraction_strength")
    numbers = numbers_of(again)
    assert numbers["score_forget"]["original"]["value"] == pytest.approx(before.value)
    assert score_on("forget", "causal-lm").highest == float("inf")
    assert lost_utility("causal-lm", again.scores["original"]["forget"], again.scores["unlearned"]["forget"]) > 1


def test_an_original_that_forgot_nothing_is_found_out(request_and_model: tuple[Request, torch.nn.Module]) -> None:
    (request, model), objective = request_and_model, Objective.causal_lm()
    evaluation = nablatau.evaluate(model, model, request, objective, recovery=False)
    assert evaluation.verdict.word == "LEAK DETECTED"


def test_shadow_pipelines_of_texts(request_and_model: tuple[Request, torch.nn.Module]) -> None:
    (request, model), objective = request_and_model, Objective.causal_lm()
    brief = Recipe(epochs=2, learning_rate=0.01, batch_size=20, optimizer="adamw", build=small_transformer)
    result = nablatau.forget(model, request, objective, method=nablatau.Retrain(), recipe=brief)
    evaluation = nablatau.evaluate(model, result, request, objective, recipe=brief, shadows=6, recovery=False)
    names = {row.name for row in evaluation.rows}
    assert any("record by record" in name for name in names)


def test_a_benchmark_of_texts(tmp_path: Path) -> None:
    methods = ("npo", "idk_dpo", "undial", "finetune")
    grid = Grid(tasks=(TEXTS,), requests=("random:0.3",), methods=methods, training_seeds=(0,), recovery=False)
    run(grid, tmp_path, workers=Workers(jobs=1))
    records = read_records(tmp_path)
    assert {record["method"] for record in records} == set(methods)
    for record in records:
        assert record["status"] == "done"
        assert record["kind"] == "causal-lm"
        assert record["numbers"]["score_test"]["retrained"]["value"] > 1
    page = (tmp_path / "results.html").read_text(encoding="utf-8")
    assert "Perplexity, test set" in page
    assert "test perplexity − its own" in page


def test_several_models_are_scored_as_one_by_one(request_and_model: tuple[Request, torch.nn.Module]) -> None:
    request, objective = request_and_model[0], Objective.causal_lm()
    models = [small_transformer(seed) for seed in range(3)]
    together = score_models(models, request.forget_set, objective)
    for number, model in enumerate(models):
        assert together["loss"][number] == pytest.approx(score(model, request.forget_set, objective)["loss"], abs=1e-6)


def test_classes_of_tokens() -> None:
    texts = [{"input_ids": text["input_ids"], "labels": (text["input_ids"] % 3)} for text in random_texts(60, 1)]
    unseen = [{"input_ids": text["input_ids"], "labels": text["input_ids"] % 3} for text in random_texts(60, 2)]
    request, objective = TrainingData(texts, unseen).forget_fraction(0.3), Objective.token_classification()
    model = train(RECIPE, Records.all_of(texts), objective, seed=1)
    result = nablatau.forget(model, request, objective)
    evaluation = nablatau.evaluate(model, result, request, objective)
    rows = {row.name: row.values for row in evaluation.rows}
    assert rows["Token accuracy, unseen set"]["original"].value > 0.9  # type: ignore[union-attr]
    assert not any("Extraction" in name for name in rows)
    better, worse = (Scores([0, 1], {"right_share": torch.tensor(each).numpy()}) for each in ([1.0, 0.8], [0.5, 0.7]))
    assert lost_utility("token-classification", better, worse) == pytest.approx(0.3)


def test_alternative_answers_are_no_part_of_a_record() -> None:
    text = random_texts(1, 1)[0]
    other = text | {"alternative": {"input_ids": torch.tensor([1]), "labels": torch.tensor([1])}}
    assert record_digest(text) == record_digest(other)
    model, objective = small_transformer(), Objective.causal_lm()

    def loss(example: dict[str, Any]) -> Tensor:
        return objective.loss(model, objective.collate([example]), 1)

    assert torch.equal(loss(text), loss(other))
    held = objective.alternative(objective.collate([text]))
    assert held["labels"].tolist() == [[-100, -100, -100, 1, 1]]
    assert held["attention_mask"].tolist() == [[1] * 5]
