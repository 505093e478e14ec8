"""Metrics: numbers about models, computed from per-example arrays. `METRICS` lists those that are one
interval.

The arguments a metric needs are named in this vocabulary (shapes: N examples, C classes, L labels, K models,
T steps):

- `predictions`, `labels` (N,) integers; `logits` (N, C); multi-label `predictions` and `labels` (N, L) 0/1;
  regression `predictions` and `targets` (N,)
- `original_`, `unlearned_`, `reference_`: of the original, the unlearned, the retrained model, on one split;
  `first_`, `second_`: of any two models
- `forget_`, `holdout_`: on the forget and the holdout set; `_before`, `_after`: before and after fine-tuning
- `..._correct`: 0/1 correctness, and for gaps a sequence of such vectors, one a part
- `..._margins` (K, N) or (L, N): margins of many models; `..._scores`, `..._risk` (N,): an attack's score per
  record;
  `correct_tokens`: for each text a 0/1 vector of greedy predictions; `question_sets`: for each set of questions a
  matrix (N, P), one column a part of the utility
- `steps`, `..._curve` (T,): accuracy on the forget set while it is learned again

Everything else here is a table or a null floor and is imported from its file.
"""

import math
from collections.abc import Callable
from typing import Literal

from nablatau.metrics.answers import (
    answer_probabilities,
    choice_probabilities,
    model_utility,
    truth_ratio_nearness,
    truth_ratio_utilities,
    truth_ratios,
)
from nablatau.metrics.calibration import (
    calibration_null_floor,
    expected_calibration_error,
    negative_log_likelihood,
)
from nablatau.metrics.class_goal import ClassShift, class_goal_distance, class_goal_null_floor, class_shifts
from nablatau.metrics.distance import activation_distance, churn, js_divergence, nearer_to_reference
from nablatau.metrics.ensembles import (
    epsilon_per_example,
    forgetting_score,
    forgetting_score_null_floor,
    klom_gaussian,
    klom_gaussian_null_floor,
    klom_histogram,
    klom_null_floor,
    klom_per_example,
)
from nablatau.metrics.forgetting import recovery_contrast, zero_retrain_forgetting
from nablatau.metrics.language import (
    ForgetQuality,
    exact_memorisation,
    extraction_strength,
    extraction_strengths,
    forget_quality,
    privacy_leak,
)
from nablatau.metrics.memorisation import (
    MemorisationStrata,
    memorisation_scores,
    memorisation_strata,
    risk_rise_share,
    worst_tenth,
)
from nablatau.metrics.metric import Metric
from nablatau.metrics.multilabel import f1_macro, f1_micro, f1_per_label
from nablatau.metrics.privacy import epsilon_lower_bound
from nablatau.metrics.regression import r_squared, root_mean_squared_error
from nablatau.metrics.relearning import anamnesis_index, relearn_time
from nablatau.metrics.rouge import RougeL, rouge_l
from nablatau.metrics.utility import (
    accuracy,
    accuracy_change,
    average_gap,
    class_accuracies,
    negative_flips,
    tug_of_war,
    worst_class_accuracy,
)
from nablatau.statistics import Interval

_SEEDS = "the same number between two retrained models of different seeds; not 0"
_RETRAINED = "the retrained model's value"


def _row(
    function: Callable[..., Interval],
    low: float,
    high: float,
    best: Literal["high", "low", "as retrained"],
    needs: tuple[str, ...],
    null_floor: str,
    source: str,
) -> Metric:
    return Metric(function.__name__, function, low, high, best, needs, null_floor, source)


_TWO_PREDICTIONS = ("original_predictions", "unlearned_predictions", "labels")
_TWO_LOGITS = ("first_logits", "second_logits")
_PARTS = ("unlearned_correct", "reference_correct")
_MARGINS = ("unlearned_margins", "reference_margins")
_BEFORE_AFTER = (
    "forget_correct_before",
    "forget_correct_after",
    "holdout_correct_before",
    "holdout_correct_after",
)

