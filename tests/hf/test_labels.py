"""Labels by name and by number, and every value that is none."""

from pathlib import Path
from typing import Any

import pytest

from nablatau.errors import ProjectError
from nablatau.hf.labels import class_numbers, zeros_and_ones
from nablatau.hf.tables import Table

NUMBERS = {"joy": 0, "New York": 1, "anger": 2}


def table(**columns: list[Any]) -> Table:
    return Table(Path("t.jsonl"), columns)


@pytest.mark.parametrize("values", [["joy", "anger", "New York"], [0, 2, 1], ["0", "2", "1"]])
def test_classes_by_name_and_by_number(values: list[Any]) -> None:
    assert class_numbers(table(label=values), ["label"], NUMBERS).tolist() == [0, 2, 1]


def test_a_name_that_is_a_number_is_a_name_first() -> None:
    assert class_numbers(table(label=["1", "2"]), ["label"], {"1": 0, "2": 1}).tolist() == [0, 1]


@pytest.mark.parametrize(
    "values",
    [
        [["joy", "anger"], [], ["New York"]],
        [[0, 2], [], [1]],
        ["joy,anger", "", "New York"],
        ["anger joy", " ", "1"],
        ["0|2", "", "New York"],
    ],
)
def test_several_labels_in_one_column(values: list[Any]) -> None:
    assert zeros_and_ones(table(labels=values), ["labels"], NUMBERS).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_one_column_a_label() -> None:
    columns = table(a=[1, 0], b=["0", "1"], c=[True, False])
    assert zeros_and_ones(columns, ["a", "b", "c"], NUMBERS).tolist() == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("read", "columns", "names", "message"),
    [
        (class_numbers, {"label": ["joy", "jo", 3, -1, True, 0.5]}, ["label"], r"\['jo', 3, -1, True, 0.5\]"),
        (
            class_numbers,
            {"label": [["joy"]]},
            ["label"],
            "which the model does not have: its config names .'joy', 'New",
        ),
        (class_numbers, {"a": [0], "b": [1]}, ["a", "b"], "2 label columns were named, and a text has one class"),
        (zeros_and_ones, {"labels": ["joy,rage"]}, ["labels"], r"holds \['rage'\]"),
        (zeros_and_ones, {"labels": [[0, 3], [-1]]}, ["labels"], r"holds \[3, -1\]"),
        (zeros_and_ones, {"a": [0], "b": [1]}, ["a", "b"], "2 label columns were named, and the model has 3 labels"),
        (zeros_and_ones, {"a": [0], "b": [1], "c": [2]}, ["a", "b", "c"], r"column 'c' holds \[2\]"),
    ],
)
def test_what_is_no_label(read: Any, columns: dict[str, list[Any]], names: list[str], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        read(table(**columns), names, NUMBERS)
