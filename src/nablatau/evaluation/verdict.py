"""The verdict: a fixed vocabulary, two-sided, the worst of its parts, each with what decided it.

Never "erased", "compliant" or "certified": an attack that fails proves nothing of the kind. The words, worst first:

    AUDIT INVALID    the audit's own controls failed, so it can say nothing
    LEAK DETECTED    forgotten records can be told from unseen ones: they are still remembered
    OVER-FORGETTING  they can be told apart because they were pushed beyond what unseen records look like
    RECOVERABLE      they come back when the model is trained on the retained records alone
    UTILITY LOST     the model has become worse at its task
    NO POWER         the same tests do not detect the records in the original: there was nothing to detect
    NOT DETECTED     nothing was found; the smallest effect that would have been is stated
    EQUIVALENT       shown to be within ±d of what unseen records look like
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nablatau.contrasts import unpacked
from nablatau.evaluation.membership import (
    ALPHA,
    FEWEST_UNSEEN,
    MembershipTest,
    Sides,
    auc_p_value,
    calibrated_sides,
    estimate_auc,
    false_alarms,
    family,
    flagged,
    plain_sides,
)
from nablatau.evaluation.shadowed import trained_lira_auc, unlearned_lira_auc
from nablatau.evidence import Evidence
from nablatau.metrics import class_goal_distance
from nablatau.statistics import (
    Interval,
    auc_equivalence,
    auc_interval,
    auc_minimum_detectable_effect_of,
    clopper_pearson,
    delong_paired,
    paired_change,
    paired_mean_difference,
)

EQUIVALENCE_MARGIN = 0.05
UTILITY_MARGIN = 0.02
LOSS_MARGIN = 0.10
CLASS_MARGIN = 0.15


class Word(StrEnum):
    """The words of a verdict, worst first, with the exit code that `nablatau evaluate` gives for each."""

    AUDIT_INVALID = "AUDIT INVALID"
    LEAK_DETECTED = "LEAK DETECTED"
    OVER_FORGETTING = "OVER-FORGETTING"
    RECOVERABLE = "RECOVERABLE"
    UTILITY_LOST = "UTILITY LOST"
    NO_POWER = "NO POWER"
    NOT_DETECTED = "NOT DETECTED"
    EQUIVALENT = "EQUIVALENT"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Word).index(self)

    @property
    def exit_code(self) -> int:
        """0 where nothing speaks against the model; 10 … 15 else, 10 for the worst."""
        return 0 if self in (Word.NOT_DETECTED, Word.EQUIVALENT) else 10 + self.rank


MEANING = {
    Word.AUDIT_INVALID: "This audit's own controls failed, so it says nothing about the model.",
    Word.LEAK_DETECTED: "The model still treats the forgotten records otherwise than records it never saw.",
    Word.OVER_FORGETTING: "The forgotten records stand out because the model does worse on them than on unseen ones.",
    Word.RECOVERABLE: "The forgotten records come back when the model is trained on the retained ones alone.",
    Word.UTILITY_LOST: "The model has become worse at its task.",
    Word.NO_POWER: "These tests do not even detect the records in the original model, so nothing can be concluded.",
    Word.NOT_DETECTED: "No trace of the forgotten records was found by these tests.",
    Word.EQUIVALENT: "By these tests the forgotten records look like records the model never saw.",
}
"""For a reader who is no statistician."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One part of the verdict.

    Attributes:
        word: what it says.
        test: what was tested.
        number: the number that decided, with its interval; None where nothing could be computed.
        because: the number in words, with thresholds.
        control: what the same test says of the original, and of the controls.
        assumption: what the finding rests on.
    """

    word: Word
    test: str
    number: Interval | None
    because: str
    control: str
    assumption: str

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON-able values."""
        return vars(self) | {"word": str(self.word), "number": None if self.number is None else vars(self.number)}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The worst of the findings, and all of them.

    Attributes:
        findings: in the order they were made; at least one.
    """

    findings: tuple[Finding, ...]

    @property
    def decided_by(self) -> Finding:
        """The worst finding, the first of several."""
        return min(self.findings, key=lambda finding: finding.word.rank)

    @property
    def word(self) -> Word:
        """The overall word."""
        return self.decided_by.word

    @property
    def sentence(self) -> str:
        """The verdict in plain words, with the number that decided it."""
        return f"{self.word}. {MEANING[self.word]} {self.decided_by.because}"


def judge(evidence: Evidence) -> Verdict:
    """The verdict on the model "unlearned".

    Args:
        evidence: of "original" and "unlearned", and of "retrained" where there is a reference.
    """
    findings = [*_membership_findings(evidence), _utility(evidence)]
    if evidence.goal == "class" and "retrained" in evidence.models and evidence.has("logits"):
        findings.append(_class_goal(evidence))
    findings += [_recovery(evidence, how) for how in RECOVERY_CHECKS if f"recovery_{how}" in evidence.arrays]
    return Verdict(findings=tuple(findings))


# ---------------------------------------------------------------------- membership


def _membership_findings(evidence: Evidence) -> list[Finding]:
    """One finding a tier; where one has power, another's lack of it does not count."""
    findings = [_membership(evidence)]
    if "shadow_states" in evidence.arrays:
        findings.append(_per_record(evidence))
    with_power = [finding for finding in findings if finding.word is not Word.NO_POWER]
    return with_power or findings[-1:]


