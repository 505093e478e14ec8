"""Benchmarks: tasks × requests × methods × seeds → records → one page of results.

`run` runs a grid into a folder, or what is missing of it. From the command line: `nablatau bench`. Names are loaded
when they are first used: a worker that begins imports no more than its work.
"""

from typing import TYPE_CHECKING

from nablatau.lazy import loading

if TYPE_CHECKING:
    from nablatau.bench.engine import Outcome, run
    from nablatau.bench.plan import Cell, Grid, Plan, make_plan
    from nablatau.bench.records import read_records
    from nablatau.bench.workers import Workers

__all__ = ["Cell", "Grid", "Outcome", "Plan", "Workers", "make_plan", "read_records", "run"]

_PLACES = {
    "engine": ("Outcome", "run"),
    "plan": ("Cell", "Grid", "Plan", "make_plan"),
    "records": ("read_records",),
    "workers": ("Workers",),
}
__getattr__ = loading(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted(__all__)
