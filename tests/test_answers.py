"""Records of answers: files, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from nablatau.answers import min_k_plus_plus_scores, min_k_scores, read_answers, write_answers
from nablatau.errors import EvidenceError
from small_answers import answer


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = [answer(number) for number in range(5)] + [
        answer(5, generated=None, paraphrased_loss=None, wrong_losses=()),
        answer(6, generated="two\nlines\u2028or\x85four\r"),
    ]
    file = write_answers(tmp_path / "forget.jsonl", written)
    assert read_answers(file) == written
    assert [each.name for each in tmp_path.iterdir()] == ["forget.jsonl"]
    assert "Müller" in file.read_text(encoding="utf-8")
    write_answers(file, written[:2])
    assert read_answers(file) == written[:2]


def test_lines_hold_what_follows_from_the_rest(tmp_path: Path) -> None:
    one = answer(3)
    line = json.loads(write_answers(tmp_path / "a.jsonl", [one]).read_text(encoding="utf-8"))
    assert line["loss"] == pytest.approx(np.mean(one.token_losses))
    assert line["probability"] == pytest.approx(np.exp(-line["loss"]))
    assert line["truth_ratio"] == pytest.approx(np.exp(one.right_loss - np.mean(one.wrong_losses)))
    assert line["exact_memorisation"] == np.mean(one.right_tokens)
    assert line["zlib_ratio"] == pytest.approx(-line["loss"] / line["compressed_size"])
    assert 0 < line["rouge_l_f"] <= 1
    assert line["min_k"] == -max(one.token_losses)
    assert line["min_k"] == min_k_scores([answer(1), one])[1]
    worst = min(
        (entropy - loss) / deviation
        for loss, entropy, deviation in zip(one.token_losses, one.token_entropies, one.token_deviations, strict=True)
    )
    assert line["min_k_plus_plus"] == pytest.approx(worst)
    assert min_k_plus_plus_scores([one], share=1)[0] > line["min_k_plus_plus"]


def test_the_answer_itself_takes_the_place_of_one_in_other_words() -> None:
    assert answer(1, paraphrased_loss=None).right_loss == answer(1).loss


def test_records_that_do_not_hold_together_are_refused() -> None:
    with pytest.raises(EvidenceError, match=r"'q1': its token arrays must have one length .*'right_tokens': 1"):
        answer(1, right_tokens=(True,))
    with pytest.raises(EvidenceError, match="'q1' has a loss, entropy or deviation that is not finite"):
        answer(1, wrong_losses=(1.0, float("inf")))
    for deviation in (0.0, -0.5):
        with pytest.raises(EvidenceError, match=rf"'q1' has a token deviation of {deviation}, and Min-K\+\+ divides"):
            answer(1, token_deviations=(deviation, *answer(1).token_deviations[1:]))


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    with pytest.raises(EvidenceError, match=r"a\.jsonl cannot be read"):
        read_answers(file)
    flat = answer().to_json() | {"token_deviations": [0.0] * len(answer().token_deviations)}
    for text in ('{"id": "a"}', "[1]", "no json", json.dumps(flat)):
        file.write_text(f"{json.dumps(answer().to_json())}\n{text}\n", encoding="utf-8")
        with pytest.raises(EvidenceError, match=r"Line 2 of .*a\.jsonl is no record of an answer"):
            read_answers(file)
