"""TOFU's and MUSE's scores, from files of what models say of questions (answers.py) and nothing else.

Sources: Maini et al. 2024 (TOFU, 2401.06121); Shi et al. 2024 (MUSE, 2407.06460). Where we differ: every number has an
interval, a test what it could have seen; the retrained model must have been asked the same questions; and PrivLeak is
not to be had without it. MUSE's last two criteria, scale and repeated requests, are these numbers over several runs.

Shapes: N questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nablatau.answers import AnswerScores, min_k_scores
from nablatau.errors import EvidenceError, shortened
from nablatau.metrics import (
    ForgetQuality,
    answer_probabilities,
    choice_probabilities,
    forget_quality,
    model_utility,
    privacy_leak,
    rouge_l,
    truth_ratio_nearness,
    truth_ratio_utilities,
    truth_ratios,
)
from nablatau.metrics.answers import Mean
from nablatau.metrics.rouge import Stem
from nablatau.statistics import Interval, mean_interval
from nablatau.statistics.checks import FloatArray

# ---------------------------------------------------------------------- TOFU


@dataclass(frozen=True, kw_only=True)
class TofuScores:
    """TOFU's scores of one model.

    Attributes:
        forget_quality: test that its truth ratios on the forget set are the retrained model's.
        mean: over a question's wrong answers, of which all truth ratios, forget quality and utility are made.
        stemmed: whether ROUGE-L is of stemmed words, as TOFU's.
        model_utility: harmonic mean of the nine parts.
        parts: the nine, by name, such as "probability, retain": means with Student's interval.
        forget: the same three on the forget set, as published tables have them ("truth ratio": its nearness to 1);
            neither end is good, the retrained model's value is.
    """

    mean: Mean
    stemmed: bool
    forget_quality: ForgetQuality
    model_utility: Interval
    parts: dict[str, Interval]
    forget: dict[str, Interval]


def tofu_scores(
    *,
    forget: Sequence[AnswerScores],
    reference_forget: Sequence[AnswerScores],
    retain: Sequence[AnswerScores],
    real_authors: Sequence[AnswerScores],
    world_facts: Sequence[AnswerScores],
    mean: Mean = "geometric",
    stem: Stem | None = None,
) -> TofuScores:
    """TOFU's scores from what a model says of the four sets of questions, and a retrained one of the forget set.

    Args:
        forget, retain: with paraphrased and wrong answers, and generated texts.
        reference_forget: of the retrained model, on the same questions.
        real_authors, world_facts: with wrong answers and generated texts; each question is one of several choices.
        mean: over a question's wrong answers; that of TOFU's forget quality unless given, see metrics/answers.py.
        stem: of a word, such as `nltk.PorterStemmer().stem`, with which TOFU's ROUGE is made; words stay as they are
            unless given, and ROUGE then lies lower than TOFU's.

    Raises:
        EvidenceError: questions without wrong answers, or without a generated text; other questions of the reference;
            fewer than two in a set.

    Source: Maini et al. 2024, 2401.06121.
    """
    named = {"forget": forget, "retain": retain, "real_authors": real_authors, "world_facts": world_facts}
    for name, scores in named.items():
        _check_set(name, scores)
    check_same_questions(forget, reference_forget)
    sets = {
        name: np.column_stack(
            [
                _choices(scores) if name in ("real_authors", "world_facts") else _probabilities(scores),
                _recalls(scores, stem),
                (truth_ratio_nearness if name == "forget" else truth_ratio_utilities)(ratios_of(scores, mean=mean)),
            ]
        )
        for name, scores in named.items()
    }
    columns = ("probability", "ROUGE-L recall", "truth ratio")
    means = {name: dict(zip(columns, map(mean_interval, values.T), strict=True)) for name, values in sets.items()}
    return TofuScores(
        mean=mean,
        stemmed=stem is not None,
        forget_quality=forget_quality(ratios_of(forget, mean=mean), ratios_of(reference_forget, mean=mean)),
        model_utility=model_utility([sets[name] for name in ("retain", "real_authors", "world_facts")]),
        parts={
            f"{column}, {name.replace('_', ' ')}": interval
            for name, found in means.items()
            if name != "forget"
            for column, interval in found.items()
        },
        forget=means["forget"],
    )


def ratios_of(scores: Sequence[AnswerScores], *, mean: Mean = "geometric") -> FloatArray:
    """The truth ratio of each question (N,); where there is no answer in other words, the answer itself counts.

    Args:
        scores: of N questions with wrong answers.
        mean: over a question's wrong answers, see metrics/answers.py.

    Raises:
        EvidenceError: questions without wrong answers.
    """
    bare = [each.id for each in scores if not each.wrong_losses]
    if bare:
        raise EvidenceError(
            f"{len(bare)} questions have no wrong answers (ids {shortened(bare)}), so they have no truth ratio. Score "
            "them again with some: Question(wrong=[…])."
        )
    return truth_ratios([each.right_loss for each in scores], [each.wrong_losses for each in scores], mean=mean)


def _probabilities(scores: Sequence[AnswerScores]) -> FloatArray:
    return answer_probabilities([each.loss for each in scores])


def _choices(scores: Sequence[AnswerScores]) -> FloatArray:
    return choice_probabilities([each.loss for each in scores], [each.wrong_losses for each in scores])


def _recalls(scores: Sequence[AnswerScores], stem: Stem | None) -> FloatArray:
    return np.array([rouge_l(str(each.generated), each.answer, stem=stem).recall for each in scores])


def _check_size(name: str, scores: Sequence[AnswerScores], what: str) -> None:
    if len(scores) < 2:
        raise EvidenceError(f"{name} has {len(scores)} {what}, and an interval needs two. Score more of them.")


def _check_set(name: str, scores: Sequence[AnswerScores]) -> None:
    _check_size(name, scores, "questions")
    _refuse_silent(name, scores)


def _refuse_silent(name: str, scores: Sequence[AnswerScores]) -> None:
    silent = [each.id for each in scores if each.generated is None]
    if silent:
        raise EvidenceError(
            f"{name}: {len(silent)} questions have no generated text (ids {shortened(silent)}), so no ROUGE. Score "
            "them again with most_new_tokens above 0."
        )


def check_same_questions(scores: Sequence[AnswerScores], reference: Sequence[AnswerScores]) -> None:
    """Refuse two models' scores that are of different questions, or of one question asked in two ways.

    Raises:
        EvidenceError: naming some.
    """
    ours, theirs = ({each.id: _asked(each) for each in every} for every in (scores, reference))
    other = [each for each in ours.keys() | theirs.keys() if ours.get(each) != theirs.get(each)]
    if other or len(scores) != len(ours) or len(reference) != len(theirs):
        repeated = "" if other else " Some ids stand there twice."
        raise EvidenceError(
            f"The two models were asked different questions (ids {shortened(sorted(other))}), so a difference between "
            f"them is no sign of either.{repeated} Score both on the same questions."
        )


def _asked(score: AnswerScores) -> tuple[str, str, bool, int]:
    """What a model was asked: prompt, answer, whether there was a paraphrase, and how many wrong answers."""
    return score.prompt, score.answer, score.paraphrased_loss is not None, len(score.wrong_losses)


def tofu_log(scores: Sequence[AnswerScores], *, stem: Stem | None = None) -> dict[str, dict[str, Any]]:
    """The same numbers in the form of TOFU's own log of one set (eval_log.json and so on), to be read by its scripts.

    Those scripts read `rougeL_recall`, which is of words stemmed by Porter's rules. Without a stemmer the recall is
    written as `rougeL_recall_unstemmed`, which they do not know, so that it is not taken for theirs.

    Args:
        scores: of questions with wrong answers and generated texts; they are numbered in this order.
        stem: of a word; `nltk.PorterStemmer().stem` is TOFU's.

    Raises:
        EvidenceError: questions without a generated text.
    """
    _refuse_silent("scores", scores)
    recall = "rougeL_recall_unstemmed" if stem is None else "rougeL_recall"
    columns: dict[str, list[Any]] = {
        "avg_gt_loss": [each.loss for each in scores],
        "gt_loss": [float(np.sum(each.token_losses)) for each in scores],
        "num_token_gt": [len(each.token_losses) for each in scores],
        "generated_text": [[each.prompt, each.generated, each.answer] for each in scores],
        recall: _recalls(scores, stem).tolist(),
        "avg_paraphrased_loss": [each.right_loss for each in scores],
        "average_perturb_loss": [list(each.wrong_losses) for each in scores],
    }
    return {name: {str(number): value for number, value in enumerate(column)} for name, column in columns.items()}


# ---------------------------------------------------------------------- MUSE


@dataclass(frozen=True, kw_only=True)
class MuseScores:
    """MUSE's first four criteria of one model, 0 to 1 but for the leak; the goal is the retrained model's value.

    Attributes:
        verbatim_memorisation: ROUGE-L F of what follows the beginnings of forgotten texts.
        knowledge_memorisation: ROUGE-L F of answers to questions on forgotten texts.
        retained_knowledge: the same on texts that stay.
        privacy_leak: of Min-K % with 40 %, in percent; 0 like retrained.
    """

    verbatim_memorisation: Interval
    knowledge_memorisation: Interval
    retained_knowledge: Interval
    privacy_leak: Interval


def muse_scores(
    *,
    verbatim: Sequence[AnswerScores],
    forget_questions: Sequence[AnswerScores],
    retain_questions: Sequence[AnswerScores],
    forget_texts: Sequence[AnswerScores],
    holdout_texts: Sequence[AnswerScores],
    reference_forget_texts: Sequence[AnswerScores],
    reference_holdout_texts: Sequence[AnswerScores],
) -> MuseScores:
    """MUSE's scores from what a model, and a retrained one, say of texts and questions.

    Args:
        verbatim: prompts are beginnings of forgotten texts, answers what follows, cut to as many tokens as are
            generated.
        forget_questions, retain_questions: on forgotten texts and on those that stay, with generated answers.
        forget_texts, holdout_texts: whole texts, as answers to the prompt that begins every text; nothing is generated.
        reference_forget_texts, reference_holdout_texts: the same of the retrained model. Without it there is no
            PrivLeak: 0.5 in its place is an assumption, which the retrained model seldom fulfils.

    Raises:
        EvidenceError: questions without a generated text, other texts of the reference, or fewer than two in a set.

    Source: Shi et al. 2024, 2407.06460.
    """
    asked = {"verbatim": verbatim, "forget_questions": forget_questions, "retain_questions": retain_questions}
    for name, scores in asked.items():
        _check_set(name, scores)
    for name, scores in (("forget_texts", forget_texts), ("holdout_texts", holdout_texts)):
        _check_size(name, scores, "texts")
    check_same_questions(forget_texts, reference_forget_texts)
    check_same_questions(holdout_texts, reference_holdout_texts)
    told = [mean_interval([each.derived["rouge_l_f"] for each in scores]) for scores in asked.values()]
    ours, theirs = (forget_texts, holdout_texts), (reference_forget_texts, reference_holdout_texts)
    forget, holdout, reference_forget, reference_holdout = (min_k_scores(each, share=0.4) for each in (*ours, *theirs))
    return MuseScores(
        verbatim_memorisation=told[0],
        knowledge_memorisation=told[1],
        retained_knowledge=told[2],
        privacy_leak=privacy_leak(forget, holdout, reference_forget, reference_holdout),
    )
