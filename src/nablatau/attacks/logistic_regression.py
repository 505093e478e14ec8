"""The attack the field reports: can a logistic regression on one number tell forgotten from unseen records?

Source: the evaluation of the NeurIPS 2023 unlearning challenge, used by Trippa et al. (arXiv 2403.14339) on
losses and on prediction entropies. One column, unseen records labelled 0 and forget records 1, the larger
side subsampled, scikit-learn's LogisticRegression with its defaults, accuracy over
StratifiedShuffleSplit(n_splits=10, random_state=0).

This is a COMPATIBILITY NUMBER: it is here so that a result can be laid beside published ones, not as
evidence. One threshold on one number is blind to a model that overshoots some records and keeps others:
equal means scored 50 % where the AUC of the same losses was 0.79. It is two-sided at best: over-forgetting
and remembering both score high.

Where we add to the source, and why:
- Interval. The ten test sets are drawn from one sample and overlap, and so do the ten training sets: the
  splits are not independent, and s/sqrt(10) as if they were is too narrow (its "95 %" interval covered 77 to
  88 % in simulation, 20 to 2500 records a side). We give the corrected resampled t interval of Nadeau and
  Bengio (2003): variance (1/10 + n_test/n_train) s^2 with 9 degrees of freedom (covered 88 to 98 %).
- Null spread: the central 95 % of the score when both sides come from one distribution, by shuffling the
  pooled values. It depends on their shape (heavy-tailed losses: 0.43 to 0.58 at 100 a side, Gaussian ones
  0.40 to 0.60).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, stdtrit
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from nablatau.statistics import Interval
from nablatau.statistics.checks import FloatArray, IntArray, finite_vector, probability

SPLITS = 10
SPLIT_SEED = 0  # random_state of the published protocol; not a setting
TEST_SHARE = 0.1  # default of StratifiedShuffleSplit
SIMULATED_AT_MOST = 1000  # records a side in the null simulation; beyond, the spread shrinks as 1/sqrt(n)
NEWTON_STEPS = 6
CONVERGED = 1e-8  # a step below it leaves an error of its square
MOST_AT_ONCE = 20_000  # training values in the null simulation: few enough to stay in the processor's cache
AT_LEAST = 10  # records a side: below, a stratified test set of 10 % misses a class


@dataclass(frozen=True, kw_only=True)
class LogisticRegressionResult:
    """Accuracy of the logistic-regression attack, with its interval and what chance looks like.

    Shares between 0 and 1: split_accuracies (one a split), mean, low and high (interval of the mean at the
        given
    confidence), null_low and null_high (central share of the mean, of the same size, where nothing is to be
    told apart).
    """

    mean: float
    low: float
    high: float
    null_low: float
    null_high: float
    split_accuracies: tuple[float, ...]
    records_per_side: int
    confidence: float


def logistic_regression(
    forget_values: ArrayLike, unseen_values: ArrayLike, *, seed: int = 0, confidence: float = 0.95
) -> LogisticRegressionResult:
    """Measure how well a logistic regression on one number tells forgotten records from unseen ones.

    Arguments:
        forget_values: shape (n,), one number a forget record: loss in nats, or entropy of the prediction in
            nats.
        unseen_values: shape (m,), the same number for records that were never trained on.
        seed: of the subsampling of the larger side (none where the sides are equal) and of the null
            simulation; the ten splits themselves always use 0, as published.
        confidence: of the interval and of the null spread; 0.95 by convention.
    Returns: a LogisticRegressionResult; a perfectly retrained model scores inside its null spread, around
        0.5.
    Raises: ValueError for empty, non-finite or fewer than 10 values a side, or an impossible confidence.
    Source: NeurIPS 2023 unlearning challenge; arXiv 2403.14339; interval: Nadeau and Bengio (2003), section
        3.
    """
    forget, unseen = _equal_sides(forget_values, unseen_values, seed)
    accuracies = _split_accuracies(forget, unseen)
    low, high = corrected_interval(accuracies, confidence=confidence)
    pooled = np.concatenate([unseen, forget])
    null_low, null_high = null_spread(forget.size, values=pooled, seed=seed, confidence=confidence)
    return LogisticRegressionResult(
        mean=float(accuracies.mean()),
        low=low,
        high=high,
        null_low=null_low,
        null_high=null_high,
        split_accuracies=tuple(accuracies.tolist()),
        records_per_side=forget.size,
        confidence=confidence,
    )


def mean_accuracy(
    forget_values: ArrayLike, unseen_values: ArrayLike, *, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Measure the same accuracy without its null spread, whose simulation takes most of the time.

    Arguments:
        forget_values, unseen_values, seed, confidence: as for logistic_regression.
    Returns: the mean accuracy with its interval; n and m are the records a side.
    Raises: ValueError as logistic_regression does.
    Source: as of logistic_regression.
    """
    forget, unseen = _equal_sides(forget_values, unseen_values, seed)
    accuracies = _split_accuracies(forget, unseen)
    low, high = corrected_interval(accuracies, confidence=confidence)
    return Interval(float(accuracies.mean()), low, high, forget.size, "Nadeau-Bengio", unseen.size, confidence)


