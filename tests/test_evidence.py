"""Saved evidence: what comes back, and what is refused because nothing could be concluded from it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nablatau import Objective, TrainingData
from nablatau.errors import EvidenceError
from nablatau.evaluation import judge, summarise
from nablatau.evidence import Cost, Evidence, check_arrays, collect
from nablatau.prompts import Answered
from nablatau.scoring import Scores
from small import small_transformer
from synthetic import REMEMBERED, Array, eases, evidence


@pytest.fixture
def found() -> Evidence:
    generator = np.random.default_rng(0)
    made = evidence(generator, eases(generator, retain=30, forget=20, unseen=40, test=50), REMEMBERED, logits=True)
    costs = {"unlearned": Cost(seconds=1.5, trained_samples=60, scored_samples=20)}
    arrays = {"recovery_contrast": np.array([0.1, -0.1, 0.3, 20, 40])}
    return replace(made, costs=costs, arrays=arrays, comparable=np.arange(0, 40, 2))


def replaced(found: Evidence, name: str, array: Array) -> Evidence:
    """With another array of the unlearned model on the forget set."""
    scores = found.scores["unlearned"]["forget"]
    splits = found.scores["unlearned"] | {"forget": Scores(scores.ids, {**scores.arrays, name: array})}
    return replace(found, scores=found.scores | {"unlearned": splits})


def test_what_was_saved_comes_back(found: Evidence, tmp_path: Path) -> None:
    found.write_into(tmp_path)
    again = Evidence.load(tmp_path)
    assert (again.kind, again.goal, again.random_draw, again.costs) == ("single-label", "records", True, found.costs)
    assert (again.models, again.splits) == (found.models, found.splits)
    assert np.array_equal(again.comparable, found.comparable)
    assert again.arrays.keys() == found.arrays.keys()
    assert np.array_equal(again.arrays["recovery_contrast"], found.arrays["recovery_contrast"])
    for model in found.models:
        for split in found.splits:
            ours, theirs = found.scores[model][split], again.scores[model][split]
            assert theirs.ids == ours.ids
            assert theirs.arrays.keys() == ours.arrays.keys()
            for name in ours.arrays:
                assert ours[name].dtype == theirs[name].dtype
                assert np.array_equal(ours[name], theirs[name])


def test_saved_evidence_gives_the_same_rows_and_verdict(found: Evidence, tmp_path: Path) -> None:
    found.write_into(tmp_path)
    again = Evidence.load(str(tmp_path))
    assert [row.to_json() for row in summarise(again)] == [row.to_json() for row in summarise(found)]
    assert judge(again) == judge(found)


def test_ids_come_back_as_text(found: Evidence, tmp_path: Path) -> None:
    ids = [7, "ß/. 12", ("scan", 3), *range(17)]
    scores = {
        model: splits | {"forget": Scores(ids, splits["forget"].arrays)} for model, splits in found.scores.items()
    }
    replace(found, scores=scores).write_into(tmp_path)
    back = Evidence.load(tmp_path).scores["original"]["forget"].ids
    assert back[:4] == ["7", "ß/. 12", "('scan', 3)", "0"]


def test_a_file_that_was_changed_is_refused(found: Evidence, tmp_path: Path) -> None:
    found.write_into(tmp_path)
    file = tmp_path / "unlearned.forget.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(EvidenceError, match=r"unlearned\.forget\.npz does not fit the hash"):
        Evidence.load(tmp_path)


@pytest.mark.parametrize("name", ["arrays.npz", "original.test.npz"])
def test_a_file_that_is_missing_is_named(found: Evidence, tmp_path: Path, name: str) -> None:
    found.write_into(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(EvidenceError, match=f"{name} is missing"):
        Evidence.load(tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", '"text"', '{"format": 1}'])
def test_a_folder_without_a_readable_head_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "evidence.json").write_text(content)
    with pytest.raises(EvidenceError, match=r"no readable evidence\.json"):
        Evidence.load(tmp_path)


def test_a_newer_format_is_refused_with_both_numbers(found: Evidence, tmp_path: Path) -> None:
    found.write_into(tmp_path)
    head = json.loads((tmp_path / "evidence.json").read_text())
    (tmp_path / "evidence.json").write_text(json.dumps(head | {"format": 2}))
    with pytest.raises(EvidenceError, match=r"has format 2, and this version of nablatau reads 1"):
        Evidence.load(tmp_path)


def test_arrays_of_different_lengths_are_refused(found: Evidence, tmp_path: Path) -> None:
    replaced(found, "margin", np.zeros(19)).write_into(tmp_path)
    with pytest.raises(EvidenceError, match=r"unlearned, forget set: margin has 19 entries for 20 records"):
        Evidence.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_by_record(found: Evidence, tmp_path: Path, value: float) -> None:
    loss = found.scores["unlearned"]["forget"]["loss"].copy()
    loss[[3, 11]] = value
    replaced(found, "loss", loss).write_into(tmp_path)
    with pytest.raises(EvidenceError, match=r"loss is not finite for 2 records \(forget 3, forget 11\)"):
        Evidence.load(tmp_path)


def test_a_bad_logit_is_named_once_however_many_there_are() -> None:
    logits = np.zeros((4, 3), np.float32)
    logits[2] = np.nan
    with pytest.raises(EvidenceError, match=r"logits is not finite for 1 records \(c\)"):
        check_arrays("original, test set", {"logits": logits}, ["a", "b", "c", "d"])


def test_compressed_sizes_of_other_records_are_refused() -> None:
    short, whole = (Answered([[1]] * 20, [[2, 3]] * 20, compressed_sizes=np.full(size, 9)) for size in (19, 20))
    request = TrainingData(short, whole, check_content=False).forget_ids([0, 1])
    with pytest.raises(EvidenceError, match=r"forget set has 19 entries for 20 records.*sizes of other texts"):
        collect({"original": small_transformer()}, request, Objective.causal_lm())
