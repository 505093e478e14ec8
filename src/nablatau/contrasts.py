"""How much came back: intervals from what recovery.py read out. Arithmetic on arrays; no model is run here.

Why a contrast is fair: under a retrained model, forgotten and unseen records of one source (of one class, in a class
request) are exchangeable, and whatever is done to it with the retain set, or with no data, changes both alike in the
mean. Where they differ from the start, as one person's records do, only a retrained reference makes it fair.

Each number is 0 where nothing was hidden. `change` is the contrast of accuracies. `gain` asks the same of the rank of
every margin, not only of those that cross 0, and sees a little more: of 60 ascents on digits with 30 % random labels,
stopped at the mean loss of unseen records, it found 59 and `change` 56; of 60 retrained models 1 and 0. `lead` tells
memory from repair: what was pushed below unseen records rises too when fine-tuned, but only up to them. `rise` is for
classes: a hidden class comes back for unseen records as for forgotten ones, which no contrast sees, and for a model
retrained without it never does. Where the original itself knows its forget set no better than unseen records, as on
digits with their true labels, there is nothing to come back, and nothing found says nothing.

Relearning: the index of Chundawat et al. 2023, 2201.05629, relearn time over that of a retrained model. Where we
differ: by default what is timed is the share of the gap in loss between retrained and original. The published target,
95 % of the original's accuracy, is met by a retrained model before it relearns anything wherever it generalises well,
and the index has no denominator then; `by="accuracy"` has it all the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nablatau.errors import EvidenceError
from nablatau.metrics import anamnesis_index, recovery_contrast, relearn_time
from nablatau.recovery import LEARNING_RATES, Readout, Recovery, Relearning
from nablatau.statistics import (
    Interval,
    auc_delong,
    delong_paired,
    difference_of_changes,
    mean_interval,
    paired_change,
    paired_mean_difference,
    unpaired_mean_difference,
)

Array = npt.NDArray[Any]
Curve = Literal["loss", "accuracy"]
RELEARNING_STEPS, RELEARNING_RATE, RELEARNED = "relearning_steps", "relearning_rate", "relearned_"
"""Names of the arrays of relearning; behind the last stands the model's."""
RELEARNING_NOT_RUN = "relearning_not_run"
"""Name of the array that says why there are none of these."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How much more of the forgotten records came back than of unseen ones.

    Attributes:
        at: steps of fine-tuning, or bits.
        goal: of the request.
        rise: after − before on forgotten records, of the accuracy; where there are no single classes, of the mean
            margin, or of minus the loss, in their own unit.
        change: `rise` less the same on unseen records, −2 … 2 for accuracies.
        gain: after − before of the AUC with which margins (or minus losses) tell forgotten from unseen records.
        lead: that AUC after, less ½; with a reference, less the reference's.
    """

    at: int
    goal: Literal["records", "class", "group"]
    rise: Interval
    change: Interval
    gain: Interval
    lead: Interval

    @property
    def recovered(self) -> bool:
        """Memory came back: forgotten records rose against unseen ones and stand above them; of a class, they rose."""
        if self.goal == "class":
            return self.rise.low > 0
        return self.gain.low > 0 and self.lead.low > 0


def contrasts(recovery: Recovery, reference: Recovery | None = None, *, confidence: float = 0.95) -> list[Contrast]:
    """The contrasts of every readout, with limits that hold for all readouts at once (Bonferroni).

    Args:
        recovery: of the unlearned model.
        reference: the same of a retrained model, whose contrasts are taken off. Limits are joined by squares, as of
            independent numbers; the records are shared, which as a rule makes them too wide.
        confidence: that all readouts' limits of one number hold.

    Raises:
        EvidenceError: the reference was read out at other steps or bits, or on other records.
    """
    if reference is not None and not _comparable(recovery, reference):
        raise EvidenceError(
            "The reference was read out at other steps or bits, or on other records, so its contrasts cannot be taken "
            "off. Run the same check, with the same request and settings, on the retrained model."
        )
    each = 1 - (1 - confidence) / len(recovery.after)
    return [_contrast(recovery, reference, at, each) for at in recovery.after]


