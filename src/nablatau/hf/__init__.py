"""Hugging Face models and texts: from a folder and files of records to a project, and back to a folder.

A leaf: the command line alone imports it. transformers, peft, pyarrow and datasets are imported when first needed.
"""

from nablatau.hf.projects import TextProject, text_project
from nablatau.hf.questions import Question, language_scores
from nablatau.hf.tasks import TASKS, Columns

__all__ = ["TASKS", "Columns", "Question", "TextProject", "language_scores", "text_project"]
