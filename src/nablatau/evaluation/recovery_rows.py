"""Rows on what comes back: by fine-tuning on the retain set, by rounding the weights, by learning the records again.

The arrays are those of recovery.py, which ran the models; what is computed from them is in contrasts.py.
"""

import numpy as np

from nablatau.contrasts import RELEARNING_NOT_RUN, relearn_index, relearn_times, unpacked, unpacked_relearning
from nablatau.errors import EvidenceError
from nablatau.evaluation.rows import NullFloor, Row, Values, as_retrained, row_not_run
from nablatau.evidence import Evidence
from nablatau.recovery import Relearning
from nablatau.statistics import Interval

UNITS = {"finetuning": "steps on the retain set", "rounding": "bits a weight"}


def recovery_rows(evidence: Evidence) -> list[Row]:
    """A row a readout of each check that was run, and relearn time and index beside a reference.

    Args:
        evidence: with the arrays of the checks.
    """
    rows = []
    for how, unit in UNITS.items():
        for each in unpacked(evidence.arrays.get(f"recovery_{how}", np.zeros((0, 15))), evidence.goal):
            values: Values = {model: each.gain if model == "unlearned" else None for model in evidence.models}
            note = "AUC after − before, forgotten against unseen; paired DeLong, simultaneous over the readouts"
            floor = NullFloor(value=0.0, how="where nothing was hidden")
            rows.append(Row(name=f"Recovered after {each.at} {unit}", values=values, note=note, null=floor))
    return [*rows, *_relearning_rows(evidence)]


def _relearning_rows(evidence: Evidence) -> list[Row]:
    """How fast the forget set is learned again, beside a model that never knew it."""
    if "retrained" not in evidence.models:
        return []
    names = ("Steps to relearn the forget set", "Anamnesis index")
    one = NullFloor(value=1.0, how="the retrained model's own, by definition")
    found = unpacked_relearning(evidence.arrays)
    if found is None:
        floors = (NullFloor(how="the retrained model's steps"), one)
        missing = "needs the recovery checks, and 10 forgotten and 10 unseen records"
        needs = str(evidence.arrays.get(RELEARNING_NOT_RUN, missing))
        return [row_not_run(evidence, name, needs, floor) for name, floor in zip(names, floors, strict=True)]
    try:
        times: Values = dict.fromkeys(evidence.models)
        times |= {model: relearn_times(found, model)[0] for model in found.losses}
    except EvidenceError as error:
        floor = NullFloor(how="the retrained model's steps")
        return [row_not_run(evidence, names[0], str(error), floor)]
    rate = f"AdamW {found.learning_rate:g}"
    settings = f"half of each batch forgotten records; {rate}; bracket of two readings, one seed"
    note = f"until 95 % of the gap in loss to the original is closed; {settings}"
    rows = [Row(name=names[0], values=times, note=note, null=as_retrained(times))]
    index: Values = {model: _index(found, model) if model != "retrained" else None for model in evidence.models}
    note = f"steps to relearn ÷ the retrained model's; below 1 the memory is still there; {settings}"
    return [*rows, Row(name=names[1], values=index, note=note, null=one)]


def _index(found: Relearning, model: str) -> Interval | None:
    """None where it is not defined: neither model gets there, or the retrained one is there from the start."""
    try:
        return relearn_index(found, model) if model in found.losses else None
    except ValueError:
        return None
