"""Prompts with answers as tokens, against the definition."""

import torch

from nablatau.prompts import Answered, Rows, labelled


def test_rows_are_the_lists() -> None:
    lists = [[3, 1], [], [2], [5, 6, 7]]
    rows = Rows(lists)
    assert [rows[place].tolist() for place in range(len(rows))] == lists


def test_the_answer_counts() -> None:
    example = labelled(torch.tensor([7, 8, 9]), 2)
    assert example["input_ids"].tolist() == [7, 8, 9]
    assert example["labels"].tolist() == [-100, -100, 9]


def test_answers_are_cut_before_prompts() -> None:
    texts = Answered([[1, 2], [1, 2, 3], [], []], [[4, 5], [6], [7, 8, 9, 9], [7]], most_tokens=3)
    found = [texts[place]["input_ids"].tolist() for place in range(len(texts))]  # type: ignore[union-attr]
    assert found == [[1, 2, 4], [1, 2, 3], [7, 8, 9], [7]]
    assert texts.without_answer() == [1, 3]


def test_alternatives_have_the_form_of_examples() -> None:
    texts = Answered([[1, 2]], [[4]], alternatives=[[5, 6]])
    assert texts[0]["alternative"]["labels"].tolist() == [-100, -100, 5, 6]  # type: ignore[index]
    assert Answered([[1, 2]], [[4]], most_tokens=3, alternatives=[[]]).without_answer() == [0]
