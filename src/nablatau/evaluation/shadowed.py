"""Tier 3: what shadow pipelines say of each record (pipelines.py), from the arrays that evidence keeps of them.

U-LiRA (Hayes et al. 2403.01218) with a Student-t predictive for the unlearned model; LiRA (Carlini et al. 2112.03570)
likewise for models that unlearned nothing. Positives are forgotten records, negatives unseen ones.
"""

import numpy as np

from nablatau.attacks.lira import lira_online
from nablatau.attacks.u_lira import ShadowState, u_lira
from nablatau.evaluation.rows import Row
from nablatau.evidence import Evidence
from nablatau.metrics import risk_rise_share
from nablatau.scoring import Array
from nablatau.statistics import AucEstimate, Interval, auc_estimate, auc_interval


def unlearned_lira_auc(evidence: Evidence) -> AucEstimate:
    """U-LiRA on the unlearned model: unlearned against never seen."""
    arrays = evidence.arrays
    scores = u_lira(_signal(evidence, "unlearned"), arrays["shadow_unlearned"], arrays["shadow_states"])
    return _auc(evidence, scores)


def trained_lira_auc(evidence: Evidence, model: str) -> AucEstimate:
    """LiRA on any model: trained on against never seen."""
    return _auc(evidence, _trained_lira(evidence, model))


def shadow_rows(evidence: Evidence) -> list[Row]:
    """The rows of tier 3; none where no pipelines were run."""
    if "shadow_states" not in evidence.arrays:
        return []
    count, size = evidence.arrays["shadow_states"].shape
    note = f"{count} shadow pipelines, {size} records; Student-t predictive; DeLong, logit scale"
    after = auc_interval(unlearned_lira_auc(evidence))
    rows = [
        Row(
            name="U-LiRA AUC, unlearned against never seen",
            values={model: after if model == "unlearned" else None for model in evidence.models},
            note=note,
            null="0.5",
            headline=True,
        ),
        Row(
            name="LiRA AUC, trained on against never seen",
            values={model: auc_interval(trained_lira_auc(evidence, model)) for model in evidence.models},
            note=note,
            null="0.5",
            headline=True,
        ),
    ]
    if "original" in evidence.models:
        rows.append(
            Row(
                name="Forgotten records whose risk rose",
                values={model: _risk_rise(evidence) if model == "unlearned" else None for model in evidence.models},
                note="share with a higher LiRA score than under the original; Wilson",
                null="below the share between two retrained models",
            )
        )
    return rows


def _trained_lira(evidence: Evidence, model: str) -> Array:
    arrays = evidence.arrays
    included = arrays["shadow_states"] != ShadowState.OUT
    return lira_online(_signal(evidence, model), arrays["shadow_trained"], included)


def _signal(evidence: Evidence, model: str) -> Array:
    """The signal of the records under attack, forgotten ones first."""
    splits, arrays = evidence.scores[model], evidence.arrays
    parts = [
        splits[split]["margin"] if "margin" in splits[split] else -splits[split]["loss"]
        for split in ("forget", "unseen")
    ]
    return np.concatenate([parts[0][arrays["shadow_forget_positions"]], parts[1][arrays["shadow_unseen_positions"]]])


def _auc(evidence: Evidence, scores: Array) -> AucEstimate:
    forgotten = len(evidence.arrays["shadow_forget_positions"])
    return auc_estimate(scores[:forgotten], scores[forgotten:])


def _risk_rise(evidence: Evidence) -> Interval:
    forgotten = len(evidence.arrays["shadow_forget_positions"])
    before, after = (_trained_lira(evidence, model)[:forgotten] for model in ("original", "unlearned"))
    return risk_rise_share(before, after)
