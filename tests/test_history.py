"""The history of a run: the same whether numbers are read step by step or, as on a GPU, of several steps together."""

import pytest
import torch

from nablatau import Objective
from nablatau.errors import NonFiniteLossError
from nablatau.history import History, Recorder, Step
from nablatau.loading import Loader
from nablatau.records import Records
from small import random_set

CPU = torch.device("cpu")


def recorded(device: str, losses: list[float], objective: Objective) -> tuple[History, Recorder]:
    """A history of steps with these losses, as it is written on a device."""
    history = History()
    recorder = Recorder(history, None, torch.device(device))
    loader = Loader(Records.all_of(random_set(40, 1), ids=list("abcdefgh") * 5), objective, batch_size=4, device=CPU)
    for loss, batch in zip(losses, loader.forever(), strict=False):
        recorder.add(Step({"train": batch}, 0.1, {"epoch": 0.0}), {"loss": torch.tensor(loss)})
    return history, recorder


def test_numbers_that_are_read_together_make_the_same_history(objective: Objective) -> None:
    at_once, _ = recorded("cpu", [0.5, 2.0, 1.0], objective)
    later, recorder = recorded("cuda", [0.5, 2.0, 1.0], objective)
    assert len(later) == 0
    recorder.flush()
    del at_once.columns["seconds"], later.columns["seconds"]
    assert later == at_once
    assert later.trained_samples == 12


def test_steps_that_wait_hold_no_examples_and_still_name_their_records(objective: Objective) -> None:
    _, recorder = recorded("cuda", [0.5, float("nan")], objective)
    assert all(batch.data is None for step, *_ in recorder.waiting for batch in step.batches.values())
    with pytest.raises(NonFiniteLossError) as caught:
        recorder.flush()
    assert caught.value.record_ids == {"train": list("efgh")}