_ROWS = (
    _row(accuracy, 0, 1, "as retrained", ("predictions", "labels"), _RETRAINED, "Wilson 1927 (interval)"),
    _row(
        worst_class_accuracy,
        0,
        1,
        "as retrained",
        ("predictions", "labels"),
        _RETRAINED,
        "minimum over classes",
    ),
    _row(
        accuracy_change,
        -1,
        1,
        "as retrained",
        _TWO_PREDICTIONS,
        "0 on unseen data; on F, retrained - original",
        "Newcombe 1998b, method 10",
    ),
    _row(negative_flips, 0, 1, "low", _TWO_PREDICTIONS, _SEEDS, "Yan et al. 2021, 2011.09161"),
    _row(negative_log_likelihood, 0, math.inf, "as retrained", ("logits", "labels"), _RETRAINED, "definition"),
    _row(
        expected_calibration_error,
        0,
        1,
        "low",
        ("logits", "labels"),
        "calibration_null_floor: above 0 by noise alone",
        "Guo et al. 2017, 1706.04599, eq. 3",
    ),
    _row(average_gap, 0, 1, "low", _PARTS, _SEEDS, "Fan et al. 2024, 2310.12508"),
    _row(
        tug_of_war,
        0,
        1,
        "high",
        _PARTS,
        "below 1: that of two retrained models of different seeds",
        "Zhao et al. 2024, 2406.01257",
    ),
    _row(activation_distance, 0, math.sqrt(2), "low", _TWO_LOGITS, _SEEDS, "Chundawat et al. 2023, 2205.08096"),
    _row(js_divergence, 0, 1, "low", _TWO_LOGITS, _SEEDS, "Lin 1991"),
    _row(churn, 0, 1, "low", ("first_predictions", "second_predictions"), _SEEDS, "Milani Fard et al. 2016"),
    _row(
        nearer_to_reference,
        0,
        1,
        "high",
        ("unlearned_logits", "original_logits", "reference_logits"),
        "the share of a second retrained model; 0.5 for noise, 0 for the original",
        "nablatau",
    ),
    _row(
        class_goal_distance,
        0,
        1,
        "low",
        ("unlearned_logits", "reference_logits"),
        "class_goal_null_floor for equal mean vectors; two retrained seeds lie higher",
        "Ebrahimpour-Boroojeny et al. 2025, 2506.20893",
    ),
    _row(
        zero_retrain_forgetting,
        0,
        1,
        "as retrained",
        ("unlearned_logits", "random_teacher_logits"),
        "the retrained model's value, below 1",
        "Chundawat et al. 2023, 2205.08096",
    ),
    _row(recovery_contrast, -2, 2, "low", _BEFORE_AFTER, "0", "nablatau"),
    _row(
        relearn_time,
        0,
        math.inf,
        "as retrained",
        ("steps", "curve", "target"),
        "the retrained model's and a fresh model's time",
        "Golatkar et al. 2020, 1911.04933",
    ),
    _row(
        anamnesis_index,
        0,
        math.inf,
        "as retrained",
        ("unlearned_curve", "reference_curve", "steps", "original_accuracy"),
        "1",
        "Chundawat et al. 2023, 2201.05629",
    ),
    _row(
        klom_histogram,
        0,
        math.inf,
        "low",
        _MARGINS,
        "3.9 / 0.35 / 0.15 at 16 / 100 / 200 models: klom_null_floor",
        "Georgiev et al. 2024, 2410.23232",
    ),
    _row(
        klom_gaussian,
        0,
        math.inf,
        "low",
        _MARGINS,
        "0.15 / 0.02 / 0.01 at 16 / 100 / 200 models: klom_gaussian_null_floor",
        "Georgiev et al. 2024, 2410.23232",
    ),
    _row(
        forgetting_score,
        0,
        1,
        "high",
        _MARGINS,
        "about 0.18, not 1: forgetting_score_null_floor",
        "Triantafillou et al. 2024, 2406.09073",
    ),
    _row(
        risk_rise_share,
        0,
        1,
        "low",
        ("original_risk", "unlearned_risk"),
        "0.5 where the scores are noise; the share between two original models of different seeds",
        "Carlini et al. 2022, 2206.10469",
    ),
    _row(
        worst_tenth,
        -math.inf,
        math.inf,
        "low",
        ("unlearned_risk",),
        "the worst tenth of records never trained on, under the same model",
        "nablatau",
    ),
    _row(
        epsilon_lower_bound,
        0,
        math.inf,
        "low",
        ("forget_scores", "holdout_scores"),
        "0, exceeded in at most 5 % of perfect unlearnings",
        "Jagielski et al. 2020, 2006.07709",
    ),
    _row(
        extraction_strength,
        0,
        1,
        "as retrained",
        ("correct_tokens",),
        _RETRAINED,
        "Carlini et al. 2021, 2012.07805",
    ),
    _row(
        exact_memorisation,
        0,
        1,
        "as retrained",
        ("correct_tokens",),
        _RETRAINED,
        "Tirumala et al. 2022, 2205.10770",
    ),
    _row(
        model_utility,
        0,
        1,
        "as retrained",
        ("question_sets",),
        _RETRAINED,
        "Maini et al. 2024, 2401.06121",
    ),
    _row(
        privacy_leak,
        -100,
        math.inf,
        "as retrained",
        (
            "unlearned_forget_scores",
            "unlearned_holdout_scores",
            "reference_forget_scores",
            "reference_holdout_scores",
        ),
        "0",
        "Shi et al. 2024, 2407.06460",
    ),
    _row(
        root_mean_squared_error,
        0,
        math.inf,
        "as retrained",
        ("predictions", "targets"),
        _RETRAINED,
        "definition",
    ),
    _row(r_squared, -math.inf, 1, "as retrained", ("predictions", "targets"), _RETRAINED, "definition"),
    _row(f1_macro, 0, 1, "as retrained", ("predictions", "labels"), _RETRAINED, "definition"),
    _row(f1_micro, 0, 1, "as retrained", ("predictions", "labels"), _RETRAINED, "definition"),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}

