"""TOFU's and MUSE's scores against the published formulas, written down naively over TOFU's own form of a log."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import hmean, ks_2samp

from nablatau.answers import AnswerScores, min_k_scores, read_answers, write_answers
from nablatau.errors import EvidenceError
from nablatau.metrics import privacy_leak, rouge_l
from nablatau.published_scores import muse_scores, tofu_log, tofu_scores
from small_answers import answer

SIZES = {"forget": 40, "retain": 30, "real_authors": 20, "world_facts": 25}
SETS = {name: [answer(100 * k + i) for i in range(n)] for k, (name, n) in enumerate(SIZES.items(), 1)}
REFERENCE = [
    answer(100 + i, wrong_losses=answer(900 + i).wrong_losses, paraphrased_loss=0.3, generated="nothing")
    for i in range(40)
]


def tofu(**changes: Any) -> Any:
    return tofu_scores(**({**SETS, "reference_forget": REFERENCE} | changes))


def naive_parts(log: dict[str, Any], choices: bool, geometric: bool) -> tuple[float, float, float, list[float]]:
    """Probability, ROUGE, truth ratio for the utility, and the bare ratios, from a log in TOFU's form."""
    columns = {name: list(values.values()) for name, values in log.items()}
    wrong = [np.exp(-np.array(each)) for each in columns["average_perturb_loss"]]
    p = np.exp(-np.array(columns["avg_gt_loss"]))
    if choices:
        p = np.array([one / (one + each.sum()) for one, each in zip(p, wrong, strict=True)])
    means = [np.exp(np.log(each).mean()) if geometric else each.mean() for each in wrong]
    ratios = np.array(means) / np.exp(-np.array(columns["avg_paraphrased_loss"]))
    return p.mean(), np.mean(columns["rougeL_recall_unstemmed"]), np.maximum(0, 1 - ratios).mean(), ratios


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_tofu_against_its_formulas(mean: str) -> None:
    found, parts = tofu(mean=mean), {}
    for name in ("retain", "real_authors", "world_facts"):
        values = naive_parts(tofu_log(SETS[name]), name != "retain", mean == "geometric")
        parts |= dict(
            zip([(kind, name) for kind in ("probability", "ROUGE-L recall", "truth ratio")], values, strict=False)
        )
    named = {f"{kind}, {name.replace('_', ' ')}": value for (kind, name), value in parts.items()}
    assert {name: each.value for name, each in found.parts.items()} == pytest.approx(named)
    assert found.model_utility.value == pytest.approx(hmean(list(parts.values())))
    ours, theirs = (naive_parts(tofu_log(each), False, mean == "geometric")[3] for each in (SETS["forget"], REFERENCE))
    assert found.forget_quality.test.p_value == pytest.approx(ks_2samp(ours, theirs).pvalue)
    assert found.forget_quality.test.p_value == pytest.approx(ks_2samp(1 / ours, 1 / theirs).pvalue)  # or upside down
    nearness = np.minimum(ours, 1 / ours).mean()
    assert found.forget["truth ratio"].value == pytest.approx(nearness)


def test_the_mean_is_that_of_the_published_forget_quality_unless_named_and_the_scores_name_it() -> None:
    assert tofu() == tofu(mean="geometric")
    assert tofu().mean == "geometric"
    other = tofu(mean="arithmetic")
    assert other.mean == "arithmetic"
    assert other.forget["truth ratio"] != tofu().forget["truth ratio"]


def test_scores_from_files_are_those_of_the_records(tmp_path: Any) -> None:
    files = {name: write_answers(tmp_path / f"{name}.jsonl", scores) for name, scores in SETS.items()}
    assert tofu(**{name: read_answers(file) for name, file in files.items()}) == tofu()


def test_a_model_beside_itself_is_forgotten_perfectly_and_a_small_test_says_what_it_could_see() -> None:
    found = tofu(reference_forget=SETS["forget"]).forget_quality
    assert (found.test.statistic, found.test.p_value) == (0, 1)
    assert found.smallest_detectable == pytest.approx(0.304, abs=0.001)  # at 40 questions, of forget01


def test_a_model_that_never_tells_a_word_has_no_utility() -> None:
    silent = [answer(200 + i, generated="") for i in range(30)]
    assert tofu(retain=silent).model_utility.value == 0


def one_for_all(word: str) -> str:
    return "word"