def _contrast(recovery: Recovery, reference: Recovery | None, at: int, confidence: float) -> Contrast:
    ours = {name: measure(recovery, at, confidence) for name, measure in _MEASURES.items()}
    known = _known(recovery.after[at])
    if reference is None:
        auc = auc_delong(*known, confidence)
        lead = replace(auc, value=auc.value - 0.5, low=auc.low - 0.5, high=auc.high - 0.5)
    else:
        for name, measure in _MEASURES.items():
            less = difference_of_changes(ours[name], measure(reference, at, confidence))
            ours[name] = replace(less, m=ours[name].m)
        lead = delong_paired(*known, *_known(reference.after[at]), confidence)
    return Contrast(at=at, goal=recovery.goal, **ours, lead=lead)


def _rise(recovery: Recovery, at: int, confidence: float) -> Interval:
    before, after = recovery.before, recovery.after[at]
    if "correct" in before.forget:
        return paired_change(before.forget["correct"], after.forget["correct"], confidence)
    return paired_mean_difference(_known(after)[0], _known(before)[0], confidence)


def _change(recovery: Recovery, at: int, confidence: float) -> Interval:
    before, after = recovery.before, recovery.after[at]
    if "correct" in before.forget:
        forget = (before.forget["correct"], after.forget["correct"])
        return recovery_contrast(*forget, before.unseen["correct"], after.unseen["correct"], confidence)
    (forget_before, unseen_before), (forget_after, unseen_after) = _known(before), _known(after)
    return unpaired_mean_difference(forget_after - forget_before, unseen_after - unseen_before, confidence)


def _gain(recovery: Recovery, at: int, confidence: float) -> Interval:
    return delong_paired(*_known(recovery.after[at]), *_known(recovery.before), confidence)


_MEASURES = {"rise": _rise, "change": _change, "gain": _gain}


def _known(readout: Readout) -> tuple[Array, Array]:
    """How well forgotten and unseen records are known: their margins, or minus their losses."""
    forget, unseen = (
        each["margin"] if "margin" in each else -each["loss"] for each in (readout.forget, readout.unseen)
    )
    return forget, unseen


def _comparable(first: Recovery, second: Recovery) -> bool:
    ids = [(list(each.before.forget.ids), list(each.before.unseen.ids)) for each in (first, second)]
    return ids[0] == ids[1] and first.after.keys() == second.after.keys()


# ---------------------------------------------------------------------- relearning


def relearn_times(
    relearning: Relearning,
    model: str = "unlearned",
    *,
    reference: str = "retrained",
    by: Curve = "loss",
    tolerance: float = 0.05,
) -> list[Interval]:
    """The steps until a model knows the forget set as the original does, one bracket a seed.

    Args:
        relearning: with the curves of "original", of `model` and, by loss, of `reference`.
        model: whose time it is.
        reference: what did not know the forget set: "retrained", or "fresh" where there is no retrained model.
        by: "loss" counts until 1 − `tolerance` of the gap in loss between reference and original is closed; "accuracy"
            until 1 − `tolerance` of the original's accuracy is reached.
        tolerance: 0 … 1; 5 % is the published one.

    Returns:
        S brackets, in steps; infinite where the target was not reached.

    Raises:
        EvidenceError: a model was not relearned, or the original knows the forget set no better than the reference.
    """
    curves, goal = _curves(relearning, model, reference, by)
    return [relearn_time(relearning.steps, curve, goal * (1 - tolerance)) for curve in curves]


def relearn_index(
    relearning: Relearning,
    model: str = "unlearned",
    *,
    reference: str = "retrained",
    by: Curve = "loss",
    tolerance: float = 0.05,
    confidence: float = 0.95,
) -> Interval:
    """The anamnesis index: relearn time over the reference's, averaged over seeds.

    1 if relearned like the reference; below, the memory is still there. Where the reference did not reach the target,
    a seed's index is at most the upper end of its bracket, and that is taken.

    Args:
        relearning, model, reference, by, tolerance: as of `relearn_times`.
        confidence: of Student's interval over seeds, drawn around the ends of the seeds' brackets. With one seed, or
            where a time is infinite, the result is the mean bracket alone.

    Raises:
        EvidenceError: as of `relearn_times`.
        ValueError: no model reaches the target, or the reference has reached it before relearning.
    """
    (ours, goal), (theirs, _) = (_curves(relearning, each, reference, by) for each in (model, reference))
    found = [
        anamnesis_index(mine, other, relearning.steps, goal, tolerance=tolerance)
        for mine, other in zip(ours, theirs, strict=True)
    ]
    low, high = np.array([each.low for each in found]), np.array([each.high for each in found])
    late = [
        math.isinf(each.value)
        for each in relearn_times(relearning, reference, reference=reference, by=by, tolerance=tolerance)
    ]
    value = np.where(late, high, [each.value for each in found])
    method = f"mean over {len(found)} seeds of brackets of measurements"
    if len(found) == 1 or not np.isfinite(high).all():
        return Interval(
            float(value.mean()), float(low.mean()), float(high.mean()), len(found), method, None, confidence
        )
    lowest, highest = max(0.0, mean_interval(low, confidence).low), mean_interval(high, confidence).high
    return Interval(float(value.mean()), lowest, highest, len(found), f"Student t of the {method}", None, confidence)


