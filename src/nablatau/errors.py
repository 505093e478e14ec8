"""What can go wrong, as one tree; every message says what is wrong, why it matters and what to do instead.

NablatauError
├── RequestError          ids, classes, groups or sets of a request that cannot be served   (also a ValueError)
│   └── OverlapError      holdout records that the model was trained on
├── SettingsError         an impossible setting, named with its rule and its value          (also a ValueError)
├── ObjectiveError        a batch, an output or a loss that cannot be understood            (also a ValueError)
│   └── ReducedLossError  one number came back where one number an example is needed
├── NonFiniteLossError    training stopped at a loss that is no number; has step and record_ids
├── CheckpointError       a folder or file of weights that cannot be written or read
├── NotEvaluatedError     a model has forgotten and is saved, and there is no evidence; its cause says why
├── EvidenceError         evidence that cannot be computed from what is there               (also a ValueError)
├── ProjectError          a project that the command line cannot load
├── ProcessError          one of several processes that work together was lost
├── BenchmarkError        a benchmark's folder, records or cluster that cannot be used
└── DataUnavailableError  a data set that is neither on disk nor downloadable
"""

from collections.abc import Sequence


class NablatauError(Exception):
    """Every error that nablatau raises on purpose."""


class RequestError(NablatauError, ValueError):
    """A request to forget that cannot be served as it stands."""


class OverlapError(RequestError):
    """The holdout set holds records of the training set.

    Attributes:
        positions: positions in the holdout set of the records that overlap.
    """

    def __init__(self, message: str, positions: Sequence[int]) -> None:
        super().__init__(message)
        self.positions = list(positions)


class SettingsError(NablatauError, ValueError):
    """A setting outside its rule."""


class ObjectiveError(NablatauError, ValueError):
    """A batch, a model output or a loss that the objective cannot read."""


class ReducedLossError(ObjectiveError):
    """A loss function returned a mean or a sum instead of one value an example."""


class NonFiniteLossError(NablatauError):
    """The loss became infinite or not a number.

    Attributes:
        step: number of the step, counted from 0.
        record_ids: by part of the request, the ids of the records in that step's batches.
    """

    def __init__(self, step: int, name: str, value: float, record_ids: dict[str, list[object]]) -> None:
        batches = "; ".join(f"{part}: {shortened(ids)}" for part, ids in record_ids.items())
        super().__init__(
            f"{name} is {value} at step {step}, so every later step would only spread it. "
            f"Records of that step: {batches}. Look at these records for values that are not finite; "
            "if they are sound, lower the learning rate, set clip_norm=1.0, or use precision='fp32'."
        )
        self.step = step
        self.record_ids = record_ids


class CheckpointError(NablatauError):
    """Weights or a run folder that cannot be written or read."""


class NotEvaluatedError(NablatauError):
    """The model has forgotten and is saved; gathering the evidence ended early, by the error that is its cause."""


class EvidenceError(NablatauError, ValueError):
    """Evidence that cannot be computed from what was given."""


class ProjectError(NablatauError):
    """A project that the command line cannot load."""


class ProcessError(NablatauError):
    """One of several processes that work together ended early or does not answer."""


class BenchmarkError(NablatauError):
    """A benchmark's folder, records or cluster that cannot be used as they are."""


class DataUnavailableError(NablatauError):
    """A data set that is neither in the data folder nor to be downloaded."""


def shortened(ids: Sequence[object], most: int = 10) -> str:
    """The first few ids and how many there are in all."""
    shown = ", ".join(repr(each) for each in ids[:most])
    return f"[{shown}]" if len(ids) <= most else f"[{shown}, … {len(ids)} in all]"