def _per_record(evidence: Evidence) -> Finding:
    """Can forgotten records be told from unseen ones by what pipelines that unlearned each of them leave behind?"""
    after, before = unlearned_lira_auc(evidence), trained_lira_auc(evidence, "original")
    number, control = auc_interval(after), auc_interval(before)
    effect = auc_minimum_detectable_effect_of(after)
    if auc_p_value(after) <= ALPHA and after.value > 0.5:
        word, because = Word.LEAK_DETECTED, f"U-LiRA AUC {number} (p = {auc_p_value(after):.2g})."
    elif auc_p_value(before) > ALPHA or before.value < 0.5:
        word, because = Word.NO_POWER, f"LiRA on the original has AUC {control}; U-LiRA here {number}."
    elif auc_equivalence(after, EQUIVALENCE_MARGIN).p_value <= 0.05:
        word, because = Word.EQUIVALENT, f"U-LiRA AUC {number}, equivalent to 0.5 within ±{EQUIVALENCE_MARGIN}."
    else:
        word = Word.NOT_DETECTED
        because = f"U-LiRA AUC {number}; a deviation of {effect:.3f} would have been found with 80 % power."
    return Finding(
        word=word,
        test=f"membership, record by record ({len(evidence.arrays['shadow_states'])} shadow pipelines)",
        number=number,
        because=because,
        control=f"LiRA on the original, same pipelines: AUC {control}",
        assumption="the pipelines train and unlearn as the audited model did",
    )


def _membership(evidence: Evidence) -> Finding:
    """Can forgotten records be told from unseen ones, as they could in the original?"""
    like = len(evidence.comparable)
    if like < FEWEST_UNSEEN:
        what = "of the forgotten classes " if evidence.goal == "class" else ""
        because = f"{like} unseen records {what}are known; {FEWEST_UNSEEN} are needed to speak of membership."
        return _finding(Word.NO_POWER, None, because, "not run", _assumption(evidence, False))
    reference = "retrained" in evidence.models
    problem = _reference_problem(evidence) if reference else None
    if problem is not None:
        return problem
    sides = {
        model: calibrated_sides(evidence, model) if reference else plain_sides(evidence, model)
        for model in ("original", "unlearned")
    }
    alarms = clopper_pearson(*false_alarms(sides["unlearned"]))
    if alarms.low > 0.10:
        because = f"Random unseen records posing as forgotten were flagged in {alarms} of draws instead of 0.05."
        return _finding(Word.AUDIT_INVALID, alarms, because, "negative control failed", "unseen records are alike")
    return _compare(evidence, sides["original"], sides["unlearned"], alarms)


def _compare(evidence: Evidence, original: Sides, unlearned: Sides, alarms: Interval) -> Finding:
    found_before, found_after = flagged(family(original)), flagged(family(unlearned))
    control = f"original: {_told(found_before, original)}; unseen records posing as forgotten flagged: {alarms}"
    assumption = _assumption(evidence, unlearned.calibrated)
    estimate = estimate_auc(unlearned)
    number = auc_interval(estimate)
    if found_after:
        first = found_after[0]
        word = Word.LEAK_DETECTED if first.remembered else Word.OVER_FORGETTING
        because = f"{first.name} {first.number} (p = {first.p_value:.2g})."
        return _finding(word, first.number, because, control, assumption, calibrated=unlearned.calibrated)
    if not found_before:
        because = f"AUC of the original {auc_interval(estimate_auc(original))}, of this model {number}; 0.5 is chance."
        return _finding(Word.NO_POWER, number, because, control, assumption, calibrated=unlearned.calibrated)
    equivalence = auc_equivalence(estimate, EQUIVALENCE_MARGIN)
    if equivalence.p_value <= 0.05:
        because = f"AUC {number}, equivalent to 0.5 within ±{EQUIVALENCE_MARGIN} (p = {equivalence.p_value:.2g})."
        return _finding(Word.EQUIVALENT, number, because, control, assumption, calibrated=unlearned.calibrated)
    effect = auc_minimum_detectable_effect_of(estimate)
    because = f"AUC {number}; a deviation of {effect:.3f} or more would have been found with 80 % power."
    return _finding(Word.NOT_DETECTED, number, because, control, assumption, calibrated=unlearned.calibrated)


def _reference_problem(evidence: Evidence) -> Finding | None:
    """AUDIT INVALID where the reference remembers the forgotten records as the original does."""
    reference, original = plain_sides(evidence, "retrained"), plain_sides(evidence, "original")
    if not (_leaks(reference) and _leaks(original)):
        return None
    lower = delong_paired(original.forget, original.unseen, reference.forget, reference.unseen)
    if lower.low > 0:
        return None
    number = auc_interval(estimate_auc(reference))
    because = (
        f"The reference itself tells forgotten from unseen records with AUC {number}, no less than the original "
        f"({auc_interval(estimate_auc(original))}): it seems to have been trained on them."
    )
    control = "reference audited as a candidate"
    return _finding(Word.AUDIT_INVALID, number, because, control, _assumption(evidence, False))


