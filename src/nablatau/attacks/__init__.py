"""Membership inference against an unlearned model: arrays in, one score a record out, higher = remembered.

ATTACKS lists them. An attack never runs a model and never says what its scores are worth: area under the
curve and true positive rate at a false positive rate, with their intervals, are computed from the scores
elsewhere. Signals (margin, loss, entropy) come from statistics/logits.py; what every array is asked is in
statistics/checks.py.

Names of arrays, in `needs`: without prefix the records that are scored under the audited model; `forget_`,
`retain_`, `unseen_` those splits; `population_` unseen records that are not scored; `reference_` the model
retrained without the forget set; `shadow_` one row for each shadow model; `token_` for each record a vector, one
value a token. The names stand in the order of the function's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from nablatau.attacks import (
    gaussian_canaries,
    label_only,
    lira,
    logistic_regression,
    loss_threshold,
    min_k,
    one_run_epsilon,
    paired_canaries,
    reference_difference,
    rmia,
    svc,
    swap,
    u_lira,
    zlib_ratio,
)

__all__ = ["ATTACKS", "Attack"]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack: what to call, what it needs, where it comes from and what chance looks like.

    tier: 1 no reference model, 2 one reference model (or one more run), 3 shadow models or planted canaries.
    needs: names of the arrays, in the order of the function's parameters; all else is a keyword with a
        default, or
    (sigma of gaussian_canaries) a number that only the user knows. gives: "scores", shape (N,), or a
    "result" dataclass.
    compatibility: True where it is here to be laid beside published numbers, not as evidence. null: what a
        perfectly
    retrained model would score.
    """

    name: str
    function: Callable[..., Any]
    tier: Literal[1, 2, 3]
    needs: tuple[str, ...]
    source: str
    null: str
    gives: Literal["scores", "result"] = "scores"
    compatibility: bool = False


SAME = "area under the curve 0.5 for forget against unseen records, where the forget set is a random draw"
SHADOW = ("margins", "shadow_margins", "inclusion")
RMIA_SHADOW = ("losses", "shadow_losses", "inclusion", "population_losses", "population_shadow_losses")
LOGISTIC_NULL = "accuracy inside its null spread around 0.5 (losses: 0.43 to 0.58 at 100 records a side)"
SVC_SOURCE = "Jia et al. 2304.04934; Song and Mittal 2003.10595"

