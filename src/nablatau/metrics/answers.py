"""Answers of a language model: probabilities, truth ratios, and the model utility that TOFU makes of them.

Source: Maini et al. 2024 (TOFU, 2401.06121). A probability here is e to minus the mean loss of an answer's
tokens, so that long answers do not count as unlikely. The truth ratio of a question is

    mean over wrong answers of p(wrong | question)  ÷  p(right answer in other words | question),

above 1 where a model holds the wrong answers for likelier. There are two of them: the paper has the arithmetic mean
over the wrong answers; TOFU's code has the geometric one (e to minus their mean loss) wherever it makes forget quality,
in the truth ratios of its logs and in all of aggregate_eval_stat.py, which sums the logs up, and the
arithmetic one in the utility of utils.py alone; other tools follow the one or the other. The code's is the default
here, as published forget qualities are made with it, and `mean="arithmetic"` gives the paper's: the two must not be
mixed in one comparison. (The code's forget quality takes the ratio upside down, of which its test says the same.) Where
we differ: no 10^-10 is added to a divisor, which in other tools makes ratios of unlikely answers (a mean loss above
some 20 nats) tend to 0, as though the model knew the truth; and ratios are made of differences of losses, so that two
vanishing probabilities still have one.

Shapes: N questions; the wrong answers of a question (K,), which may differ in number.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from nablatau.statistics import Interval
from nablatau.statistics.checks import FloatArray, count, finite_matrix, finite_vector, listed, probability, same_length

Mean = Literal["arithmetic", "geometric"]
LARGEST_EXPONENT = 700.0  # e to more than that is infinite in float64


def answer_probabilities(losses: ArrayLike) -> FloatArray:
    """Return exp(-loss) of each answer, (N,): its probability to the power 1 / length.

    Arguments: `losses` (N,), mean losses of the answers' tokens in nats, 0 or more. Source: Maini et al. 2024.
    """
    return np.asarray(np.exp(-_losses(losses, "losses")))


def choice_probabilities(losses: ArrayLike, wrong_losses: Sequence[ArrayLike]) -> FloatArray:
    """Return p(right) / (p(right) + sum of p(wrong)) of each question, (N,), as where it is one of several choices.

    Arguments: `losses` (N,), mean losses of the right answers; `wrong_losses`, for each question those of the wrong
    ones. Chance is 1 / (1 + K). The paper's equation leaves the powers of 1 / length out, its code has them, and so do
    we. Source: Maini et al. 2024.
    """
    right, wrong = _losses(losses, "losses"), _wrong(wrong_losses)
    same_length(losses=right, wrong_losses=np.zeros(len(wrong)))
    both = [
        np.exp(-(np.append(one, others) - min(one, others.min()))) for one, others in zip(right, wrong, strict=True)
    ]
    return np.array([weights[0] / weights.sum() for weights in both])


def truth_ratios(
    paraphrased_losses: ArrayLike, wrong_losses: Sequence[ArrayLike], *, mean: Mean = "geometric"
) -> FloatArray:
    """Return the mean probability of a question's wrong answers over that of the paraphrased right one, (N,).

    Arguments: `paraphrased_losses` (N,), mean losses of the right answers in other words (where there are none, of the
    right answers as they are); `wrong_losses`, for each question those of the wrong ones; `mean` over a question's
    wrong answers. 0 to infinity, larger = further from the truth; near 1 where right and wrong are alike. Source: Maini
    et al. 2024.
    """
    if mean not in ("arithmetic", "geometric"):
        raise ValueError(
            f"mean is {mean!r}; it must be 'geometric', as in TOFU's code, or 'arithmetic', as in its paper."
        )
    right, wrong = _losses(paraphrased_losses, "paraphrased_losses"), _wrong(wrong_losses)
    same_length(paraphrased_losses=right, wrong_losses=np.zeros(len(wrong)))
    leads = [one - others for one, others in zip(right, wrong, strict=True)]
    highest = np.array([lead.max() if mean == "arithmetic" else lead.mean() for lead in leads])
    beyond = highest > LARGEST_EXPONENT
    if beyond.any():
        raise ValueError(
            f"The truth ratio of questions {listed(beyond)} is too large to be a number: a wrong answer is more than "
            "e^700 times as likely as the right one. These losses are sums over tokens; pass their means."
        )
    if mean == "geometric":
        return np.asarray(np.exp(highest))
    return np.array([np.exp(lead).mean() for lead in leads])


def truth_ratio_utilities(ratios: ArrayLike) -> FloatArray:
    """Return max(0, 1 - truth ratio) of each question, (N,): how far it knows the truth, where it should.

    Arguments: `ratios` (N,), 0 or more. Source: Maini et al. 2024.
    """
    return np.maximum(0.0, 1 - _ratios(ratios))


def truth_ratio_nearness(ratios: ArrayLike) -> FloatArray:
    """Return min(ratio, 1 / ratio) of each question, (N,): how nearly right and wrong are alike, on the forget set.

    Arguments: `ratios` (N,), 0 or more. It stands in published tables; a retrained model's value is below 1.
    Source: TOFU's published code.
    """
    values = _ratios(ratios)
    return np.where(values > 1, 1 / np.maximum(values, 1), values)


def model_utility(
    question_sets: Sequence[ArrayLike], *, draws: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return the harmonic mean of the parts' means, 0 if one of them is 0, with a bootstrap interval.

    Arguments: `question_sets`, for each set of questions a matrix (N_i, P_i), one column a part, each value 0 to 1.
    TOFU's are three, the retain set, real authors and world facts, of three columns each: probability, ROUGE-L recall,
    and `truth_ratio_utilities`. `draws` and `seed` of the bootstrap over the questions of each set (percentiles).
    Raises ValueError for a value outside 0 to 1. Source: Maini et al. 2024.
    """
    if not len(question_sets):
        raise ValueError("question_sets is empty; a mean of nothing is undefined. Pass the values of each set.")
    sets = [_parts(values, f"question set {number}") for number, values in enumerate(question_sets)]
    tail = (1 - probability(confidence, "confidence", open_ends=True)) / 2
    times, generator = count(draws, "draws", minimum=100), np.random.default_rng(seed)
    drawn = np.concatenate([_resampled_means(values, times, generator) for values in sets], axis=1)
    value = float(_harmonic(np.concatenate([values.mean(axis=0) for values in sets])))
    low, high = np.quantile(_harmonic(drawn), [tail, 1 - tail])
    questions = sum(map(len, sets))
    ends = min(float(low), value), max(float(high), value)
    return Interval(value, *ends, questions, "bootstrap within sets, percentiles", None, confidence)