def _leaks(sides: Sides) -> bool:
    found = flagged(family(sides))
    return bool(found) and found[0].remembered


def _told(found: list[MembershipTest], sides: Sides) -> str:
    number = auc_interval(estimate_auc(sides))
    if not found:
        return f"not detected, AUC {number}"
    return f"detected by {found[0].name} {found[0].number} (p = {found[0].p_value:.2g})"


def _assumption(evidence: Evidence, calibrated: bool) -> str:
    if calibrated:
        return "the reference model was trained without the forgotten records, by the original's recipe"
    if evidence.random_draw:
        return "forgotten and unseen records come from one distribution (the forget set is a random draw)"
    return (
        "forgotten and unseen records come from one distribution; the forget set is not known to be a random draw, so "
        "a difference between the records themselves would look the same. One retrained reference model settles it"
    )


def _finding(
    word: Word, number: Interval | None, because: str, control: str, assumption: str, *, calibrated: bool = False
) -> Finding:
    test = "membership, calibrated by the reference" if calibrated else "membership"
    return Finding(word=word, test=test, number=number, because=because, control=control, assumption=assumption)


# ---------------------------------------------------------------------- utility, class goals, recovery


def _utility(evidence: Evidence) -> Finding:
    """Has the model become worse at its task, beside the retrained model or else the original?"""
    split = "test" if "test" in evidence.splits else "unseen"
    baseline = "retrained" if "retrained" in evidence.models else "original"
    ours, theirs = evidence.scores["unlearned"][split], evidence.scores[baseline][split]
    kept = np.arange(len(ours))
    if evidence.goal == "class" and evidence.kind == "single-label":
        forgotten, retained = (evidence.scores["unlearned"][part]["target"] for part in ("forget", "retain"))
        kept = np.flatnonzero(~np.isin(ours["target"], np.setdiff1d(forgotten, retained)))
    if evidence.kind == "single-label":
        change, margin = paired_change(theirs["correct"][kept], ours["correct"][kept]), UTILITY_MARGIN
        what, lost = "accuracy", change.high < -margin
    else:
        change, margin = (
            paired_mean_difference(ours["loss"], theirs["loss"]),
            LOSS_MARGIN * float(theirs["loss"].mean()),
        )
        what, lost = "mean loss", change.low > margin
    word = Word.UTILITY_LOST if lost else Word.EQUIVALENT if _within(change, margin) else Word.NOT_DETECTED
    return Finding(
        word=word,
        test="utility",
        number=change,
        because=f"Change of {what} on the {split} set from the {baseline} model {change}; margin {margin:.3f}.",
        control=f"paired with the {baseline} model on the same records",
        assumption=f"the {split} set is what the model is for",
    )


def _within(change: Interval, margin: float) -> bool:
    return -margin <= change.low <= change.high <= margin


def _class_goal(evidence: Evidence) -> Finding:
    """Does the model say of the removed class what a model says that never knew it?"""
    ours, theirs = (evidence.scores[model]["forget"]["logits"] for model in ("unlearned", "retrained"))
    distance = class_goal_distance(ours, theirs)
    far = distance.low > CLASS_MARGIN
    before = class_goal_distance(evidence.scores["original"]["forget"]["logits"], theirs)
    return Finding(
        word=Word.LEAK_DETECTED if far else Word.NOT_DETECTED,
        test="what is said of the removed class",
        number=distance,
        because=(
            f"Mean probability vectors on the removed class are {distance} apart from the retrained model's in total "
            f"variation; {CLASS_MARGIN} is the margin."
        ),
        control=f"original: {before}",
        assumption="two models retrained with different seeds are nearer to each other than the margin",
    )


RECOVERY_CHECKS = {
    "finetuning": "retain-only recovery",
    "rounding": "recovery by rounding the weights",
}


def _recovery(evidence: Evidence, how: str) -> Finding:
    """Do forgotten records come back?"""
    found = unpacked(evidence.arrays[f"recovery_{how}"], evidence.goal)
    back = [each for each in found if each.recovered]
    worst = max(back or found, key=lambda each: each.gain.low)
    unit = "steps on the retain set alone" if how == "finetuning" else "bits a weight"
    shown = worst.rise if evidence.goal == "class" else worst.gain
    what = "accuracy on the class" if evidence.goal == "class" else "AUC, forgotten against unseen,"
    calibrated = "retrained" in evidence.models
    return Finding(
        word=Word.RECOVERABLE if back else Word.NOT_DETECTED,
        test=RECOVERY_CHECKS[how],
        number=shown,
        because=f"After {worst.at} {unit}, {what} changed by {shown}.",
        control="the retrained model, treated alike, taken off" if calibrated else "unseen records, treated alike",
        assumption="a model that never saw the records gains no more on them than on unseen ones",
    )
