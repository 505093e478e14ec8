"""The two shapes in which a number is reported: an estimate with its interval, a test with its p-value.

A number without an interval cannot decide anything, so no function of nablatau that estimates something from
a sample returns a bare float.
"""

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from nablatau.statistics.checks import probability

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; prints as ``0.531 [0.502, 0.560]``, a lower bound as
    ``0.531 or more``.

    Raises ValueError on NaN and on low > high.
    """

    value: float  # the estimate, in the unit of the number itself
    low: float  # lower end; -inf where there is none
    high: float  # upper end; +inf where there is none
    n: int  # examples behind it; of two samples, the first (forget set, positives)
    method: str  # how the interval was made, in words
    m: int | None = None  # examples of the second sample (holdout set, negatives), if there is one
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if any(math.isnan(x) for x in (self.value, self.low, self.high)):
            raise ValueError(
                f"NaN in {self.value} [{self.low}, {self.high}]: a NaN passes every comparison as false, "
                "so a verdict would read it as 'not detected'. Leave the number out and say why."
            )
        if self.low > self.high:
            raise ValueError(f"low {self.low} lies above high {self.high}: the ends are swapped.")

    def __str__(self) -> str:
        if math.isinf(self.high) and math.isfinite(self.low):
            return f"above {self.low:.3f}" if math.isinf(self.value) else f"{self.value:.3f} or more"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


@dataclass(frozen=True)
class HypothesisTest:
    """The outcome of a test: statistic, p-value, sample sizes, method. Raises ValueError if p is not in [0,
    1]."""

    statistic: float  # what was measured, in its own unit
    p_value: float
    n: int
    method: str
    m: int | None = None  # examples of the second sample, if there is one

    def __post_init__(self) -> None:
        probability(self.p_value, "p_value")

    def __str__(self) -> str:
        return f"{self.statistic:.3f} (p = {self.p_value:.3g})"


def normal_quantile(confidence: float) -> float:
    """Return z with P(-z <= Z <= z) = `confidence` for a standard normal Z (1.96 at 0.95)."""
    return float(ndtri(0.5 + probability(confidence, "confidence", open_ends=True) / 2))
