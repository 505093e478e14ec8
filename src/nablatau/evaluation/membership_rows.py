"""Rows on membership from the model alone: can forgotten records be told from unseen ones, and retained ones too?"""

from collections.abc import Callable

import numpy as np

from nablatau.attacks.zlib_ratio import zlib_ratio
from nablatau.evaluation.membership import FEWEST_UNSEEN, Sides, estimate_auc, plain_sides
from nablatau.evaluation.rows import (
    HALF,
    NullFloor,
    Row,
    Values,
    as_retrained,
    beyond,
    chance,
    judged,
    row_not_run,
    row_of_each,
)
from nablatau.evidence import Evidence
from nablatau.metrics import risk_rise_share
from nablatau.scoring import Array
from nablatau.statistics import (
    AucEstimate,
    Interval,
    auc_delong,
    auc_estimate,
    auc_interval,
    benjamini_hochberg,
    conformal_p_values,
    ks_critical_distance,
    ks_null_median,
    ks_test,
    minimum_negatives,
    tail_test,
    tpr_at_fpr,
    wilson,
)

AUC_NAME = "AUC, forgotten against unseen"


def membership_rows(evidence: Evidence) -> list[Row]:
    """AUC, TPR at low FPR, KS, tail, records singled out, and whose risk rose.

    Args:
        evidence: of one or more models.
    """
    against = "unseen records of its classes" if evidence.goal == "class" else "unseen records"
    like = len(evidence.comparable)
    if like < 2:
        return [row_not_run(evidence, AUC_NAME, f"needs 2 {against}, and {like} are known", HALF)]
    sides = {model: plain_sides(evidence, model) for model in evidence.models}
    estimates = {model: estimate_auc(each) for model, each in sides.items()}
    within = ", within classes" if sides[evidence.models[0]].forget_strata is not None else ""
    note = f"a forgotten record fits better than {against}{within}; DeLong, logit scale"
    floor = _auc_floor(evidence, estimates[judged(evidence.models)])
    rows = [row_of_each(evidence, AUC_NAME, note, floor, lambda model: auc_interval(estimates[model]))]
    rows.append(_retain_row(evidence))
    rows += _token_rows(evidence)
    if like >= FEWEST_UNSEEN:
        rows += _tail_rows(evidence, sides)
    else:
        needs = f"needs {FEWEST_UNSEEN} {against}, and {like} are known"
        rows.append(row_not_run(evidence, "TPR at low FPR, KS distance, tail share", needs, NullFloor(how="–")))
    if "original" in evidence.models:
        rows += [_risk_row(evidence, split) for split in ("forget", "retain")]
    return rows


def _auc_floor(evidence: Evidence, estimate: AucEstimate) -> NullFloor | Callable[[Values], NullFloor]:
    """0.5 for a random draw; else what a retrained model has, where there is one."""
    if evidence.random_draw:
        return chance(estimate)
    if "retrained" in evidence.models:
        return as_retrained
    return chance(estimate, "for a random draw, which this is not known to be; else the retrained model's value")


def _retain_row(evidence: Evidence) -> Row:
    def retained(model: str) -> Interval:
        splits = evidence.scores[model]
        return auc_delong(-splits["retain"]["loss"], -splits["unseen"]["loss"])

    note = "a retained record fits better than an unseen one: the leak that stays; DeLong, logit scale"
    return row_of_each(evidence, "AUC, retained against unseen", note, as_retrained, retained)


def _token_rows(evidence: Evidence) -> list[Row]:
    """Of texts the same by their least expected tokens, which a few remembered words do not hide among many, and by
    their loss beside how far they can be compressed, so that repetitive texts do not stand first."""
    measures = [
        (
            "Min-K 20 %",
            "min_k",
            "mean log p of the fifth of a text's tokens that are least likely; DeLong, logit scale",
        ),
        (
            "Min-K++ 20 %",
            "min_k_plus_plus",
            "the same, each log p standardised over the vocabulary; DeLong, logit scale",
        ),
    ]
    rows = [
        _attack_row(evidence, name, note, {model: evidence.pair(model, array) for model in evidence.models})
        for name, array, note in measures
        if evidence.has(array)
    ]
    return [*rows, _zlib_row(evidence)] if evidence.kind == "causal-lm" else rows


