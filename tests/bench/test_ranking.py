"""Who is nearest, and whether that can be told."""

import json
from typing import Any

import numpy as np
import pytest
import scipy.stats

from nablatau.bench.collected import Candidate, Collected, block_values
from nablatau.bench.measures import GAP
from nablatau.bench.ranking import against, blocks_for_wilcoxon, choose_baseline, rank, winners
from nablatau.bench.reading import Run
from synthetic_records import interval, record

A, B, C = (Candidate(method=name) for name in "abc")


def run_of(values: dict[str, Any]) -> Run:
    names = ("task", "request", "method", "settings_from", "training_seed", "unlearning_seed")
    settings = json.dumps(values["settings"], sort_keys=True)
    return Run(
        **{name: values[name] for name in names}, settings=settings, done=values["status"] == "done", record=values
    )


def collected(gaps: dict[str, dict[str, list[float]]]) -> Collected:
    """By request and method, the gap of each training seed."""
    return Collected(
        [
            run_of(
                record(
                    method,
                    request=request,
                    training_seed=seed,
                    numbers={"average_gap": {"unlearned": interval(value / 100)}},
                )
            )
            for request, methods in gaps.items()
            for method, values in methods.items()
            for seed, value in enumerate(values)
        ]
    )


def test_the_best_is_tested_against_the_runner_up_and_corrected_over_requests() -> None:
    near, far, close = [1.0, 1.1, 0.9], [3.0, 3.2, 2.9], [1.1, 1.0, 1.05]
    found = winners(collected({"class:1": {"a": near, "b": far}, "class:2": {"a": near, "b": close}}), "digits", GAP)
    first = scipy.stats.ttest_rel(near, far).pvalue
    assert found["class:1"].p == pytest.approx(2 * first)
    assert found["class:1"].separated
    assert (found["class:1"].best.method, found["class:1"].second.method) == ("a", "b")
    assert not found["class:2"].separated


def test_the_runner_up_is_another_method_and_retrain_takes_no_part() -> None:
    runs = collected({"class:1": {"a": [1.0, 1.1], "b": [3.0, 3.2], "retrain": [0.1, 0.2]}})
    tuned = run_of(record("a", request="class:1", settings_from="tuned", gap=1.2))
    found = winners(Collected([*runs.all, tuned]), "digits", GAP)["class:1"]
    assert (found.best.label, found.second.label) == ("a", "b")


def test_without_a_second_seed_or_method_there_is_no_test() -> None:
    one_seed = winners(collected({"class:1": {"a": [1.0], "b": [2.0]}}), "digits", GAP)["class:1"]
    assert (one_seed.p, one_seed.why_not) == (None, "fewer than two training seeds")
    assert winners(collected({"class:1": {"a": [1.0, 2.0]}}), "digits", GAP)["class:1"].why_not == "no other method"


def test_choosing_the_best_and_the_runner_up_by_their_means_keeps_the_level() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 6, 4))  # benchmarks of six equal methods, four seeds each
    order = np.argsort(draws.mean(axis=2), axis=1)[:, :2, None]
    best, second = np.take_along_axis(draws, order, axis=1).swapaxes(0, 1)
    assert (scipy.stats.ttest_rel(best, second, axis=1).pvalue <= 0.05).mean() <= 0.05


def test_unlearning_seeds_are_averaged_within_a_block() -> None:
    lines = [
        record("a", unlearning_seed=seed, numbers={"average_gap": {"unlearned": interval(seed)}}) for seed in (0, 1)
    ]
    blocks = block_values(Collected([run_of(line) for line in lines]), GAP)
    assert blocks == {("digits", "random:0.1", 0): {A: 50.0}}


def test_ranks_count_blocks_in_which_all_have_a_number() -> None:
    blocks = {("t", "r", seed): {A: 1.0, B: 2.0, C: 3.0 + seed} for seed in range(9)}
    blocks["t", "r", 9] = {A: 1.0, B: 2.0}
    blocks["t", "r", 0][Candidate(method="d")] = 0.0
    found = rank(blocks)
    assert (found.blocks, found.incomplete, found.missing) == (9, 1, "")
    assert list(found.ranks.values()) == [1.0, 2.0, 3.0]
    assert {each.label: count for each, count in found.left_out.items()} == {"d": 1}


def test_too_few_blocks_say_what_is_missing() -> None:
    found = rank({("t", "r", seed): {A: 1.0, B: 2.0, C: 3.0} for seed in range(4)})
    assert (found.test, found.distance) == (None, None)
    assert "at least 5 blocks" in found.missing
    assert "Here there are 4 blocks" in found.missing


def test_candidates_are_compared_with_the_baseline_and_corrected_together() -> None:
    draw = np.random.default_rng(1)
    base, near, far = draw.normal(size=12), draw.normal(size=12), draw.normal(2, 1, size=12)
    blocks = {("t", "r", seed): {A: base[seed], B: near[seed], C: far[seed]} for seed in range(12)}
    first, second = against(blocks, A)
    raw = [scipy.stats.wilcoxon(other, base, method="exact").pvalue for other in (near, far)]
    assert second.wilcoxon_p == pytest.approx(2 * raw[1])
    assert first.wilcoxon_p == pytest.approx(max(raw[0], 2 * raw[1]))
    assert (first.separated, second.separated, second.better) == (False, True, False)
    assert second.decided_by == "Wilcoxon"


def test_too_few_blocks_for_wilcoxon_leave_the_finding_to_the_t_test() -> None:
    assert [blocks_for_wilcoxon(count) for count in (1, 2, 20)] == [6, 7, 10]
    for count in (1, 2, 20):
        n = blocks_for_wilcoxon(count)
        assert 2 / 2**n * count <= 0.05 < 2 / 2 ** (n - 1) * count
    blocks = {("t", "r", seed): {A: 1.0 + seed / 100, B: 2.0 + seed / 50} for seed in range(5)}
    found = against(blocks, A)[0]
    assert (found.decided_by, found.separated, found.better) == ("paired t", True, False)


def test_the_baseline_is_nabla_tau_else_the_best() -> None:
    ours = Candidate(method="nabla_tau")
    blocks = {("t", "r", seed): {A: 1.0, ours: 2.0} for seed in range(3)}
    assert choose_baseline(blocks, rank(blocks)) == ours
    blocks = {("t", "r", seed): {A: 1.0, B: 0.5} for seed in range(3)}
    assert choose_baseline(blocks, rank(blocks)) == B


def test_several_settings_of_one_method_are_candidates_of_their_own_where_they_meet() -> None:
    lines = [record("a", settings={"steps": steps}, settings_from="given") for steps in (1, 2)]
    assert [each.label for each in Collected([run_of(line) for line in lines]).candidates()] == [
        "a (given, settings 1)",
        "a (given, settings 2)",
    ]
    apart = [record("a", settings={"steps": s}, settings_from="tuned", request=f"class:{s}") for s in (1, 2)]
    assert [each.label for each in Collected([run_of(line) for line in apart]).candidates()] == ["a (tuned)"]
