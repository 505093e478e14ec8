"""Every file is in its table, every table entry documents itself, and nothing becomes public by accident."""

import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

import nablatau
from nablatau.methods import METHODS, PRESETS, Method
from nablatau.tasks import TASKS
from shared_files import SHARED

SOURCE = Path(nablatau.__file__).parent


def modules_in(folder: str) -> set[str]:
    return {file.stem for file in (SOURCE / folder).glob("*.py")} - SHARED[folder]


def test_every_file_of_a_method_is_in_its_table() -> None:
    listed = {method.__module__.rpartition(".")[2] for method in METHODS.values()}
    assert modules_in("methods") == listed


def test_every_file_of_a_task_is_in_its_table() -> None:
    listed = {make.__module__.rpartition(".")[2] for make in TASKS.values()}
    assert modules_in("tasks") == listed


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_methods_are_final_frozen_and_documented(method: type[Method]) -> None:
    assert METHODS[method.name] is method
    assert all(inspect.isabstract(base) for base in method.__bases__)
    assert not method.__subclasses__()
    assert method.source
    assert method.__dataclass_params__.frozen  # type: ignore[attr-defined]
    explained = " ".join(inspect.getdoc(each) or "" for each in (method, *method.__bases__))
    for field in dataclasses.fields(method):
        assert field.name in explained, f"{field.name} is not explained"


def test_presets_are_the_default_and_the_published_algorithm() -> None:
    assert {name: make().name for name, make in PRESETS.items()} == {
        "default": "nabla_tau",
        "paper": "nabla_tau_paper",
        "paper-text": "nabla_tau_paper",
    }


def test_public_names_are_exact() -> None:
    assert len(nablatau.__all__) <= 20
    placed = [name for names in nablatau._PLACES.values() for name in names]
    assert sorted(placed) == sorted(nablatau.__all__) == dir(nablatau)
    for name in nablatau.__all__:
        assert getattr(nablatau, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'forgett'"):
        nablatau.forgett  # noqa: B018


def test_public_functions_document_their_arguments() -> None:
    for name in (
        "api",
        "data",
        "objectives",
        "losses",
        "packing",
        "lazy",
        "training",
        "recipes",
        "scoring",
        "evaluation",
        "checkpoints",
    ):
        module = importlib.import_module(f"nablatau.{name}")
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__ and function.__name__[0] != "_":
                assert function.__doc__, f"{name}.{function.__name__} has no docstring"