def _zlib_row(evidence: Evidence) -> Row:
    if "compressed_sizes_forget" not in evidence.arrays:
        needs = "needs data sets with an attribute compressed_sizes: of each text the bytes that zlib makes of it"
        return row_not_run(evidence, _attack_name("zlib ratio"), needs, HALF)
    forget, unseen = (evidence.arrays[f"compressed_sizes_{split}"] for split in ("forget", "unseen"))

    def ratios(model: str) -> tuple[Array, Array]:
        losses = evidence.pair(model, "loss")
        return zlib_ratio(losses[0], forget), zlib_ratio(losses[1], unseen[evidence.comparable])

    note = "mean loss of a token over the bytes that zlib makes of the text; DeLong, logit scale"
    return _attack_row(evidence, "zlib ratio", note, {model: ratios(model) for model in evidence.models})


def _attack_row(evidence: Evidence, name: str, note: str, sides: dict[str, tuple[Array, Array]]) -> Row:
    """AUC of an attack's scores of forgotten and unseen records, by model."""
    floor = _auc_floor(evidence, auc_estimate(*sides[judged(evidence.models)]))
    return row_of_each(evidence, _attack_name(name), note, floor, lambda model: auc_delong(*sides[model]))


def _attack_name(name: str) -> str:
    return f"AUC by {name}, forgotten against unseen"


def _risk_row(evidence: Evidence, split: str) -> Row:
    """Unlearning some records can expose others; a record's risk is told on one scale for all models."""

    def risk(model: str) -> Array:
        splits = evidence.scores[model]
        unseen = np.sort(splits["unseen"]["loss"])
        share: Array = 1 - np.searchsorted(unseen, splits[split]["loss"], side="left") / len(unseen)
        return share

    before = risk("original")
    note = "risk: share of unseen records that fit no better; share with a higher risk than under the original; Wilson"
    others = [model for model in evidence.models if model != "original"]
    name = f"{'Forgotten' if split == 'forget' else 'Retained'} records whose risk rose"
    return row_of_each(evidence, name, note, as_retrained, lambda model: risk_rise_share(before, risk(model)), others)


def _tail_rows(evidence: Evidence, sides: dict[str, Sides]) -> list[Row]:
    some = sides[evidence.models[0]]
    forgotten, unseen = len(some.forget), len(some.unseen)
    return [
        *(_tpr_row(evidence, sides, rate) for rate in (0.1, 0.01, 0.001)),
        row_of_each(
            evidence,
            "KS distance, forgotten against unseen",
            "largest gap between the two distributions of margins; no interval",
            NullFloor(
                value=ks_null_median(forgotten, unseen),
                low=0.0,
                high=ks_critical_distance(forgotten, unseen),
                how="median and 95 % limit for a random draw, asymptotic",
            ),
            lambda model: _ks(sides[model]),
        ),
        row_of_each(
            evidence,
            "Forgotten beyond the unseen records' 95th loss percentile",
            "Clopper-Pearson, given the percentile; tested by the exact exceedance test",
            beyond(forgotten, unseen, 0.05),
            lambda model: tail_test(-sides[model].forget, -sides[model].unseen).share,
        ),
        row_of_each(
            evidence,
            "Records singled out",
            "share with a conformal p-value below the Benjamini-Hochberg line at 10 %; Wilson",
            NullFloor(value=0.0, how="in at least 90 % of random draws, by Benjamini and Hochberg's theorem"),
            lambda model: _singled_out(sides[model]),
        ),
    ]


def _tpr_row(evidence: Evidence, sides: dict[str, Sides], rate: float) -> Row:
    some, name = sides[evidence.models[0]], f"TPR at {100 * rate:g} % FPR"
    unseen = len(some.unseen)
    if unseen < minimum_negatives(rate):
        needs = f"needs {minimum_negatives(rate):,} unseen records, and there are {unseen:,}"
        return row_not_run(evidence, name, needs, NullFloor(value=rate, how="at most"))
    note = "forgotten records above that share of the unseen ones; Clopper-Pearson"
    floor = beyond(len(some.forget), unseen, rate)
    return row_of_each(
        evidence, name, note, floor, lambda model: tpr_at_fpr(sides[model].forget, sides[model].unseen, rate).tpr
    )


def _ks(sides: Sides) -> Interval:
    found = ks_test(sides.forget, sides.unseen)
    return Interval(found.statistic, found.statistic, found.statistic, found.n, "no interval", found.m)


def _singled_out(sides: Sides) -> Interval:
    p_values = conformal_p_values(sides.forget, sides.unseen, sides.forget_strata, sides.unseen_strata)
    return wilson(int((benjamini_hochberg(p_values) <= 0.1).sum()), len(p_values))
