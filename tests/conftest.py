"""Fixtures that the tests share; all data made here or shipped with scikit-learn."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nablatau import Objective, Project, TrainingData
from nablatau.tasks import digits
from small import random_set, small_network


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two test processes on two cores: more threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data() -> TrainingData:
    """90 training and 40 holdout records, groups of 9."""
    return TrainingData(random_set(90, 1), random_set(40, 2), groups=[f"person {i // 9}" for i in range(90)])


@pytest.fixture
def model() -> nn.Module:
    return small_network()


@pytest.fixture
def objective() -> Objective:
    return Objective.classification()


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without plots, which take most of a small run's time; test_api.py and bench/test_page.py look at them."""
    monkeypatch.setattr("nablatau.report.plots.plots_of", lambda *_: [])
    monkeypatch.setattr("nablatau.report.plots.run_curves", lambda _: "")
    monkeypatch.setattr("nablatau.bench.page.scatters", lambda *_: "")


@pytest.fixture(scope="session")
def digits_project() -> Project:
    """The task digits with its original trained."""
    torch.set_num_threads(1)
    return digits().trained(seed=0)