_ALL = (
    Attack(
        name="logistic_regression_loss",
        function=logistic_regression.logistic_regression,
        tier=1,
        needs=("forget_losses", "unseen_losses"),
        source="NeurIPS 2023 unlearning challenge; Trippa et al. 2403.14339",
        null=LOGISTIC_NULL,
        gives="result",
        compatibility=True,
    ),
    Attack(
        name="logistic_regression_entropy",
        function=logistic_regression.logistic_regression,
        tier=1,
        needs=("forget_entropies", "unseen_entropies"),
        source="NeurIPS 2023 unlearning challenge; Trippa et al. 2403.14339",
        null=LOGISTIC_NULL,
        gives="result",
        compatibility=True,
    ),
    Attack(
        name="loss_threshold",
        function=loss_threshold.loss_threshold,
        tier=1,
        needs=("losses",),
        source="Yeom et al. 1709.01604",
        null=SAME,
    ),
    Attack(
        name="class_conditional_loss",
        function=loss_threshold.class_conditional_loss,
        tier=1,
        needs=("losses", "labels", "population_losses", "population_labels"),
        source="Song and Mittal 2003.10595",
        null=f"{SAME} within each class",
    ),
    Attack(
        name="min_k",
        function=min_k.min_k,
        tier=1,
        needs=("token_log_probabilities",),
        source="Shi et al. 2310.16789",
        null=SAME,
    ),
    Attack(
        name="min_k_plus_plus",
        function=min_k.min_k_plus_plus,
        tier=1,
        needs=("token_log_probabilities", "token_means", "token_deviations"),
        source="Zhang et al. 2404.02936",
        null=SAME,
    ),
    Attack(
        name="zlib_ratio",
        function=zlib_ratio.zlib_ratio,
        tier=1,
        needs=("losses", "compressed_sizes"),
        source="Carlini et al. 2012.07805",
        null=SAME,
    ),
    Attack(
        name="label_only",
        function=label_only.label_only,
        tier=1,
        needs=("predictions", "labels"),
        source="Yeom et al. 1709.01604; Choquette-Choo et al. 2007.14321",
        null="forget accuracy equals the accuracy on unseen records",
    ),
    *(
        Attack(
            name=f"svc_{signal}",
            function=svc.svc,
            tier=1,
            needs=(plural, f"retain_{plural}", f"unseen_{plural}"),
            source=SVC_SOURCE,
            null="the forget set is called non-member as often as unseen records are, not always",
            compatibility=True,
        )
        for signal, plural in (
            ("confidence", "confidences"),
            ("entropy", "entropies"),
            ("modified_entropy", "modified_entropies"),
        )
    ),
    Attack(
        name="rmia_offline",
        function=rmia.rmia_offline,
        tier=2,
        needs=("losses", "reference_losses", "population_losses", "population_reference_losses"),
        source="Zarifzadeh et al. 2312.03262",
        null=f"{SAME}; calibrated by the reference also where they are not",
    ),
    Attack(
        name="reference_difference",
        function=reference_difference.reference_difference,
        tier=2,
        needs=("losses", "reference_losses"),
        source="Watson et al. 2111.08440",
        null=f"{SAME}; calibrated by the reference also where they are not",
    ),
    Attack(
        name="swap",
        function=swap.swap,
        tier=2,
        needs=("forget_scores", "unseen_scores", "swapped_forget_scores", "swapped_unseen_scores"),
        source="Tu, Hu and Ma 2404.11577",
        null="area 0.5 and advantage 0 exactly, where both splits share the retrained model",
        gives="result",
    ),
    Attack(
        name="rmia_offline_shadows",
        function=rmia.rmia_offline_shadows,
        tier=3,
        needs=RMIA_SHADOW,
        source="Zarifzadeh et al. 2312.03262",
        null=SAME,
    ),
    Attack(
        name="rmia_online",
        function=rmia.rmia_online,
        tier=3,
        needs=RMIA_SHADOW,
        source="Zarifzadeh et al. 2312.03262",
        null=SAME,
    ),
    *(
        Attack(
            name=f"lira_{mode}_{spread}",
            function=partial(function, spread=spread),
            tier=3,
            needs=SHADOW,
            source="Carlini et al. 2112.03570" + ("; Student-t: 2603.11799" if spread == "student_t" else ""),
            null=SAME,
        )
        for mode, function in (("online", lira.lira_online), ("offline", lira.lira_offline))
        for spread in ("own", "shared", "student_t")
    ),
    Attack(
        name="u_lira",
        function=u_lira.u_lira,
        tier=3,
        needs=("margins", "shadow_margins", "states"),
        source="Hayes et al. 2403.01218; Student-t: 2603.11799",
        null=f"{SAME}; a pipeline that retrains has scores near 0 for every record",
    ),
    Attack(
        name="paired_canaries",
        function=paired_canaries.paired_canaries,
        tier=3,
        needs=("planted_scores", "unplanted_scores"),
        source="sign test; coin design of 1802.08232 and 2305.08846",
        null="right guesses are Binomial(pairs, 1/2), exactly",
        gives="result",
    ),
    Attack(
        name="gaussian_canaries",
        function=gaussian_canaries.gaussian_canaries,
        tier=3,
        needs=("noise", "gradients"),
        source="Pawelczyk et al. 2406.17216",
        null="Z is standard normal, exactly",
        gives="result",
    ),
    Attack(
        name="one_run_audit",
        function=one_run_epsilon.one_run_audit,
        tier=3,
        needs=("scores", "included"),
        source="Steinke et al. 2305.08846",
        null="epsilon lower bound 0 in at least 95 % of audits",
        gives="result",
    ),
)

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _ALL})
