"""The rows: tier 1 from the model alone, tier 2 beside one retrained reference. Terms and rules: docs/guide.md."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nablatau.attacks import svc
from nablatau.attacks.logistic_regression import AT_LEAST, logistic_regression
from nablatau.attacks.signals import modified_entropies
from nablatau.contrasts import unpacked
from nablatau.evaluation.beside_reference import CALIBRATED_NAME, reference_rows
from nablatau.evaluation.membership import (
    FEWEST_UNSEEN,
    Sides,
    estimate_auc,
    plain_sides,
)
from nablatau.evaluation.rows import Row, row_of_each
from nablatau.evaluation.shadowed import shadow_rows
from nablatau.evidence import Evidence
from nablatau.metrics import (
    accuracy,
    expected_calibration_error,
    f1_micro,
    negative_flips,
    negative_log_likelihood,
    worst_class_accuracy,
)
from nablatau.objectives import Kind
from nablatau.scoring import Array, Scores
from nablatau.statistics import (
    Interval,
    auc_delong,
    auc_interval,
    benjamini_hochberg,
    conformal_p_values,
    ks_critical_distance,
    ks_test,
    mean_interval,
    minimum_negatives,
    paired_change,
    tail_test,
    tpr_at_fpr,
    wilson,
)

AUC_NAME = "AUC, forgotten against unseen"
RETRAINED = "the retrained model's value"


def _f1(scores: Scores) -> Interval | None:
    """Micro F1; None for a single record, or where there is neither a label nor a prediction of one."""
    some = bool(scores["prediction"].any() or scores["target"].any())
    return f1_micro(scores["prediction"], scores["target"]) if some and len(scores) > 1 else None


def _mean(scores: Scores) -> Interval | None:
    """Mean loss; None for a single record, whose spread is not known."""
    return mean_interval(scores["loss"]) if len(scores) > 1 else None


def _root_mean_square(scores: Scores) -> Interval | None:
    """Root of the mean loss, with the root of its interval."""
    mean = _mean(scores)
    if mean is None:
        return None
    return replace(mean, value=mean.value**0.5, low=max(0.0, mean.low) ** 0.5, high=mean.high**0.5)


TASK_SCORES: dict[Kind, tuple[str, str, Callable[[Scores], Interval | None]]] = {
    "single-label": (
        "Accuracy",
        "share of right predictions; Wilson",
        lambda scores: accuracy(scores["prediction"], scores["target"]),
    ),
    "multi-label": (
        "Micro F1",
        "over all labels; bootstrap over records",
        _f1,
    ),
    "regression": (
        "RMSE",
        "in target units; root of the mean squared error's normal interval",
        _root_mean_square,
    ),
    "loss": (
        "Mean loss",
        "in the loss function's unit; normal interval",
        _mean,
    ),
}
"""By kind of objective: name, how the interval is made, function."""


def summarise(evidence: Evidence) -> list[Row]:
    """All rows that the evidence allows, in the order of the report.

    Args:
        evidence: of one or more models.
    """
    rows = [*_task_rows(evidence), *_membership_rows(evidence), *_compatibility_rows(evidence)]
    if "retrained" in evidence.models and len(evidence.models) > 1:
        rows += reference_rows(evidence)
    rows += [*shadow_rows(evidence), *_recovery_rows(evidence)]
    label = TASK_SCORES[evidence.kind][0]
    headlines = (f"{label}, ", AUC_NAME, CALIBRATED_NAME, "Logistic", "Average gap")
    return [replace(row, headline=row.headline or row.name.startswith(headlines)) for row in rows]


# ---------------------------------------------------------------------- the task


def _task_rows(evidence: Evidence) -> list[Row]:
    label, note, compute = TASK_SCORES[evidence.kind]
    rows = [
        row_of_each(evidence, f"{label}, {split} set", note, RETRAINED, _scored(evidence, split, compute))
        for split in evidence.splits
    ]
    if evidence.kind == "single-label":
        rows += _classification_rows(evidence, "test" if "test" in evidence.splits else "unseen")
    return rows


def _scored(
    evidence: Evidence, split: str, compute: Callable[[Scores], Interval | None]
) -> Callable[[str], Interval | None]:
    return lambda model: compute(evidence.scores[model][split])


def _classification_rows(evidence: Evidence, split: str) -> list[Row]:
    def of(model: str, name: str) -> Array:
        array: Array = evidence.scores[model][split][name]
        return array

    others = [model for model in evidence.models if model != "original"]
    rows = [
        row_of_each(
            evidence,
            f"Accuracy of the worst class, {split} set",
            "Wilson",
            RETRAINED,
            lambda model: worst_class_accuracy(of(model, "prediction"), of(model, "target")),
        )
    ]
    if "original" in evidence.models:
        rows += [
            row_of_each(
                evidence,
                f"Change of accuracy from the original, {split} set",
                "paired; Newcombe",
                RETRAINED,
                lambda model: paired_change(of("original", "correct"), of(model, "correct")),
                others,
            ),
            row_of_each(
                evidence,
                f"Negative flips from the original, {split} set",
                "share of records that were right and are wrong now; Wilson",
                "as between two retrained models, not 0",
                lambda model: negative_flips(
                    of("original", "prediction"), of(model, "prediction"), of(model, "target")
                ),
                others,
            ),
        ]
    if evidence.has("logits"):
        rows += [
            row_of_each(
                evidence,
                f"Negative log-likelihood, {split} set",
                "nats; normal interval",
                RETRAINED,
                lambda model: negative_log_likelihood(of(model, "logits"), of(model, "target")),
            ),
            row_of_each(
                evidence,
                f"Expected calibration error, {split} set",
                "15 bins; bootstrap",
                RETRAINED,
                lambda model: expected_calibration_error(of(model, "logits"), of(model, "target")),
            ),
        ]
    return rows


# ---------------------------------------------------------------------- membership


def _membership_rows(evidence: Evidence) -> list[Row]:
    against = "unseen records of its classes" if evidence.goal == "class" else "unseen records"
    like = len(evidence.comparable)
    if like < 2:
        note = f"not run: needs 2 {against}, and {like} are known"
        return [row_of_each(evidence, AUC_NAME, note, "0.5", lambda model: None)]
    sides = {model: plain_sides(evidence, model) for model in evidence.models}
    forgotten = len(sides[evidence.models[0]].forget)
    within = ", within classes" if sides[evidence.models[0]].forget_strata is not None else ""
    rows = [
        row_of_each(
            evidence,
            AUC_NAME,
            f"a forgotten record fits better than {against}{within}; DeLong, logit scale",
            "0.5 for a random draw, else the retrained model's value",
            lambda model: auc_interval(estimate_auc(sides[model])),
        ),
        _retain_row(evidence),
    ]
    if like >= FEWEST_UNSEEN:
        rows += _tail_rows(evidence, sides, f"{ks_critical_distance(forgotten, like):.3f}")
    else:
        note = f"not run: needs {FEWEST_UNSEEN} {against}, and {like} are known"
        rows.append(row_of_each(evidence, "TPR at low FPR, KS distance, tail share", note, "–", lambda model: None))
    return rows


def _retain_row(evidence: Evidence) -> Row:
    def retained(model: str) -> Interval:
        splits = evidence.scores[model]
        return auc_delong(-splits["retain"]["loss"], -splits["unseen"]["loss"])

    note = "a retained record fits better than an unseen one: the leak that stays; DeLong, logit scale"
    return row_of_each(evidence, "AUC, retained against unseen", note, RETRAINED, retained)


def _tail_rows(evidence: Evidence, sides: dict[str, Sides], critical: str) -> list[Row]:
    some = sides[evidence.models[0]]
    rows = []
    for rate in (0.1, 0.01, 0.001):
        name = f"TPR at {100 * rate:g} % FPR"
        if len(some.unseen) >= minimum_negatives(rate):
            note = "forgotten records above that share of the unseen ones; Clopper-Pearson"
            rows.append(row_of_each(evidence, name, note, f"{rate:g}", _tpr(sides, rate)))
        else:
            note = f"not run: needs {minimum_negatives(rate):,} unseen records, and there are {len(some.unseen):,}"
            rows.append(row_of_each(evidence, name, note, f"{rate:g}", lambda model: None))
    rows += [
        row_of_each(
            evidence,
            "KS distance, forgotten against unseen",
            "largest gap between the two distributions of margins; no interval",
            f"below {critical} in 95 % of random draws",
            lambda model: _ks(sides[model]),
        ),
        row_of_each(
            evidence,
            "Forgotten beyond the unseen records' 95th loss percentile",
            "Clopper-Pearson, given the percentile; tested by the exact exceedance test",
            "0.05",
            lambda model: tail_test(-sides[model].forget, -sides[model].unseen).share,
        ),
        row_of_each(
            evidence,
            "Records singled out",
            "share with a conformal p-value below the Benjamini-Hochberg line at 10 %; Wilson",
            "0",
            lambda model: _singled_out(sides[model]),
        ),
    ]
    return rows


def _tpr(sides: dict[str, Sides], rate: float) -> Callable[[str], Interval]:
    return lambda model: tpr_at_fpr(sides[model].forget, sides[model].unseen, rate).tpr


def _ks(sides: Sides) -> Interval:
    found = ks_test(sides.forget, sides.unseen)
    return Interval(found.statistic, found.statistic, found.statistic, found.n, "no interval", found.m)


def _singled_out(sides: Sides) -> Interval:
    p_values = conformal_p_values(sides.forget, sides.unseen, sides.forget_strata, sides.unseen_strata)
    return wilson(int((benjamini_hochberg(p_values) <= 0.1).sum()), len(p_values))


# ---------------------------------------------------------------------- numbers of other publications


def _compatibility_rows(evidence: Evidence) -> list[Row]:
    """The attacks that other publications report, to be laid beside theirs; they decide nothing."""
    rows = [_logistic_row(evidence, signal) for signal in ("loss", "entropy") if evidence.has(signal)]
    if evidence.has("logits") and evidence.kind == "single-label":
        note = (
            "compatibility number: share of forgotten records that an SVC on modified entropies, trained on retained "
            "and unseen ones, calls unseen; Wilson"
        )
        rows.append(
            row_of_each(evidence, "SVC attack, called unseen", note, RETRAINED, lambda model: _svc(evidence, model))
        )
    return rows


def _logistic_row(evidence: Evidence, signal: str) -> Row:
    name = f"Logistic-regression attack on {'losses' if signal == 'loss' else 'entropies'}"
    forget, unseen = evidence.pair(evidence.models[0], signal)
    if min(len(forget), len(unseen)) < AT_LEAST:
        note = f"compatibility number, not run: needs {AT_LEAST} records a side"
        return row_of_each(evidence, name, note, "0.5", lambda model: None)
    found = {model: logistic_regression(*evidence.pair(model, signal)) for model in evidence.models}
    note = "compatibility number, the paper's protocol: accuracy over 10 splits; Nadeau-Bengio interval"
    nulls = "; ".join(f"{model} {each.null_low:.3f} to {each.null_high:.3f}" for model, each in found.items())
    values = {
        model: Interval(each.mean, each.low, each.high, each.records_per_side, "Nadeau-Bengio", each.records_per_side)
        for model, each in found.items()
    }
    return Row(name=name, values=dict(values), note=note, null=f"by chance: {nulls}")


def _svc(evidence: Evidence, model: str) -> Interval | None:
    splits = evidence.scores[model]
    values = [
        modified_entropies(splits[split]["logits"], splits[split]["target"]) for split in ("forget", "retain", "unseen")
    ]
    if min(map(len, values[1:])) < AT_LEAST:
        return None
    scores = svc.svc(*values)
    return wilson(int((scores < 0).sum()), len(scores))


# ---------------------------------------------------------------------- recovery


def _recovery_rows(evidence: Evidence) -> list[Row]:
    """What came back: a row a readout of each check that was run."""
    rows = []
    units = {"finetuning": "steps on the retain set", "rounding": "bits a weight"}
    for how, unit in units.items():
        for each in unpacked(evidence.arrays.get(f"recovery_{how}", np.zeros((0, 15))), evidence.goal):
            values = {model: each.gain if model == "unlearned" else None for model in evidence.models}
            note = "AUC after − before, forgotten against unseen; paired DeLong, simultaneous over the readouts"
            rows.append(Row(name=f"Recovered after {each.at} {unit}", values=dict(values), note=note, null="0"))
    return rows


# ---------------------------------------------------------------------- in one sentence


def sentence(evidence: Evidence, rows: Sequence[Row]) -> str:
    """The numbers that matter most in one sentence, from the rows alone."""
    by_name = {row.name: row.values for row in rows}
    label = TASK_SCORES[evidence.kind][0]
    split = "test" if f"{label}, test set" in by_name else "unseen"
    name = label if label.isupper() else label.lower()
    forgotten = _told(by_name[f"{label}, forget set"], evidence.models)
    utility = _told(by_name[f"{label}, {split} set"], evidence.models)
    auc = by_name.get(CALIBRATED_NAME, by_name[AUC_NAME])
    if auc[_judged(evidence.models)] is None:
        attack = "too few unseen records of the forgotten classes are at hand to attack it"
    else:
        beside = "its losses beside a retrained model's" if CALIBRATED_NAME in by_name else "its losses"
        attack = f"{beside} give a forgotten record away with AUC {_told(auc, evidence.models)}, where 0.5 is chance"
    count = len(evidence.scores[evidence.models[0]]["forget"])
    records = "the forgotten record" if count == 1 else f"the {count:,} forgotten records"
    return f"On {records} the model's {name} is {forgotten}; {attack}; on the {split} set {name} is {utility}."


def _judged(models: Sequence[str]) -> str:
    """The model that an evaluation is about."""
    return "unlearned" if "unlearned" in models else models[-1]


def _told(values: dict[str, Interval | None], models: Sequence[str]) -> str:
    """The judged model's number with its interval, those of the others in brackets."""
    names = {"original": "before", "retrained": "retrained without them"}
    others = [f"{names[model]} {each.value:.3f}" for model in names if (each := values.get(model)) is not None]
    if values[_judged(models)] is None:
        return "without an interval (too few records)"
    return f"{values[_judged(models)]}" + (f" ({', '.join(others)})" if others else "")
