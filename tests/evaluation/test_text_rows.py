"""Rows of language models alone: against naive versions, and beside what a perfect unlearning would score."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from nablatau.evaluation.beside_reference import reference_rows
from nablatau.evaluation.membership_rows import membership_rows
from nablatau.evaluation.rows import Row
from nablatau.evaluation.task_rows import task_rows
from nablatau.evidence import Evidence
from synthetic import REMEMBERED, Shifts, eases, evidence

RETRAINED: Shifts = {**REMEMBERED, "retrained": {"retain": 1.0}}
LEAKS: Shifts = {**RETRAINED, "unlearned": {"retain": 1.0, "forget": 0.5}}
DIFFERENCE = "AUC by reference difference, forgotten against unseen"
ZLIB = "AUC by zlib ratio, forgotten against unseen"


def texts(shifts: Shifts = RETRAINED, *, seed: int = 0, tilt: float = 0.0) -> Evidence:
    """Evidence as of texts, whose loss a token is exp(−signal)."""
    generator = np.random.default_rng(seed)
    ease = eases(generator, tilt=tilt, retain=60, forget=80, unseen=120, test=50)
    made = replace(evidence(generator, ease, shifts, kind="loss"), kind="causal-lm")
    for splits in made.scores.values():
        for scores in splits.values():
            scores.arrays["right_share"] = np.exp(-scores["loss"])
            scores.arrays["extraction_strength"] = scores["right_share"] ** 2
    return made


def rows_of(found: Evidence) -> dict[str, Row]:
    return {row.name: row for row in [*task_rows(found), *membership_rows(found), *reference_rows(found)]}


def naive_auc(forget: npt.NDArray[np.float64], unseen: npt.NDArray[np.float64]) -> float:
    return float((forget[:, None] > unseen[None, :]).mean() + (forget[:, None] == unseen[None, :]).mean() / 2)


@pytest.mark.parametrize("split", ["retain", "forget", "unseen"])
def test_memorisation_of_each_split(split: str) -> None:
    found = texts()
    rows = rows_of(found)
    for name, array in (("Exact memorisation", "right_share"), ("Extraction strength", "extraction_strength")):
        for model, value in rows[f"{name}, {split} set"].values.items():
            expected = found.scores[model][split][array]
            assert value is not None
            assert value.value == pytest.approx(expected.mean())
            assert value.low < value.value < value.high
            assert value.n == len(expected)


def test_the_reference_difference_against_a_naive_one() -> None:
    found = texts(LEAKS)
    row = rows_of(found)[DIFFERENCE]
    assert row.values["retrained"] is None
    for model in ("original", "unlearned"):
        forget, unseen = (
            found.scores["retrained"][split]["loss"] - found.scores[model][split]["loss"]
            for split in ("forget", "unseen")
        )
        value = row.values[model]
        assert value is not None
        assert value.value == pytest.approx(naive_auc(forget, unseen))
        assert value.low > 0.5
        assert (value.n, value.m) == (80, 120)


@pytest.mark.parametrize("tilt", [0.0, 1.5])
def test_a_perfect_unlearning_has_a_reference_difference_of_one_half(tilt: float) -> None:
    """In the long run also where the forgotten texts are the easier ones, of which losses alone give an AUC of 0.8."""
    rows = [rows_of(texts(seed=seed, tilt=tilt))[DIFFERENCE] for seed in range(60)]
    values = [row.values["unlearned"].value for row in rows]  # type: ignore[union-attr]
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)
    low, high = rows[0].null.low, rows[0].null.high
    assert low is not None
    assert high is not None
    if not tilt:
        assert np.mean([low <= value <= high for value in values]) > 0.85


def test_the_zlib_ratio_against_a_naive_one() -> None:
    found, generator = texts(LEAKS), np.random.default_rng(5)
    places = np.arange(0, 120, 3)
    sizes = {split: generator.integers(20, 200, size) for split, size in (("forget", 80), ("unseen", 120))}
    arrays = {f"compressed_sizes_{split}": each for split, each in sizes.items()}
    row = rows_of(replace(found, arrays=arrays, comparable=places))[ZLIB]
    for model, value in row.values.items():
        forget, unseen = (-found.scores[model][split]["loss"] / sizes[split] for split in ("forget", "unseen"))
        assert value is not None
        assert value.value == pytest.approx(naive_auc(forget, unseen[places]))
        assert (value.n, value.m) == (80, 40)
    assert row.null.value == 0.5


def test_without_compressed_sizes_the_zlib_ratio_says_what_it_needs() -> None:
    row = rows_of(texts())[ZLIB]
    assert set(row.values.values()) == {None}
    assert "needs data sets with an attribute compressed_sizes" in row.note


def test_other_kinds_have_no_such_rows() -> None:
    rows = rows_of(replace(texts(), kind="loss"))
    assert DIFFERENCE not in rows
    assert ZLIB not in rows
    assert not any("memorisation" in name for name in rows)
