"""The one shape in which a number is reported: value, interval, sample sizes, method.

A number without an interval cannot decide anything, so no function of nablatau that estimates something from
a sample returns a bare float.
"""

import math
from dataclasses import dataclass

from scipy.stats import norm

from nablatau.statistics.checks import probability


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; prints as ``0.531 [0.502, 0.560]``.

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
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


def normal_quantile(confidence: float) -> float:
    """Return z with P(-z <= Z <= z) = `confidence` for a standard normal Z (1.96 at 0.95)."""
    return float(norm.ppf(0.5 + probability(confidence, "confidence", open_ends=True) / 2))