def _equal_sides(forget_values: ArrayLike, unseen_values: ArrayLike, seed: int) -> tuple[FloatArray, FloatArray]:
    """Check both sides and draw as many of the larger as there are of the smaller."""
    forget = finite_vector(forget_values, "forget_values", minimum=AT_LEAST)
    unseen = finite_vector(unseen_values, "unseen_values", minimum=AT_LEAST)
    size, generator = min(forget.size, unseen.size), np.random.default_rng(seed)
    return _subsample(forget, size, generator), _subsample(unseen, size, generator)


def corrected_interval(
    accuracies: ArrayLike, *, test_share: float = TEST_SHARE, confidence: float = 0.95
) -> tuple[float, float]:
    """Give the corrected resampled t interval of the mean of accuracies over overlapping random splits.

    Arguments:
        accuracies: shape (J,), one a split, between 0 and 1.
        test_share: share of the records in each test set; 0.1 as in the protocol.
        confidence: of the interval.
    Returns: its two ends, cut at 0 and 1.
    Raises: ValueError for fewer than two or non-finite accuracies, or shares outside (0, 1).
    Source: Nadeau and Bengio, Inference for the generalization error, Machine Learning 52 (2003), section 3.
    """
    values = finite_vector(accuracies, "accuracies", minimum=2)
    share = probability(test_share, "test_share", open_ends=True)
    quantile = stdtrit(values.size - 1, (1 + probability(confidence, "confidence", open_ends=True)) / 2)
    half = quantile * values.std(ddof=1) * np.sqrt(1 / values.size + share / (1 - share))
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))


