"""LiRA against Gaussians and Student-t written out record by record."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nablatau.attacks.lira import lira_offline, lira_online
from nablatau.attacks.shadow_moments import Spread, moments, predictive

SPREADS: tuple[Spread, ...] = ("own", "shared", "student_t")


def example(seed: int = 0, models: int = 8, records: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inclusion = generator.permuted(np.tile(np.arange(models) % 2 == 0, (records, 1)), axis=1).T
    centres = generator.normal(0, 2, records)
    shadow = centres + 1.5 * inclusion + generator.normal(0, 1, (models, records)) * np.where(inclusion, 0.5, 1.5)
    return centres + generator.normal(0, 2, records), shadow, inclusion


def naive_distribution(side: np.ndarray, own: np.ndarray, spread: str) -> object:
    """The distribution of one record; side is all (values, chosen), own the record's chosen values."""
    values, chosen = side
    groups = [values[chosen[:, i], i] for i in range(values.shape[1])]
    v0 = sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(g.size - 1 for g in groups)
    m0, c, m = np.concatenate(groups).mean(), own.size, own.mean()
    if spread == "own":
        return stats.norm(m, own.std(ddof=1))
    if spread == "shared":
        return stats.norm(m, np.sqrt(v0))
    k, nu = 0.25 + c, 4 + c
    b = (4 * v0 + ((own - m) ** 2).sum() + 0.25 * c / k * (m - m0) ** 2) / nu
    return stats.t(nu, loc=(0.25 * m0 + c * m) / k, scale=np.sqrt(b * (k + 1) / k))


@pytest.mark.parametrize("spread", SPREADS)
def test_online_is_the_log_likelihood_ratio(spread: Spread) -> None:
    margins, shadow, inclusion = example()
    scores = lira_online(margins, shadow, inclusion, spread=spread)
    for i, margin in enumerate(margins):
        inside = naive_distribution((shadow, inclusion), shadow[inclusion[:, i], i], spread)
        outside = naive_distribution((shadow, ~inclusion), shadow[~inclusion[:, i], i], spread)
        assert scores[i] == pytest.approx(inside.logpdf(margin) - outside.logpdf(margin))


@pytest.mark.parametrize("spread", SPREADS)
def test_offline_is_the_log_odds_of_the_paper_s_probability(spread: Spread) -> None:
    margins, shadow, inclusion = example()
    scores = lira_offline(margins, shadow, inclusion, spread=spread)
    for i, margin in enumerate(margins):
        outside = naive_distribution((shadow, ~inclusion), shadow[~inclusion[:, i], i], spread)
        assert scores[i] == pytest.approx(np.log(outside.cdf(margin)) - np.log(outside.sf(margin)))


def test_the_student_t_is_the_posterior_predictive_of_its_prior() -> None:
    _, shadow, inclusion = example(3, models=6, records=4)
    found = moments(shadow, ~inclusion)
    ours = predictive(shadow, ~inclusion, "student_t", "OUT")
    own, v0, m0 = shadow[~inclusion[:, 0], 0], found.pooled_variance, found.grand_mean
    variance = np.exp(np.linspace(-6, 6, 1201) + np.log(v0))[:, None]
    centre = np.linspace(-40, 40, 8001)[None, :]
    prior = stats.invgamma.logpdf(variance, 2, scale=2 * v0) + stats.norm.logpdf(centre, m0, np.sqrt(variance / 0.25))
    weight = np.exp(prior + sum(stats.norm.logpdf(x, centre, np.sqrt(variance)) for x in own)) * variance
    for margin in (-2.0, 0.5, 4.0):
        brute = (weight * stats.norm.pdf(margin, centre, np.sqrt(variance))).sum() / weight.sum()
        t = stats.t.pdf(margin, ours.freedom_N[0], ours.locations_N[0], ours.scales_N[0])
        assert t == pytest.approx(brute, rel=1e-3)


@pytest.mark.parametrize("spread", SPREADS)
def test_the_out_spread_comes_from_out_data(spread: Spread) -> None:
    margins, shadow, inclusion = example()
    narrower = np.where(inclusion, 5 + 0.01 * shadow, shadow)  # IN margins change, OUT margins do not
    offline = lira_offline(margins, shadow, inclusion, spread=spread)
    assert np.array_equal(offline, lira_offline(margins, narrower, inclusion, spread=spread))
    outside, inside = (moments(shadow, chosen).pooled_variance for chosen in (~inclusion, inclusion))
    assert outside == pytest.approx(1.5**2, rel=0.3)
    assert inside == pytest.approx(0.5**2, rel=0.3)


def test_the_shared_variance_is_within_records_not_between_them() -> None:
    generator = np.random.default_rng(1)
    shadow = generator.normal(0, 30, 500) + generator.normal(0, 1, (6, 500))
    assert moments(shadow, np.ones((6, 500), dtype=bool)).pooled_variance == pytest.approx(1.0, rel=0.1)


def test_offline_scores_do_not_saturate() -> None:
    shadow = np.random.default_rng(2).normal(size=(6, 40))
    inclusion = np.zeros((6, 40), dtype=bool)
    for spread in SPREADS:
        high, higher = (lira_offline(np.full(40, m), shadow, inclusion, spread=spread) for m in (50.0, 60.0))
        assert (higher > high).all()
        low, lower = (lira_offline(np.full(40, m), shadow, inclusion, spread=spread) for m in (-50.0, -60.0))
        assert (lower < low).all()


def test_shadow_margins_that_agree_do_not_divide_by_zero() -> None:
    margins, shadow, inclusion = example()
    shadow[:, 0] = 1.0
    for spread in SPREADS:
        assert np.isfinite(lira_online(margins, shadow, inclusion, spread=spread)).all()


def test_too_few_models_are_named() -> None:
    margins, shadow, inclusion = example(models=4)
    inclusion[:, 3] = [True, True, True, False]
    with pytest.raises(ValueError, match="1 of 25 records have fewer than 2 OUT shadow models: index 3"):
        lira_offline(margins, shadow, inclusion, spread="own")
    assert np.isfinite(lira_offline(margins, shadow, inclusion)).all()
    inclusion[:, 3] = True
    with pytest.raises(ValueError, match="fewer than 1 OUT shadow models: index 3"):
        lira_offline(margins, shadow, inclusion)


def test_one_model_of_each_kind_shows_no_variance() -> None:
    margins, shadow, inclusion = example(models=2)
    with pytest.raises(ValueError, match="no record shows how OUT margins vary"):
        lira_offline(margins, shadow, inclusion)
    with pytest.raises(ValueError, match="all give the same margin"):
        lira_offline(margins, np.ones((6, 25)), np.zeros((6, 25)))


def test_unusable_arrays_and_settings_are_named() -> None:
    margins, shadow, inclusion = example()
    with pytest.raises(ValueError, match="margins 24, shadow_margins 25"):
        lira_online(margins[1:], shadow, inclusion)
    with pytest.raises(ValueError, match=r"inclusion has shape \(25, 8\), \(8, 25\) needed"):
        lira_online(margins, shadow, inclusion.T)
    with pytest.raises(ValueError, match="inclusion holds values other than 0 and 1"):
        lira_online(margins, shadow, 2 * inclusion)
    with pytest.raises(ValueError, match="spread is 'fixed', one of own, shared, student_t"):
        lira_online(margins, shadow, inclusion, spread="fixed")
    shadow[2, 5] = np.inf
    with pytest.raises(ValueError, match=r"shadow_margins is not finite at index \(2, 5\)"):
        lira_online(margins, shadow, inclusion)
