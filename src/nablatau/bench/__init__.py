"""Benchmarks: tasks × requests × methods × seeds → records → one page of results.

`run` runs a grid into a folder, or what is missing of it. From the command line: `nablatau bench`. Names are loaded
when they are first used: a worker that begins imports no more than its work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'nablatau.bench' has no attribute {name!r}")
    value = getattr(import_module(f"nablatau.bench.{_PLACE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