def null_spread(
    records_per_side: int,
    *,
    values: ArrayLike | None = None,
    repeats: int = 400,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Simulate what the attack scores by chance when both sides come from one distribution.

    Arguments:
        records_per_side: number of forget records, and as many unseen ones.
        values: shape (any,), losses or entropies of both sides pooled, shuffled over the sides in each
            repeat; None draws Gaussian ones, the widest spread of the five shapes tried, for when only the
            size is known.
        repeats: simulated attacks; 400 leaves a standard error of about 0.007 on each end at 100 records a
            side.
        seed: of the simulation.
        confidence: central share that the spread holds.
    Returns: the two ends of the spread of the mean accuracy. Above 1000 records a side it is simulated at
        1000 and narrowed around 0.5 by sqrt(1000 / n).
    Raises: ValueError for fewer than 10 records a side, fewer than 20 repeats, or unusable values.
    Source: permutation null of the protocol above; the ridge regression is scikit-learn's, solved by Newton
        steps.
    """
    if records_per_side < AT_LEAST or repeats < 20:
        raise ValueError(
            f"records_per_side is {records_per_side} and repeats {repeats}; at least {AT_LEAST} and 20 are "
            f"needed, else a split misses a class and the ends of the spread are not determined. Use more."
        )
    tail = (1 - probability(confidence, "confidence", open_ends=True)) / 2
    generator = np.random.default_rng(seed)
    size = min(records_per_side, SIMULATED_AT_MOST)
    pool = generator.standard_normal(4 * size) if values is None else finite_vector(values, "values", minimum=2)
    train, test = _split_indices(size)
    at_once, means = max(1, MOST_AT_ONCE // train.size), list[float]()
    while len(means) < repeats:
        rows = range(min(at_once, repeats - len(means)))
        means += _shuffled_accuracies(np.stack([_draw(pool, 2 * size, generator) for _ in rows]), train, test)
    low, high = np.quantile(means, [tail, 1 - tail])
    narrowing = np.sqrt(size / records_per_side)
    return float(0.5 + narrowing * (low - 0.5)), float(0.5 + narrowing * (high - 0.5))


def _subsample(values: FloatArray, size: int, generator: np.random.Generator) -> FloatArray:
    """Keep that many values at random, all of them in their order where nothing must go."""
    return values if values.size == size else generator.choice(values, size, replace=False)


def _split_accuracies(forget: FloatArray, unseen: FloatArray) -> FloatArray:
    """Run the published protocol on two sides of one size; unseen come first, as in the challenge."""
    values, labels = np.concatenate([unseen, forget]), np.repeat([0, 1], forget.size)

    def accuracy(train: IntArray, test: IntArray) -> float:
        fitted = LogisticRegression().fit(values[train, None], labels[train])
        predicted = values[test] * fitted.coef_[0, 0] + fitted.intercept_[0] > 0
        return float((predicted == labels[test]).mean())

    quick = config_context(assume_finite=True, skip_parameter_validation=True)
    with threadpool_limits(1), quick:  # two numbers are fitted: threads and checks would cost more than they do
        return np.array([accuracy(train, test) for train, test in zip(*_split_indices(forget.size), strict=True)])


@lru_cache(maxsize=2)
def _split_indices(size: int) -> tuple[IntArray, IntArray]:
    """Give the protocol's ten training and test index sets for so many records a side."""
    labels = np.repeat([0, 1], size)
    splits = list(StratifiedShuffleSplit(n_splits=SPLITS, random_state=SPLIT_SEED).split(labels, labels))
    return np.array([train for train, _ in splits]), np.array([test for _, test in splits])


def _draw(pool: FloatArray, size: int, generator: np.random.Generator) -> FloatArray:
    """Shuffle the pool and keep that many, with replacement only where it holds too few."""
    return generator.choice(pool, size, replace=pool.size < size)


def _shuffled_accuracies(values_RN: FloatArray, train: IntArray, test: IntArray) -> list[float]:
    """Attack R rows of values whose first half is called unseen and second half forgotten, over all splits at once."""
    scale_R1 = values_RN.std(axis=1, keepdims=True)
    scale_R1[scale_R1 == 0] = 1.0
    standard_RN = (values_RN - values_RN.mean(axis=1, keepdims=True)) / scale_R1
    labels = np.repeat([0.0, 1.0], values_RN.shape[1] // 2)
    slope, intercept = _fit(standard_RN[:, train], labels[train], penalty=1.0 / scale_R1[:, :, None] ** 2)
    predicted = standard_RN[:, test] * slope + intercept > 0
    shares: list[float] = (predicted == labels[test]).mean(axis=(1, 2)).tolist()
    return shares


def _fit(x_RJN: FloatArray, y_JN: FloatArray, penalty: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit R times J ridge logistic regressions on one standardised column; C = 1, intercept unpenalised."""
    slope = intercept = np.zeros((*x_RJN.shape[:2], 1))
    going = np.ones((len(x_RJN), 1, 1), dtype=bool)
    for _ in range(NEWTON_STEPS):
        p_RJN = expit(x_RJN * slope + intercept)
        weight_RJN = p_RJN * (1 - p_RJN)
        error_RJN = p_RJN - y_JN
        g_slope = (error_RJN * x_RJN).sum(2, keepdims=True) + penalty * slope
        g_intercept = error_RJN.sum(2, keepdims=True)
        h_slope = (weight_RJN * x_RJN**2).sum(2, keepdims=True) + penalty
        h_cross = (weight_RJN * x_RJN).sum(2, keepdims=True)
        h_intercept = weight_RJN.sum(2, keepdims=True)
        determinant = h_slope * h_intercept - h_cross**2
        down = (h_intercept * g_slope - h_cross * g_intercept) / determinant
        left = (h_slope * g_intercept - h_cross * g_slope) / determinant
        slope, intercept = np.where(going, slope - down, slope), np.where(going, intercept - left, intercept)
        going = going & ~(np.maximum(np.abs(down), np.abs(left)).max(axis=1, keepdims=True) < CONVERGED)
        if not going.any():
            break
    return slope, intercept
