"""Evaluation: evidence (arrays) → rows of numbers with intervals → verdict. Nothing here runs a model.

`summarise` gives the rows of tier 1, and of tier 2 where the evidence holds a retrained reference; `judge` the verdict.
"""

from nablatau.evaluation.batteries import AUC_NAME, TASK_SCORES, sentence, summarise
from nablatau.evaluation.rows import Row
from nablatau.evaluation.verdict import Finding, Verdict, Word, judge

__all__ = ["AUC_NAME", "TASK_SCORES", "Finding", "Row", "Verdict", "Word", "judge", "sentence", "summarise"]
