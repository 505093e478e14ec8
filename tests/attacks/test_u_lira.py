"""U-LiRA: the design of thirds, the ratio UNLEARNED against OUT, and what exact retraining scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from nablatau.attacks.u_lira import ShadowState, draw_thirds, u_lira

OUT, IN, UNLEARNED = ShadowState


def simulated(trace: float, *, records: int = 2000, pipelines: int = 15) -> tuple[np.ndarray, ...]:
    """Margins of an audited model and of pipelines that leave so large a trace, the design, the truth."""
    generator = np.random.default_rng(0)
    states = draw_thirds(pipelines + 1, records, seed=1)
    lift = np.array([0.0, 2.0, trace])[states]
    margins = generator.normal(0, 2, records) + lift + generator.normal(0, 1, states.shape)
    return margins[0], margins[1:], states[1:], states[0]


def test_the_three_states_come_in_their_order() -> None:
    assert (OUT, IN, UNLEARNED) == (0, 1, 2)
    assert [state.name for state in ShadowState] == ["OUT", "IN", "UNLEARNED"]


@pytest.mark.parametrize("pipelines", [3, 4, 5, 16])
def test_every_record_has_every_state_about_a_third_of_the_time(pipelines: int) -> None:
    states = draw_thirds(pipelines, 3000, seed=0)
    assert states.shape == (pipelines, 3000)
    counts = np.array([(states == state).sum(axis=0) for state in ShadowState])
    assert counts.min() == pipelines // 3
    assert counts.max() == -(-pipelines // 3)
    assert counts.mean(axis=1) == pytest.approx(pipelines / 3, rel=0.03)


def test_records_of_one_pipeline_are_dealt_independently() -> None:
    states = draw_thirds(16, 6000, seed=3)
    table = np.histogram2d(states[0, ::2], states[0, 1::2], bins=3)[0]
    assert stats.chi2_contingency(table).pvalue > 0.01
    assert stats.chisquare(np.bincount(states[0])).pvalue > 0.01


def test_the_deal_keeps_its_seed() -> None:
    assert np.array_equal(draw_thirds(7, 50, seed=4), draw_thirds(7, 50, seed=4))
    assert not np.array_equal(draw_thirds(7, 50, seed=4), draw_thirds(7, 50, seed=5))


def test_the_score_is_the_log_ratio_of_two_student_t_predictives() -> None:
    margins, shadow, states, _ = simulated(1.0, records=20)

    def predictive(state: int, i: int) -> object:
        groups = [shadow[states[:, j] == state, j] for j in range(20)]
        v0 = sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(g.size - 1 for g in groups)
        own, m0 = groups[i], np.concatenate(groups).mean()
        c, m = own.size, own.mean()
        k, nu = 0.25 + c, 4 + c
        b = (4 * v0 + ((own - m) ** 2).sum() + 0.25 * c / k * (m - m0) ** 2) / nu
        return stats.t(nu, (0.25 * m0 + c * m) / k, np.sqrt(b * (k + 1) / k))

    for present in (UNLEARNED, IN):
        scores = u_lira(margins, shadow, states, present=present)
        for i, margin in enumerate(margins):
            expected = predictive(present, i).logpdf(margin) - predictive(OUT, i).logpdf(margin)
            assert scores[i] == pytest.approx(expected)


def test_a_trace_is_found_and_exact_retraining_leaves_none() -> None:
    for trace, low, high in ((2.0, 0.8, 1.0), (-2.0, 0.8, 1.0), (0.0, 0.46, 0.54)):
        margins, shadow, states, truth = simulated(trace)
        audited = truth != IN
        scores = u_lira(margins, shadow, states)[audited]
        assert low <= roc_auc_score(truth[audited] == UNLEARNED, scores) <= high


def test_unlearned_data_do_not_touch_the_ratio_of_in_against_out() -> None:
    margins, shadow, states, _ = simulated(1.0, records=50)
    spoiled = np.where(states == UNLEARNED, 77.0, shadow)
    assert np.array_equal(u_lira(margins, shadow, states, present=IN), u_lira(margins, spoiled, states, present=IN))


def test_unusable_designs_are_named() -> None:
    margins, shadow, states, _ = simulated(1.0, records=10)
    with pytest.raises(ValueError, match=r"states must have shape \(15, 10\)"):
        u_lira(margins, shadow, states[:-1])
    with pytest.raises(ValueError, match=r"states must have shape .* values such as \[3\]"):
        u_lira(margins, shadow, np.full_like(states, 3))
    with pytest.raises(ValueError, match="present is OUT"):
        u_lira(margins, shadow, states, present=OUT)
    states[:, 4] = IN
    with pytest.raises(ValueError, match="1 of 10 records have fewer than 1 UNLEARNED shadow models: index 4"):
        u_lira(margins, shadow, states)
    with pytest.raises(ValueError, match="pipelines is 2"):
        draw_thirds(2, 10, seed=0)
