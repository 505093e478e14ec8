"""What a metric is: one small pure function and a row of facts about the number it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nablatau.statistics import Interval


@dataclass(frozen=True)
class Metric:
    """A row of the table `METRICS`; raises ValueError if the range is empty or a fact is missing."""

    name: str  # the key in METRICS and the name of the function
    function: Callable[..., Interval]  # arrays in, an interval out
    low: float  # smallest possible value
    high: float  # largest possible value
    best: Literal["high", "low", "as retrained"]  # "as retrained": neither end is good, the retrained model's value is
    needs: tuple[str, ...]  # names of the arguments without default, in order; see the vocabulary in `metrics`
    null_floor: str  # what a perfect unlearning scores, in words and numbers
    source: str  # paper and equation

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"{self.name}: the range [{self.low}, {self.high}] is empty.")
        if not (self.needs and self.null_floor and self.source):
            raise ValueError(
                f"{self.name}: needs, null_floor and source must be filled in; a number without its null "
                "floor cannot be read."
            )
