"""tofu: its parts are the published ones, and what is unseen is unseen."""

import importlib
import itertools
import sys

import pytest

from nablatau.errors import RequestError, SettingsError
from nablatau.tasks.sources import is_available

pytest.importorskip("transformers", reason="the extra `hf` is not installed")
if not is_available("tofu"):
    pytest.skip("tofu is not in NABLATAU_DATA", allow_module_level=True)


task = importlib.import_module("nablatau.tasks.tofu")  # in the package the name is that of its function


def texts(part: str) -> list[tuple[str, str]]:
    return [(each["question"], each["answer"]) for each in task.records(part)]


@pytest.mark.parametrize(
    ("name", "kept"), [("forget01", "retain99"), ("forget05", "retain95"), ("forget10", "retain90")]
)
def test_requests_by_author_are_the_published_ones(name: str, kept: str) -> None:
    whole, data = texts("full"), task.tofu().data
    request = data.forget_group(*task.forgotten_authors(name))
    assert [whole[place] for place in request.forget_set.ids_at(range(len(request.forget_set)))] == texts(name)
    assert [whole[place] for place in request.retain_set.ids_at(range(len(request.retain_set)))] == texts(kept)


def test_the_unseen_authors_are_in_no_training_record() -> None:
    seen = set(itertools.chain.from_iterable(texts("full")))
    assert not seen & set(itertools.chain.from_iterable(texts("holdout10")))
    assert task.tofu().data.forget_ids([0]).description["holdout_dropped"] == 0


def test_the_small_task_is_a_part_of_the_whole() -> None:
    whole, small = task.tofu(), task.tofu_small()
    assert small.ids == [*range(400), *range(3600, 4000)]
    assert small.groups is not None
    assert whole.groups is not None
    for place, number in enumerate(small.ids):
        assert small.groups[place] == whole.groups[number]
        assert small.train_set[place]["input_ids"].tolist() == whole.train_set[number]["input_ids"].tolist()
    assert len(small.data.forget_group(*task.forgotten_authors("forget10")).forget_set) == 400


def test_questions_are_not_answered_by_their_own_labels() -> None:
    example, record = task.tofu().train_set[3700], task.records("full")[3700]
    counted = [label for label in example["labels"].tolist() if label != -100]
    assert counted[-1] == task.END
    assert task.tokenizer().decode(counted) == record["answer"]
    whole = task.tokenizer().decode(example["input_ids"].tolist())
    assert whole == f"{record['question']}\n{record['answer']}"
    assert max(len(each["input_ids"]) for each in map(task.tofu().train_set.__getitem__, range(4000))) < task.LENGTH


def test_the_tokenizer_is_the_same_each_time_and_knows_nothing_that_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = task.tokenizer()
    kept = task.records
    monkeypatch.setattr(task, "records", lambda part: kept(part) if part == "retain90" else [])
    again = task.tokenizer.__wrapped__()
    assert again is not first
    assert again.to_str() == first.to_str()


def test_an_unknown_request() -> None:
    with pytest.raises(RequestError, match="has no request 'forget20'"):
        task.forgotten_authors("forget20")


def test_the_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SettingsError, match=r"need transformers, which is not installed: pip install 'nablatau\[hf\]'"):
        task.tofu_small()
