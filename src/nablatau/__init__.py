"""nablatau makes a trained model forget chosen training records, and shows with evidence whether it did.

Names are loaded when they are first used, so that `import nablatau`, and the command line's help, cost nothing.
"""

from typing import TYPE_CHECKING

from nablatau.lazy import loading

if TYPE_CHECKING:
    from nablatau.api import evaluate, forget
    from nablatau.data import Request, TrainingData
    from nablatau.errors import NablatauError
    from nablatau.methods import Finetune, Method, NablaTau, PublishedNablaTau, Retrain
    from nablatau.objectives import Objective
    from nablatau.projects import Project
    from nablatau.recipes import Recipe
    from nablatau.results import Evaluation, Forgotten
    from nablatau.runtime import Runtime

__all__ = [
    "Evaluation",
    "Finetune",
    "Forgotten",
    "Method",
    "NablaTau",
    "NablatauError",
    "Objective",
    "Project",
    "PublishedNablaTau",
    "Recipe",
    "Request",
    "Retrain",
    "Runtime",
    "TrainingData",
    "evaluate",
    "forget",
]

_PLACES = {
    "api": ("evaluate", "forget"),
    "data": ("Request", "TrainingData"),
    "errors": ("NablatauError",),
    "methods": ("Finetune", "Method", "NablaTau", "PublishedNablaTau", "Retrain"),
    "objectives": ("Objective",),
    "projects": ("Project",),
    "recipes": ("Recipe",),
    "results": ("Evaluation", "Forgotten"),
    "runtime": ("Runtime",),
}
__getattr__ = loading(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted(__all__)
