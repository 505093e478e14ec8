"""The verdict: each of its words, reached for the right reason by arrays whose truth is known."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nablatau.contrasts import Contrast, packed
from nablatau.evaluation import Finding, Verdict, Word, judge
from nablatau.evidence import Evidence
from nablatau.scoring import Scores
from nablatau.statistics import Interval, auc_minimum_detectable_effect
from synthetic import CLASSES, REMEMBERED, Shifts, classified, eases, evidence

RETRAINED: Shifts = {**REMEMBERED, "retrained": {"retain": 1.0}}
LOSSLESS = {"retain": 1.0}


def drawn(
    shifts: Shifts = REMEMBERED, *, seed: int = 0, forget: int = 300, unseen: int = 400, test: int = 1000, **rest: Any
) -> Evidence:
    generator = np.random.default_rng(seed)
    ease = eases(generator, retain=100, forget=forget, unseen=unseen, test=test)
    return evidence(generator, ease, shifts, **rest)


def with_model(found: Evidence, model: str, splits: dict[str, Scores]) -> Evidence:
    return replace(found, scores={**found.scores, model: splits})


def membership(found: Evidence) -> Finding:
    return judge(found).findings[0]


# ---------------------------------------------------------------------- membership


@pytest.mark.parametrize("shifts", [REMEMBERED, RETRAINED], ids=["plain", "with a reference"])
def test_the_untouched_original_leaks(shifts: Shifts) -> None:
    found = drawn(shifts)
    verdict = judge(with_model(found, "unlearned", found.scores["original"]))
    assert verdict.word == Word.LEAK_DETECTED
    number = verdict.decided_by.number
    assert number is not None
    assert number.low > 0.5
    assert "p = " in verdict.decided_by.because
    assert verdict.decided_by.control.startswith("original: detected by")


@pytest.mark.parametrize("shifts", [REMEMBERED, RETRAINED], ids=["plain", "with a reference"])
@pytest.mark.parametrize("kind", ["single-label", "regression", "loss"])
def test_a_model_as_if_retrained_is_not_blamed(shifts: Shifts, kind: Any) -> None:
    finding = membership(drawn(shifts, kind=kind, seed=2))
    assert finding.word in (Word.NOT_DETECTED, Word.EQUIVALENT)
    assert finding.number is not None
    assert 0.5 in finding.number


@pytest.mark.parametrize("shifts", [REMEMBERED, RETRAINED], ids=["plain", "with a reference"])
@pytest.mark.parametrize("kind", ["single-label", "regression", "loss"])
def test_records_pushed_beyond_unseen_ones_are_over_forgotten(shifts: Shifts, kind: Any) -> None:
    verdict = judge(drawn({**shifts, "unlearned": {"retain": 1.0, "forget": -2.0}}, kind=kind))
    assert verdict.word == Word.OVER_FORGETTING
    assert "AUC" in verdict.decided_by.because or "KS" in verdict.decided_by.because
    assert verdict.decided_by.test.startswith("membership")


def test_half_remembered_and_half_pushed_beyond_is_seen_though_the_mean_is_right() -> None:
    found = drawn(forget=400)
    forget = found.scores["unlearned"]["forget"]
    margin = forget["margin"] + np.where(np.arange(len(forget)) % 2, 3.0, -3.0)
    scores = Scores(forget.ids, classified(margin, forget["target"]))
    finding = membership(with_model(found, "unlearned", {**found.scores["unlearned"], "forget": scores}))
    assert finding.word in (Word.LEAK_DETECTED, Word.OVER_FORGETTING)
    assert "AUC" not in finding.because


def test_where_the_original_shows_nothing_there_is_no_power() -> None:
    verdict = judge(drawn({"original": LOSSLESS, "unlearned": LOSSLESS}))
    assert verdict.word == Word.NO_POWER
    assert "AUC of the original 0." in verdict.decided_by.because
    assert "original: not detected" in verdict.decided_by.control


def test_a_leak_counts_also_where_the_original_shows_nothing() -> None:
    shifts = {"original": LOSSLESS, "unlearned": {"retain": 1.0, "forget": 1.5}}
    assert judge(drawn(shifts)).word == Word.LEAK_DETECTED


def test_too_few_unseen_records_give_no_power_and_the_number_needed() -> None:
    verdict = judge(drawn(unseen=29))
    assert verdict.word == Word.NO_POWER
    assert verdict.decided_by.because == "29 unseen records are known; 30 are needed to speak of membership."
    assert verdict.decided_by.number is None
    assert membership(drawn(unseen=30)).number is not None


def test_enough_records_show_equivalence_within_the_margin() -> None:
    verdict = judge(drawn(forget=3000, unseen=3000, test=8000))
    assert verdict.word == Word.EQUIVALENT
    first = verdict.findings[0]
    assert "equivalent to 0.5 within ±0.05" in first.because
    assert first.number is not None
    assert 0.45 < first.number.low < first.number.high < 0.55


def test_with_few_records_the_effect_that_would_have_been_found_is_stated() -> None:
    finding = membership(drawn(kind="loss", forget=100, unseen=200))
    assert finding.word == Word.NOT_DETECTED
    effect = auc_minimum_detectable_effect(100, 200)
    assert 0.05 < effect < 0.15
    assert f"a deviation of {effect:.3f} or more would have been found with 80 % power" in finding.because


def test_a_reference_trained_on_the_forgotten_records_voids_the_audit() -> None:
    """It remembers as the original does; calibrated by it, the untouched original would look innocent."""
    shifts = {**REMEMBERED, "unlearned": REMEMBERED["original"], "retrained": REMEMBERED["original"]}
    verdict = judge(drawn(shifts))
    assert verdict.word == Word.AUDIT_INVALID
    number = verdict.decided_by.number
    assert number is not None
    assert number.low > 0.5
    assert f"AUC {number}" in verdict.decided_by.because
    assert "trained on them" in verdict.decided_by.because


def test_a_sound_reference_does_not_void_the_audit_of_an_easy_forget_set() -> None:
    generator = np.random.default_rng(0)
    ease = eases(generator, tilt=1.0, retain=100, forget=300, unseen=400, test=1000)
    assert membership(evidence(generator, ease, RETRAINED)).word == Word.NOT_DETECTED
    found = evidence(generator, ease, {**RETRAINED, "unlearned": REMEMBERED["original"]})
    assert membership(found).word == Word.LEAK_DETECTED


def test_a_model_equal_to_the_reference_is_not_blamed() -> None:
    found = drawn(RETRAINED)
    finding = membership(with_model(found, "unlearned", found.scores["retrained"]))
    assert finding.word not in (Word.LEAK_DETECTED, Word.OVER_FORGETTING)


# ---------------------------------------------------------------------- utility and recovery


def constant(found: Evidence) -> Evidence:
    """Always class 0, with the same logits for every record."""
    splits = {}
    for split, scores in found.scores["unlearned"].items():
        target = scores["target"]
        margin = np.where(target == 0, 1.0, -4.0)
        arrays = {**classified(margin, target), "prediction": np.zeros_like(target)}
        splits[split] = Scores(scores.ids, arrays)
    return with_model(found, "unlearned", splits)


def test_a_constant_model_hides_all_and_has_lost_its_utility() -> None:
    verdict = judge(constant(drawn(forget=3000, unseen=3000)))
    assert verdict.word == Word.UTILITY_LOST
    assert verdict.findings[0].word not in (Word.LEAK_DETECTED, Word.OVER_FORGETTING)
    change = verdict.decided_by.number
    assert change is not None
    assert change.high < -0.02
    assert "Change of accuracy on the test set from the original model" in verdict.decided_by.because


@pytest.mark.parametrize("kind", ["regression", "loss"])
def test_a_larger_loss_on_the_test_set_is_lost_utility(kind: Any) -> None:
    verdict = judge(drawn({**REMEMBERED, "unlearned": {"retain": 1.0, "test": -1.0}}, kind=kind, test=4000))
    assert verdict.word == Word.UTILITY_LOST
    assert "Change of mean loss" in verdict.decided_by.because


def test_with_a_reference_utility_is_measured_beside_it() -> None:
    assert "from the retrained model" in judge(drawn(RETRAINED)).findings[1].because


def came_back(gain: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """The arrays of a recovery check at 30 steps: a rise and a lead, and this gain."""
    value = Interval(*gain, 300, "paired", 400)
    some = Interval(0.2, 0.1, 0.3, 300, "paired", 400)
    return {
        "recovery_finetuning": packed([Contrast(at=30, goal="records", rise=some, change=some, gain=value, lead=some)])
    }


@pytest.mark.parametrize(
    ("contrast", "word"), [((0.2, 0.1, 0.3), Word.RECOVERABLE), ((0.02, -0.1, 0.1), Word.NOT_DETECTED)]
)
def test_records_that_come_back_are_recoverable(contrast: tuple[float, float, float], word: Word) -> None:
    verdict = judge(drawn(arrays=came_back(contrast)))
    finding = verdict.findings[-1]
    assert finding.test == "retain-only recovery"
    assert verdict.word == finding.word == word
    assert finding.number is not None
    assert (finding.number.low, finding.number.n, finding.number.m) == (contrast[1], 300, 400)


# ---------------------------------------------------------------------- removal of a class

REMOVED = 1
ELSEWHERE = np.array([0.7, 0.01, 0.19, 0.1])
"""What a model that never knew class 1 says of it on average: mostly its neighbour, class 0."""


def class_evidence(answers: np.ndarray, seed: int = 0) -> Evidence:
    """The original knows class 1; the unlearned model answers it by `answers`, the retrained one by `ELSEWHERE`."""
    generator = np.random.default_rng(seed)
    counts = {"retain": 300, "forget": 300, "unseen": 400, "test": 2000}
    targets = {split: generator.integers(CLASSES, size=count) for split, count in counts.items()}
    targets["retain"][targets["retain"] == REMOVED] = 0
    targets["forget"][:] = REMOVED
    told = {"original": np.array([0.03, 0.9, 0.04, 0.03]), "unlearned": answers, "retrained": ELSEWHERE}
    scores: dict[str, dict[str, Scores]] = {}
    for model, mean in told.items():
        scores[model] = {}
        for split, target in targets.items():
            logits = generator.normal(size=(len(target), CLASSES))
            logits[np.arange(len(target)), target] += 4.0
            ours = target == REMOVED
            logits[ours] = np.log(mean) + 0.5 * generator.normal(size=(int(ours.sum()), CLASSES))
            if model == "original" and split == "forget":
                logits[ours, REMOVED] += 1.0
            whole = np.logaddexp.reduce(logits, axis=1)
            loss = whole - logits[np.arange(len(target)), target]
            arrays = classified(-np.log(np.expm1(loss)), target) | {
                "prediction": logits.argmax(1),
                "correct": logits.argmax(1) == target,
                "logits": logits.astype(np.float32),
            }
            scores[model][split] = Scores(range(len(target)), arrays)
    comparable = np.flatnonzero(targets["unseen"] == REMOVED)
    return Evidence(
        kind="single-label", goal="class", random_draw=False, comparable=comparable, scores=scores, costs={}
    )


def test_a_model_that_answers_a_removed_class_as_the_retrained_one_does_passes() -> None:
    verdict = judge(class_evidence(ELSEWHERE))
    assert verdict.word in (Word.NOT_DETECTED, Word.EQUIVALENT)
    assert [finding.test for finding in verdict.findings][-1] == "what is said of the removed class"


@pytest.mark.parametrize(
    "answers", [np.array([0.1, 0.01, 0.19, 0.7]), np.full(CLASSES, 0.25)], ids=["another neighbour", "uniform"]
)
def test_a_model_that_answers_a_removed_class_otherwise_gives_it_away(answers: np.ndarray) -> None:
    verdict = judge(class_evidence(answers))
    finding = verdict.findings[-1]
    assert verdict.word == finding.word == Word.LEAK_DETECTED
    assert finding.number is not None
    assert finding.number.low > 0.15
    assert "0.15 is the margin" in finding.because


def test_losing_the_removed_class_is_no_lost_utility() -> None:
    """Accuracy on the other classes counts, beside the original too, which still knows the class."""
    found = class_evidence(ELSEWHERE)
    without = replace(found, scores={model: found.scores[model] for model in ("original", "unlearned")})
    right = {model: without.scores[model]["test"]["correct"].mean() for model in without.models}
    assert right["original"] - right["unlearned"] > 0.2
    assert judge(without).findings[1].word != Word.UTILITY_LOST


def test_too_few_unseen_records_of_the_class_are_said() -> None:
    found = class_evidence(ELSEWHERE)
    few = judge(replace(found, comparable=found.comparable[:7])).findings[0]
    assert few.word == Word.NO_POWER
    assert few.because.startswith("7 unseen records of the forgotten classes are known; 30 are needed")


# ---------------------------------------------------------------------- the verdict as a whole


def a_finding(word: Word, test: str = "any") -> Finding:
    return Finding(word=word, test=test, number=None, because=f"{test}.", control="–", assumption="–")


def test_the_worst_part_decides_and_of_equals_the_first() -> None:
    words = list(Word)
    for worse, better in itertools.pairwise(words):
        assert Verdict(findings=(a_finding(better), a_finding(worse))).word == worse
    assert Verdict(findings=(a_finding(words[0], "a"), a_finding(words[0], "b"))).decided_by.test == "a"
    assert Verdict(findings=(a_finding(Word.UTILITY_LOST, "x"),)).sentence.startswith("UTILITY LOST. The model has ")


def test_exit_codes_are_a_promise() -> None:
    assert {str(word): word.exit_code for word in Word} == {
        "AUDIT INVALID": 10,
        "LEAK DETECTED": 11,
        "OVER-FORGETTING": 12,
        "RECOVERABLE": 13,
        "UTILITY LOST": 14,
        "NO POWER": 15,
        "NOT DETECTED": 0,
        "EQUIVALENT": 0,
    }


def test_no_word_promises_what_an_attack_cannot_show() -> None:
    for found in (drawn(), drawn(RETRAINED, forget=3000, unseen=3000), class_evidence(ELSEWHERE)):
        for forbidden in ("erased", "compliant", "certified", "guarantee"):
            assert forbidden not in judge(found).sentence.lower()


def test_every_finding_carries_its_number_its_control_and_its_assumption() -> None:
    contrast = came_back((0.2, 0.1, 0.3))
    trained_on = {**RETRAINED, "retrained": REMEMBERED["original"]}
    cases = [drawn(), drawn(RETRAINED, arrays=contrast), drawn(trained_on), class_evidence(ELSEWHERE)]
    for each in [part for found in cases for part in judge(found).findings]:
        assert each.number is not None
        assert each.number.low <= each.number.value <= each.number.high
        assert each.because.endswith(".")
        assert min(len(each.control), len(each.assumption)) > 10
    few = membership(drawn(unseen=20))
    assert few.control == "not run"
    assert "one distribution" in few.assumption


def test_the_assumption_says_what_it_rests_on() -> None:
    assert "the forget set is a random draw" in membership(drawn()).assumption
    assert "not known to be a random draw" in membership(drawn(random_draw=False)).assumption
    assert "reference model was trained without" in membership(drawn(RETRAINED)).assumption
