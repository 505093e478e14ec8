"""Model and records that do not belong together are noted, and those that do are not."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import nablatau
from by_hand import texts_request, trained_network, trained_transformer, wide_request
from nablatau import Objective, TrainingData
from nablatau.belonging import guessing_loss, misfit
from nablatau.records import Records
from small import random_texts, small_network, small_transformer


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "causal-lm", "token-classification"])
def test_the_loss_of_a_guess_is_that_of_equal_logits(kind: Any) -> None:
    shape = (2, 5) if kind in ("single-label", "multi-label") else (2, 3, 5)
    targets = torch.zeros(shape if kind == "multi-label" else shape[:-1], dtype=torch.long)
    naive = Objective(kind=kind, outputs=lambda *_: torch.zeros(0), targets=lambda _: targets).loss_of_outputs(
        torch.zeros(shape, dtype=torch.float64), targets
    )
    assert guessing_loss(kind, 5) == pytest.approx(float(naive.mean()))


def test_no_guess_where_answers_cannot_be_counted() -> None:
    assert [guessing_loss("regression", 5), guessing_loss("loss", 5), guessing_loss("single-label", 1)] == [None] * 3


def test_labels_in_another_order_are_noted_and_the_note_is_kept(tmp_path: Path) -> None:
    request, objective = wide_request(), Objective.classification()
    model = trained_network(request)
    assert "notes" not in nablatau.evaluate(model, model, request, objective, recovery=False).record
    inputs, labels = request.forget_set.dataset[:]  # type: ignore[index]
    other, unseen = TensorDataset(inputs, (labels + 1) % 3), TensorDataset(-inputs[:40], labels[:40])
    turned = TrainingData(other, unseen).forget_fraction(0.2, seed=3)
    done = nablatau.forget(model, turned, objective, method=nablatau.Finetune(budget=0.1))
    evaluation = nablatau.evaluate(model, done, turned, objective, recovery=False)
    (note,) = evaluation.record["notes"]
    assert "On the 90 records that it is said to have learned from" in note
    assert f"one that guesses has {math.log(3):.3g}: MODEL AND RECORDS DO NOT SEEM TO BELONG TOGETHER" in note
    run = json.loads((done.save(tmp_path / "out", evaluation) / "run.json").read_text())
    assert run["notes"] == [note]
    assert "DO NOT SEEM TO BELONG TOGETHER" in (tmp_path / "out" / "report.html").read_text()


def said_of(model: nn.Module, records: Any, objective: Objective) -> str:
    every = Records.all_of(records)
    return misfit(model, nablatau.scoring.score(model, every, objective)["loss"], every, objective)


def test_a_language_model_that_reads_other_texts_as_if_it_guessed() -> None:
    objective, model = Objective.causal_lm(), trained_transformer(texts_request())
    assert said_of(model, random_texts(30, 1), objective) == ""
    assert "BELONG TOGETHER" in said_of(small_transformer(), random_texts(30, 1), objective)


def test_own_losses_are_not_judged() -> None:
    objective = Objective.of_loss(lambda model, batch: model(batch[0]).sum(dim=1).square())
    assert misfit(small_network(), np.full(9, 1e9), wide_request().forget_set, objective) == ""