def _curves(relearning: Relearning, model: str, reference: str, by: Curve) -> tuple[Array, float]:
    """(S, T) curves that rise, and the original's height before relearning."""
    curves = relearning.losses if by == "loss" else relearning.accuracies
    needed = ["original", model, *([reference] if by == "loss" else [])]
    missing = [name for name in needed if name not in curves]
    if missing:
        raise EvidenceError(
            f"There is no {by} curve of {', '.join(missing)}; there are {', '.join(curves) or 'none'}. Relearn "
            "these models too; accuracies exist for single-label classes alone."
        )
    if by == "accuracy":
        return curves[model], float(curves["original"][:, 0].mean())
    knows, does_not = curves["original"][:, 0].mean(), curves[reference][:, 0].mean()
    if not knows < does_not:
        raise EvidenceError(
            f"The original's loss on the forget set, {knows:.4g}, is not below that of {reference}, {does_not:.4g}: "
            "nothing is remembered that could be learned again, and relearning shows nothing. Choose other records."
        )
    return (does_not - curves[model]) / (does_not - knows), 1.0


def packed(found: list[Contrast]) -> Array:
    """Contrasts as an array that evidence can keep: (readouts, 15), a row as `unpacked` reads it."""
    rows = [
        [each.at, each.change.n, each.change.m or 0]
        + [end for part in _intervals(each) for end in (part.value, part.low, part.high)]
        for each in found
    ]
    return np.array(rows, dtype=np.float64)


def unpacked(array: Array, goal: Literal["records", "class", "group"]) -> list[Contrast]:
    """The contrasts that `packed` made an array of.

    Args:
        array: (readouts, 15).
        goal: of the request.
    """
    found = []
    for at, n, m, *ends in array.tolist():
        method = "simultaneous over the readouts"
        parts = [Interval(ends[i], ends[i + 1], ends[i + 2], int(n), method, int(m)) for i in range(0, 12, 3)]
        rise, change, gain, lead = parts
        found.append(Contrast(at=int(at), goal=goal, rise=rise, change=change, gain=gain, lead=lead))
    return found


def _intervals(contrast: Contrast) -> tuple[Interval, Interval, Interval, Interval]:
    return contrast.rise, contrast.change, contrast.gain, contrast.lead


def packed_relearning(found: Relearning) -> dict[str, Array]:
    """Loss curves as arrays that evidence can keep, by names that `unpacked_relearning` knows."""
    return {RELEARNING_STEPS: np.array(found.steps), RELEARNING_RATE: np.array(found.learning_rate)} | {
        f"{RELEARNED}{model}": curves for model, curves in found.losses.items()
    }


def unpacked_relearning(arrays: Mapping[str, Array]) -> Relearning | None:
    """The loss curves that `packed_relearning` made arrays of; None where there are none.

    Args:
        arrays: of evidence, by name.
    """
    if RELEARNING_STEPS not in arrays:
        return None
    losses = {name.removeprefix(RELEARNED): arrays[name] for name in arrays if name.startswith(RELEARNED)}
    seeds = tuple(range(len(next(iter(losses.values())))))
    return Relearning(
        steps=tuple(arrays[RELEARNING_STEPS].tolist()),
        seeds=seeds,
        losses=losses,
        accuracies={},
        learning_rate=float(arrays.get(RELEARNING_RATE, LEARNING_RATES[0])),  # of older evidence always the first
    )