def _parts(values: ArrayLike, name: str) -> FloatArray:
    matrix = finite_matrix(values, name)
    outside = (matrix < 0) | (matrix > 1)
    if outside.any():
        raise ValueError(
            f"{name} lies outside 0 to 1 at {listed(outside)}, and a harmonic mean would hide it. Pass probabilities, "
            "ROUGE recalls and max(0, 1 - truth ratio), not percentages or bare truth ratios."
        )
    return matrix


def _resampled_means(values: FloatArray, draws: int, generator: np.random.Generator) -> FloatArray:
    """Means (draws, P) of resamples of the rows."""
    times = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    return np.asarray(times @ values / len(values))


def _harmonic(means: FloatArray) -> FloatArray:
    """The harmonic mean along the last axis, 0 where one is 0."""
    some = (means > 0).all(axis=-1)
    return np.where(some, means.shape[-1] / (1 / np.where(means > 0, means, 1)).sum(axis=-1), 0.0)


def _losses(values: ArrayLike, name: str) -> FloatArray:
    losses = finite_vector(values, name)
    if (losses < 0).any():
        raise ValueError(
            f"{name} is negative at index {listed(losses < 0)}; a loss is -log p of a token, 0 or more. Were "
            "log-probabilities passed? Turn their sign."
        )
    return losses


def _wrong(wrong_losses: Sequence[ArrayLike]) -> list[FloatArray]:
    if not len(wrong_losses):
        raise ValueError("wrong_losses is empty; pass for each question the losses of its wrong answers.")
    return [_losses(losses, f"wrong_losses of question {number}") for number, losses in enumerate(wrong_losses)]


def _ratios(ratios: ArrayLike) -> FloatArray:
    values = finite_vector(ratios, "ratios")
    if (values < 0).any():
        raise ValueError(f"ratios is negative at index {listed(values < 0)}; a truth ratio is 0 or more.")
    return values
