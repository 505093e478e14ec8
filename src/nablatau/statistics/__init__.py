"""Statistics on plain arrays: intervals, tests and sample sizes. Knows nothing of models or of unlearning."""

from nablatau.statistics.auc import (
    AucEstimate,
    StratifiedAuc,
    auc_delong,
    auc_estimate,
    auc_interval,
    auc_stratified,
    delong_paired,
    delong_unpaired,
)
from nablatau.statistics.binomial import clopper_pearson, wilson
from nablatau.statistics.interval import Interval

__all__ = [
    "AucEstimate",
    "Interval",
    "StratifiedAuc",
    "auc_delong",
    "auc_estimate",
    "auc_interval",
    "auc_stratified",
    "clopper_pearson",
    "delong_paired",
    "delong_unpaired",
    "wilson",
]
