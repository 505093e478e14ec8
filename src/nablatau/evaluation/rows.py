"""A row of the report: one number for each model, with its interval, what a perfect unlearning scores, and how it was
obtained. A number that cannot be computed is None, and the row's note says what it would need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nablatau.evidence import Evidence
from nablatau.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number, for each model.

    Attributes:
        name: what is measured, with its split.
        values: by model; None where it cannot be computed.
        note: how number and interval were obtained, or what is missing.
        null: what a perfect unlearning would score.
        headline: whether it stands in the short table.
    """

    name: str
    values: dict[str, Interval | None]
    note: str
    null: str
    headline: bool = False

    def to_json(self) -> dict[str, Any]:
        """The row as JSON-able values."""
        values = {model: None if each is None else vars(each) for model, each in self.values.items()}
        return {"name": self.name, "note": self.note, "null": self.null, "values": values}


def row_of_each(
    evidence: Evidence,
    name: str,
    note: str,
    null: str,
    compute: Callable[[str], Interval | None],
    models: Sequence[str] | None = None,
) -> Row:
    """A row with one number for each of these models, and None for the others."""
    asked = evidence.models if models is None else models
    values = {model: compute(model) if model in asked else None for model in evidence.models}
    return Row(name=name, values=values, note=note, null=null)
