"""Questions to a small Llama: naive losses, what must change no score, and models that know, or never knew."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_llama
import small_texts
from nablatau.answers import AnswerScores, min_k_plus_plus_scores, min_k_scores, read_answers
from nablatau.errors import EvidenceError, SettingsError
from nablatau.hf import Question, language_scores
from nablatau.hf.questions import answer_tokens, prompt_tokens
from nablatau.metrics import forget_quality
from nablatau.published_scores import muse_scores, ratios_of, tofu_scores
from nablatau.statistics import auc_delong

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")

FORGET, RETAIN, UNSEEN = (small_llama.questions(24, seed) for seed in (1, 2, 3))
SETTINGS: dict[str, Any] = {"most_new_tokens": 8}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "original": small_llama.taught(small_llama.llama(0), [*FORGET, *RETAIN]),
        "retrained": small_llama.taught(small_llama.llama(1), RETAIN),
        "fresh": small_llama.llama(2),
    }


@pytest.fixture(scope="module")
def scores(models: dict[str, Any]) -> dict[str, dict[str, list[AnswerScores]]]:
    words, sets = small_llama.tokenizer(), {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN}
    return {
        name: {split: language_scores(model, words, asked, **SETTINGS) for split, asked in sets.items()}
        for name, model in models.items()
    }


def naive_losses(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    with torch.no_grad():
        chances = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(1)
    return [-chances[len(prompt) + place - 1, token].item() for place, token in enumerate(answer)]


def naive_spread(model: Any, prompt: list[int], answer: list[int]) -> tuple[list[float], list[float]]:
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double().log_softmax(1)
    means = (rows.exp() * rows).sum(1)
    return (-means).tolist(), (rows.exp() * (rows - means[:, None]) ** 2).sum(1).sqrt().tolist()


def test_scores_are_those_of_each_text_alone(models: dict[str, Any], scores: Any) -> None:
    words, model = small_llama.tokenizer(), models["retrained"]
    for question, found in zip(FORGET[:6], scores["retrained"]["forget"], strict=False):
        prompt = prompt_tokens(words, question.prompt)
        true, *others = ([prompt, answer_tokens(words, answer)] for answer in question.answers)
        assert found.token_losses == pytest.approx(naive_losses(model, *true), abs=1e-5)
        entropies, deviations = naive_spread(model, *true)
        assert found.token_entropies == pytest.approx(entropies, abs=1e-5)
        assert found.token_deviations == pytest.approx(deviations, abs=1e-4)
        means = [np.mean(naive_losses(model, *each)) for each in others]
        assert [found.paraphrased_loss, *found.wrong_losses] == pytest.approx(means, abs=1e-5)


@pytest.mark.parametrize(("padding_side", "batch_size"), [("left", 1), ("right", 7), ("left", 100)])
def test_padding_side_and_batch_size_change_no_score(
    padding_side: str, batch_size: int, models: dict[str, Any], scores: Any
) -> None:
    model, words = models["original"].train(), small_llama.tokenizer(padding_side)
    again = language_scores(model, words, UNSEEN, batch_size=batch_size, **SETTINGS)
    assert model.training
    model.eval()
    for ours, theirs in zip(again, scores["original"]["unseen"], strict=True):
        assert ours.generated == theirs.generated
        assert ours.right_tokens == theirs.right_tokens
        assert ours.token_losses == pytest.approx(theirs.token_losses, abs=1e-5)
        assert ours.wrong_losses == pytest.approx(theirs.wrong_losses, abs=1e-5)
        assert ours.derived["min_k_plus_plus"] == pytest.approx(theirs.derived["min_k_plus_plus"], abs=1e-4)


def mean_of(scores: list[AnswerScores], name: str) -> float:
    return float(np.mean([each.derived[name] for each in scores]))


def test_a_model_that_knows_by_heart_and_a_fresh_one(scores: Any) -> None:
    known, fresh = scores["original"]["forget"], scores["fresh"]["forget"]
    for name in ("extraction_strength", "exact_memorisation", "rouge_l_recall", "rouge_l_f", "probability"):
        assert mean_of(known, name) > 0.95, name
    assert mean_of(fresh, "extraction_strength") < 0.03  # 0 where nothing is told, not 1 / length
    assert mean_of(fresh, "probability") < 0.1
    assert mean_of(fresh, "rouge_l_recall") < 0.4
    assert [each.generated for each in known] == [question.answer for question in FORGET]


def test_a_retrained_model_forgot_perfectly_and_identity_did_not(scores: Any) -> None:
    original, retrained = scores["original"]["forget"], scores["retrained"]["forget"]
    same = forget_quality(ratios_of(retrained), ratios_of(retrained)).test
    assert (same.statistic, same.p_value) == (0, 1)
    assert forget_quality(ratios_of(original), ratios_of(retrained)).test.p_value < 1e-4
    assert np.median(ratios_of(original)) < 0.1
    assert np.median(ratios_of(retrained)) > 0.3


def test_attacks_find_what_the_original_knows_and_nothing_in_the_retrained_model(scores: Any) -> None:
    for attack in (min_k_scores, min_k_plus_plus_scores):
        original, retrained = (
            auc_delong(attack(scores[name]["forget"]), attack(scores[name]["unseen"]))
            for name in ("original", "retrained")
        )
        assert original.low > 0.9
        assert 0.5 in retrained


def test_tofu_and_muse_from_models(scores: Any) -> None:
    def tofu(name: str) -> Any:
        return tofu_scores(
            forget=scores[name]["forget"],
            reference_forget=scores["retrained"]["forget"],
            retain=scores[name]["retain"],
            real_authors=scores[name]["unseen"][:12],
            world_facts=scores[name]["unseen"][12:],
        )

    def muse(name: str) -> Any:
        of, reference = scores[name], scores["retrained"]
        return muse_scores(
            verbatim=of["forget"],
            forget_questions=of["forget"],
            retain_questions=of["retain"],
            forget_texts=of["forget"],
            holdout_texts=of["unseen"],
            reference_forget_texts=reference["forget"],
            reference_holdout_texts=reference["unseen"],
        )

    assert tofu("retrained").forget_quality.test.p_value == 1
    assert tofu("original").forget_quality.test.p_value < 1e-4
    assert tofu("fresh").model_utility.value < tofu("original").model_utility.value
    assert tofu("original").parts["probability, retain"].value > 0.95
    assert 0 in muse("retrained").privacy_leak
    assert muse("original").privacy_leak.high < 0
    assert muse("original").verbatim_memorisation.value > 0.95
    assert muse("retrained").verbatim_memorisation.value < 0.6


def test_prompts_are_not_ended_and_answers_are() -> None:
    words = small_llama.tokenizer()  # puts its end token behind every text
    assert words("red cat")["input_ids"] == [2, 4, 7, 3]
    assert prompt_tokens(words, "red cat") == [2, 4, 7]
    assert prompt_tokens(words, "") == [2]
    assert answer_tokens(words, "red cat") == [4, 7, 3]


def test_texts_are_cut_where_another_begins(models: dict[str, Any]) -> None:
    asked = FORGET[:3]
    end = asked[0].answer.split()[1]
    found = language_scores(models["original"], small_llama.tokenizer(), asked, end_texts=[end], **SETTINGS)
    assert found[0].generated == asked[0].answer.split(end)[0]


def test_without_generation_there_is_no_rouge(models: dict[str, Any]) -> None:
    (found,) = language_scores(models["fresh"], small_llama.tokenizer(), FORGET[:1], most_new_tokens=0)
    assert found.generated is None
    assert found.derived["rouge_l_recall"] is None


def test_what_cannot_be_asked_is_refused(models: dict[str, Any]) -> None:
    def ask(*asked: Question, **settings: Any) -> Any:
        return language_scores(models["fresh"], small_llama.tokenizer(), asked, **(SETTINGS | settings))

    with pytest.raises(EvidenceError, match="There are no questions"):
        ask()
    with pytest.raises(EvidenceError, match=r"ids \['q1-0'\] stand for several questions"):
        ask(FORGET[0], FORGET[0])
    with pytest.raises(EvidenceError, match=r"1 answers have no word \(questions \['x'\]\)"):
        ask(Question(id="x", prompt="red", answer="?"))
    with pytest.raises(SettingsError, match="not 8 and 0"):
        ask(FORGET[0], batch_size=0)
    long = Question(id="long", prompt="red", answer=" ".join(["cat"] * 80))
    with pytest.raises(SettingsError, match="has 83 tokens, and the model reads 64"):
        ask(long, most_new_tokens=0)


def test_a_tokenizer_without_a_token_to_fill_up_with_changes_no_score(models: dict[str, Any], scores: Any) -> None:
    bare = small_llama.tokenizer()
    bare.pad_token = None
    found = language_scores(models["original"], bare, FORGET, **SETTINGS)
    assert [each.generated for each in found] == [each.generated for each in scores["original"]["forget"]]
    assert [each.loss for each in found] == pytest.approx([each.loss for each in scores["original"]["forget"]])


def test_the_guide_s_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (asking,) = (block for block in blocks if "language_scores(model" in block)
    (wrong,) = (block for block in blocks if block.startswith("from nablatau.hf import Question\n\nQuestion("))
    records = small_texts.questions(6, 1)
    small_texts.write_jsonl(tmp_path / "train.jsonl", records)
    (tmp_path / "ids.txt").write_text("q1-1\nq1-4\n")
    for seed, folder in enumerate(("model", "forgotten")):
        small_texts.save(tmp_path / folder, small_llama.llama(seed), small_llama.tokenizer())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(asking, names)
    exec(wrong, names)
    assert len(capsys.readouterr().out.splitlines()) == 6
    for folder in ("model", "forgotten"):
        assert [each.id for each in read_answers(f"{folder}-forget.jsonl")] == ["q1-1", "q1-4"]
