"""Min-K % and Min-K++ %: a text whose least expected tokens are still expected is called a member.

Sources: Min-K %, Shi et al. 2310.16789: the mean log-probability of the k % of a text's tokens that have the lowest;
Min-K++, Zhang et al. 2404.02936: each token's log-probability first less its mean over the vocabulary under the
model's own distribution, over its standard deviation there (so that a token is judged beside what else could have stood
in its place). Where we differ: of a text with fewer than 1 / k tokens its lowest token is taken, where public code
takes the mean of none, which is no number; and the deviation comes from squared differences (see `tokens.readings`),
where public code takes it from E[x²] - E[x]², which rounding makes negative for confident models, and its root no
number.

Shapes: N texts, of each a vector (L,), one value a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nablatau.attacks.checks import token_values
from nablatau.statistics.checks import FloatArray, IntArray, listed, probability

SHARE = 0.2  # both papers' choice


def min_k(token_log_probabilities: Sequence[ArrayLike], *, share: float = SHARE) -> FloatArray:
    """Score each text by the mean log-probability of its least likely tokens.

    Arguments:
        token_log_probabilities: for each of N texts a vector (L,), in nats, of the audited model.
        share: of a text's tokens that are looked at, rounded down, at least one.
    Returns: shape (N,), higher = more likely remembered.
    Raises: ValueError for no texts, empty ones, values that are not finite, or a share outside (0, 1].
    Source: Shi et al., 2310.16789.
    """
    values, lengths = token_values(token_log_probabilities, "token_log_probabilities")
    return _mean_of_lowest(values, lengths, share)


def min_k_plus_plus(
    token_log_probabilities: Sequence[ArrayLike],
    token_means: Sequence[ArrayLike],
    token_deviations: Sequence[ArrayLike],
    *,
    share: float = SHARE,
) -> FloatArray:
    """Score each text by the mean standardised log-probability of its tokens for which that is lowest.

    Arguments:
        token_log_probabilities: for each of N texts a vector (L,), in nats, of the audited model.
        token_means, token_deviations: likewise, mean and standard deviation of the log-probability over the
            vocabulary at that token, under the model's distribution there; deviations above 0.
        share: of a text's tokens that are looked at, rounded down, at least one.
    Returns: shape (N,), higher = more likely remembered.
    Raises: ValueError for no texts, empty ones, lengths that differ, values that are not finite, deviations of 0
        or less, or a share outside (0, 1].
    Source: Zhang et al., 2404.02936.
    """
    values, lengths = token_values(token_log_probabilities, "token_log_probabilities")
    means, mean_lengths = token_values(token_means, "token_means")
    deviations, deviation_lengths = token_values(token_deviations, "token_deviations")
    if not (np.array_equal(lengths, mean_lengths) and np.array_equal(lengths, deviation_lengths)):
        raise ValueError(
            "token_log_probabilities, token_means and token_deviations differ in the number of texts or tokens, so "
            "tokens would be judged beside others. Take all three from one pass of the model."
        )
    flat = deviations <= 0
    if flat.any():
        raise ValueError(
            f"token_deviations is 0 or less at token {listed(flat)} of all; nothing can be divided by it. Take "
            "deviations from tokens.readings, which keeps them above 0."
        )
    return _mean_of_lowest((values - means) / deviations, lengths, share)


def _mean_of_lowest(values: FloatArray, lengths: IntArray, share: float) -> FloatArray:
    """The mean of each text's lowest values, for all texts at once."""
    if share != 1:
        probability(share, "share", open_ends=True)
    text = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    order = np.lexsort((values, text))
    rank = np.arange(len(values)) - first[text]  # of a sorted value among those of its text
    looked_at = np.maximum(1, np.floor(share * lengths + 1e-9))
    lowest = rank < looked_at[text]
    sums = np.bincount(text[lowest], weights=values[order][lowest], minlength=len(lengths))
    return np.asarray(sums / looked_at)