def test_the_recall_has_tofus_name_only_where_words_were_stemmed() -> None:
    plain, stemmed = tofu_log(SETS["forget"]), tofu_log(SETS["forget"], stem=one_for_all)
    assert "rougeL_recall" not in plain
    assert "rougeL_recall_unstemmed" not in stemmed
    assert list(plain["rougeL_recall_unstemmed"].values()) == [
        each.derived["rouge_l_recall"] for each in SETS["forget"]
    ]
    expected = [rouge_l(str(each.generated), each.answer, stem=one_for_all).recall for each in SETS["forget"]]
    assert list(stemmed["rougeL_recall"].values()) == expected
    scores, told = tofu(stem=one_for_all), tofu()
    assert scores.forget["ROUGE-L recall"].value == pytest.approx(np.mean(expected))
    assert told.forget["ROUGE-L recall"].value < np.mean(expected)
    assert (scores.stemmed, told.stemmed) == (True, False)
    with pytest.raises(EvidenceError, match="scores: 1 questions have no generated text"):
        tofu_log([answer(1, generated=None)])


def texts(first: int, size: int) -> list[AnswerScores]:
    return [answer(first + i, generated=None) for i in range(size)]


def muse(**changes: Any) -> Any:
    sets = {
        "verbatim": SETS["forget"],
        "forget_questions": SETS["forget"][:20],
        "retain_questions": SETS["retain"],
        "forget_texts": texts(0, 30),
        "holdout_texts": texts(50, 40),
        "reference_forget_texts": texts(0, 30),
        "reference_holdout_texts": texts(50, 40),
    }
    return muse_scores(**(sets | changes))


def test_muse_against_its_formulas() -> None:
    better = [answer(i, generated=None, token_losses=tuple(0.3 * x for x in answer(i).token_losses)) for i in range(30)]
    found = muse(forget_texts=better)
    assert found.verbatim_memorisation.value == pytest.approx(
        np.mean([each.derived["rouge_l_f"] for each in SETS["forget"]])
    )
    assert found.privacy_leak.value == pytest.approx(
        privacy_leak(
            *(min_k_scores(each, share=0.4) for each in (better, texts(50, 40), texts(0, 30), texts(50, 40)))
        ).value
    )
    assert found.privacy_leak.value < 0
    assert muse().privacy_leak.value == 0


@pytest.mark.parametrize("name", ["forget_texts", "holdout_texts"])
@pytest.mark.parametrize("size", [0, 1])
def test_a_leak_needs_two_texts_of_each_kind(name: str, size: int) -> None:
    few = {each: texts(0, size) for each in (name, f"reference_{name}")}
    with pytest.raises(EvidenceError, match=f"{name} has {size} texts, and an interval needs two"):
        muse(**few)


def test_the_retrained_models_texts_cannot_be_left_out() -> None:
    with pytest.raises(TypeError, match="reference_holdout_texts"):
        muse_scores(  # type: ignore[call-arg]
            verbatim=SETS["forget"],
            forget_questions=SETS["forget"],
            retain_questions=SETS["retain"],
            forget_texts=texts(0, 3),
            holdout_texts=texts(5, 3),
            reference_forget_texts=texts(0, 3),
        )


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(EvidenceError, match=r"asked different questions \(ids \['q139'\]\)"):
        tofu(reference_forget=REFERENCE[:-1])
    with pytest.raises(EvidenceError, match=r"asked different questions \(ids \['q100'\]\)"):
        tofu(reference_forget=[answer(100, prompt="[INST] Where was number 100 born?"), *REFERENCE[1:]])
    with pytest.raises(EvidenceError, match=r"asked different questions \(ids \['q100'\]\)"):
        tofu(reference_forget=[answer(100, paraphrased_loss=None), *REFERENCE[1:]])
    with pytest.raises(EvidenceError, match="Some ids stand there twice"):
        tofu(reference_forget=[*REFERENCE, REFERENCE[0]])
    with pytest.raises(EvidenceError, match=r"real_authors: 1 questions have no generated text \(ids \['q300'\]\)"):
        tofu(real_authors=[answer(300, generated=None), *SETS["real_authors"][1:]])
    with pytest.raises(EvidenceError, match=r"1 questions have no wrong answers \(ids \['q200'\]\)"):
        tofu(retain=[answer(200, wrong_losses=()), *SETS["retain"][1:]])
    with pytest.raises(EvidenceError, match="world_facts has 1 questions, and an interval needs two"):
        tofu(world_facts=SETS["world_facts"][:1])