__all__ = [
    "METRICS",
    "ClassShift",
    "ForgetQuality",
    "MemorisationStrata",
    "Metric",
    "RougeL",
    "accuracy",
    "accuracy_change",
    "activation_distance",
    "anamnesis_index",
    "answer_probabilities",
    "average_gap",
    "calibration_null_floor",
    "choice_probabilities",
    "churn",
    "class_accuracies",
    "class_goal_distance",
    "class_goal_null_floor",
    "class_shifts",
    "epsilon_lower_bound",
    "epsilon_per_example",
    "exact_memorisation",
    "expected_calibration_error",
    "extraction_strength",
    "extraction_strengths",
    "f1_macro",
    "f1_micro",
    "f1_per_label",
    "forget_quality",
    "forgetting_score",
    "forgetting_score_null_floor",
    "js_divergence",
    "klom_gaussian",
    "klom_gaussian_null_floor",
    "klom_histogram",
    "klom_null_floor",
    "klom_per_example",
    "memorisation_scores",
    "memorisation_strata",
    "model_utility",
    "nearer_to_reference",
    "negative_flips",
    "negative_log_likelihood",
    "privacy_leak",
    "r_squared",
    "recovery_contrast",
    "relearn_time",
    "risk_rise_share",
    "root_mean_squared_error",
    "rouge_l",
    "truth_ratio_nearness",
    "truth_ratio_utilities",
    "truth_ratios",
    "tug_of_war",
    "worst_class_accuracy",
    "worst_tenth",
    "zero_retrain_forgetting",
]
