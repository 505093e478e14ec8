"""Hugging Face models and texts: from a folder and files of records to a project, and back to a folder.

A leaf: the command line alone imports it. transformers, peft, pyarrow and datasets are imported when first needed, and
so is `NablaTauTrainer`, which is a class of transformers.
"""

from typing import TYPE_CHECKING, Any

from nablatau.hf.projects import TextProject, text_project
from nablatau.hf.questions import Question, language_scores
from nablatau.hf.tasks import TASKS, Columns

if TYPE_CHECKING:
    from nablatau.hf.trainer import NablaTauTrainer

__all__ = ["TASKS", "Columns", "NablaTauTrainer", "Question", "TextProject", "language_scores", "text_project"]


def __getattr__(name: str) -> Any:
    if name == "NablaTauTrainer":
        from nablatau.hf.trainer import NablaTauTrainer

        return NablaTauTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
