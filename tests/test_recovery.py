"""Recovery checks: what they leave alone, what they find in models that hide or were retrained, and their numbers.

Digits with 30 % random labels stand for a task on which something is remembered: on digits as they are the original
knows its records hardly better than unseen ones, and no check could find what is not there.
"""

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from nablatau import Evaluation, Objective, Project, PublishedNablaTau, Recipe, Retrain, TrainingData, evaluate
from nablatau.contrasts import contrasts, relearn_index, relearn_times
from nablatau.data import Request
from nablatau.errors import EvidenceError, NablatauError, NonFiniteLossError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.history import History, Step
from nablatau.loading import Loader
from nablatau.metrics import anamnesis_index
from nablatau.quantisation import quantised
from nablatau.recovery import (
    BATCH_SIZE,
    Readout,
    Recovery,
    Relearning,
    recover_by_finetuning,
    recover_by_rounding,
    relearn,
)
from nablatau.runtime import Runtime, random_generator
from nablatau.scoring import Scores, score
from nablatau.statistics import mean_interval
from nablatau.tasks import digits
from nablatau.training import batch_mean, run_steps
from small import random_set, small_network

QUIET = Runtime(progress=False)
CLASSES = Objective.classification()
SEEDS = range(5)


# ---------------------------------------------------------------------- models that remember, forgot, or hide


def ascended(model: nn.Module, request: Request, target: float, rate: float = 1e-4) -> nn.Module:
    """Gradient ascent on the forget set until its mean loss is the target."""
    hiding, device = copy.deepcopy(model), torch.device("cpu")
    order = random_generator(0, "ascent")
    loader = Loader(request.forget_set, CLASSES, batch_size=64, device=device, generator=order)

    def steps() -> Any:
        for batch in islice(loader.forever(), 500):
            if score(hiding, request.forget_set, CLASSES)["loss"].mean() >= target:
                return
            yield Step({"forget": batch}, rate)

    def loss(model: nn.Module, step: Step) -> dict[str, torch.Tensor]:
        return {"loss": -batch_mean(CLASSES, model, step.batches["forget"])}

    optimizer, settings = torch.optim.AdamW(hiding.parameters(), lr=rate), {"runtime": QUIET, "device": device}
    run_steps(hiding, steps(), loss, optimizer, mode="eval", history=History(), total=500, **settings)
    return hiding


def unseen_loss(model: nn.Module, request: Request) -> float:
    return float(score(model, request.holdout_set, CLASSES)["loss"].mean())


@dataclass(frozen=True)
class Zoo:
    """One request and its models."""

    request: Request
    recipe: Recipe
    original: nn.Module
    retrained: nn.Module
    hiding: nn.Module


@cache
def zoo(seed: int, noise: float = 0.3) -> Zoo:
    """Digits, a share of whose labels is drawn at random, so that they must be remembered one by one."""
    project, generator = digits(), np.random.default_rng(seed)

    def noisy(data: Any) -> TensorDataset:
        inputs, labels = data.tensors
        drawn = torch.from_numpy(generator.integers(0, 10, len(labels)))
        return TensorDataset(
            inputs, torch.where(torch.from_numpy(generator.random(len(labels)) < noise), drawn, labels)
        )

    project = replace(project, train_set=noisy(project.train_set), holdout_set=noisy(project.holdout_set)).trained(seed)
    request, recipe = project.data.forget_fraction(0.2, seed=seed), project.recipe
    assert recipe is not None
    retrained = Retrain().unlearn(project.model, request, CLASSES, recipe=recipe, seed=seed + 100).model
    hiding = ascended(project.model, request, unseen_loss(project.model, request))
    return Zoo(request, recipe, project.model, retrained, hiding)


def finetuned(model: nn.Module, request: Request, seed: int = 0, **settings: Any) -> Recovery:
    return recover_by_finetuning(model, request, CLASSES, seed=seed, runtime=QUIET, **settings)


def found(recovery: Recovery, reference: Recovery | None = None) -> bool:
    return any(each.recovered for each in contrasts(recovery, reference))


# ---------------------------------------------------------------------- what the checks leave alone

CHECKS: dict[str, Callable[[nn.Module, Request], Any]] = {
    "finetuning": lambda model, request: finetuned(model, request, steps=(3, 5)),
    "rounding": lambda model, request: recover_by_rounding(model, request, CLASSES),
    "relearning": lambda model, request: relearn({"original": model}, request, CLASSES, seeds=(0,), steps=(0, 5)),
}
every_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())


@every_check
def test_the_model_stays_bit_identical_and_in_its_modes(check: Any, data: TrainingData) -> None:
    model = small_network(batch_norm=True)
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before, modes = weights_digest(model), [module.training for module in model.modules()]
    check(model, data.forget_fraction(0.2))
    assert weights_digest(model) == before
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())


@every_check
def test_the_global_generators_are_as_they_were(check: Any, data: TrainingData) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    check(small_network(batch_norm=True), data.forget_fraction(0.2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]


def test_same_seed_same_bits(data: TrainingData) -> None:
    request, model = data.forget_fraction(0.2), small_network(batch_norm=True)
    losses = [finetuned(model, request, seed, steps=(4,)).after[4].forget["loss"].tolist() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    curves = [relearn({"original": model}, request, CLASSES, seeds=seeds, steps=(0, 4)) for seeds in ((3, 4), (4, 3))]
    assert curves[0].losses["original"].tolist() == curves[1].losses["original"][::-1].tolist()


def test_readouts_are_those_of_one_run_and_of_a_naive_loop(data: TrainingData) -> None:
    request, model = data.forget_fraction(0.1), small_network(dtype=torch.float32)
    recovery = finetuned(model, request, seed=4, steps=(2, 5))
    naive = copy.deepcopy(model)
    optimizer, order = torch.optim.AdamW(naive.parameters(), lr=1e-3), random_generator(4, "recovery batches")
    examples = [request.retain_set[i] for i in range(len(request.retain_set))]
    inputs, labels = torch.stack([x for x, _ in examples]), torch.stack([y for _, y in examples])
    for step in range(1, 6):
        rows = torch.randperm(len(labels), generator=order)[:BATCH_SIZE]  # 81 records: one full batch a pass
        loss = cross_entropy(naive(inputs[rows]), labels[rows])
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        if step in recovery.after:
            expected = score(naive, request.forget_set, CLASSES)["loss"]
            assert (recovery.after[step].forget["loss"] == expected).all()
    assert (recovery.before.forget["loss"] == score(model, request.forget_set, CLASSES)["loss"]).all()
    assert recovery.retain_losses is not None
    assert recovery.retain_losses[1] == pytest.approx(score(naive, request.retain_set, CLASSES)["loss"].mean())


def test_a_pass_that_ends_with_one_record_does_not_stop_batch_norm() -> None:
    data = TrainingData(random_set(BATCH_SIZE + 11, 1), random_set(40, 2))
    request = data.forget_ids(range(10))
    assert len(request.retain_set) == BATCH_SIZE + 1
    finetuned(small_network(batch_norm=True), request, steps=(3,))
    relearn({"a": small_network(batch_norm=True)}, data.forget_ids([0]), CLASSES, seeds=(0,), steps=(0, 3))


def test_settings_that_save_memory_do_not_stop_batch_norm(data: TrainingData) -> None:
    model, request = small_network(batch_norm=True), data.forget_fraction(0.2)
    saving = Runtime(micro_batch_size=4, progress=False)
    found, plain = (
        recover_by_finetuning(model, request, CLASSES, steps=(3,), runtime=each) for each in (saving, QUIET)
    )
    assert found.retain_losses == plain.retain_losses


def seen_in_training(asked: list[int]) -> Callable[[nn.Module, Any], torch.Tensor]:
    """Outputs of a classifier that note how many examples went forward at once while it trained."""

    def outputs(model: nn.Module, batch: Any) -> torch.Tensor:
        if model.training:
            asked.append(len(batch[0]))
        return model(batch[0])  # type: ignore[no-any-return]

    return outputs


@pytest.mark.parametrize(
    ("given", "batch_norm", "most"), [(None, False, 7), (3, False, 3), (20, False, 7), (None, True, 64)]
)
def test_no_more_examples_go_forward_at_once_than_an_evaluation_reads(
    given: int | None, batch_norm: bool, most: int
) -> None:
    double = torch.float64
    request = TrainingData(random_set(120, 1, double), random_set(40, 2, double)).forget_fraction(0.2)
    model = small_network(dtype=double, batch_norm=batch_norm)
    runtimes = Runtime(evaluation_batch_size=7, micro_batch_size=given, progress=False), QUIET
    readouts, largest = [], []
    for runtime in runtimes:
        asked: list[int] = []
        objective = Objective.classification(outputs=seen_in_training(asked))
        tuned = recover_by_finetuning(model, request, objective, steps=(3,), runtime=runtime)
        again = relearn({"a": model}, request, objective, seeds=(0,), steps=(0, 2), runtime=runtime)
        readouts.append([*tuned.after[3].forget["loss"], *again.losses["a"][0]])
        largest.append(max(asked))
    assert largest == [most, BATCH_SIZE]
    assert np.allclose(*readouts, rtol=0, atol=1e-9)


def test_batches_that_cannot_be_cut_go_as_they_are() -> None:
    asked: list[int] = []

    def collate(examples: Any) -> Any:
        inputs, labels = zip(*examples, strict=True)
        return torch.stack(inputs), "of no tensor", torch.stack(labels)

    objective = Objective.classification(outputs=seen_in_training(asked), collate=collate)
    request = TrainingData(random_set(90, 1), random_set(40, 2)).forget_fraction(0.2)
    runtime = Runtime(evaluation_batch_size=7, progress=False)
    recover_by_finetuning(small_network(), request, objective, steps=(2,), runtime=runtime)
    assert set(asked) == {BATCH_SIZE}


# ---------------------------------------------------------------------- fine-tuning on the retain set


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stopped_ascent_comes_back_and_neither_original_nor_retrained_do(seed: int) -> None:
    each = zoo(seed)
    hiding, retrained = finetuned(each.hiding, each.request, seed), finetuned(each.retrained, each.request, seed)
    other_run = finetuned(each.retrained, each.request, seed + 50)
    assert found(hiding)
    assert found(hiding, other_run)
    assert not found(finetuned(each.original, each.request, seed))
    assert not found(retrained)
    assert not found(retrained, other_run)
    before, after = hiding.before.forget["correct"].mean(), hiding.after[30].forget["correct"].mean()
    assert after - before > 0.2


def test_repair_of_over_forgetting_is_not_taken_for_memory() -> None:
    """A model that never saw the records, pushed far below unseen ones, rises again but does not stand above them."""
    rises = []
    for seed in SEEDS:
        each = zoo(seed)
        pushed = ascended(each.retrained, each.request, 2 * unseen_loss(each.retrained, each.request), rate=1e-3)
        recovery = finetuned(pushed, each.request, seed)
        assert not found(recovery)
        rises.append([contrast.rise.value for contrast in contrasts(recovery)])
    assert np.mean(rises) > 0.05


def test_on_digits_as_they_are_only_many_models_together_show_it() -> None:
    """The original knows its records hardly better than unseen ones: one model shows nothing, and none is flagged."""
    changes = []
    for seed in range(6):
        each = zoo(seed, noise=0.0)
        recoveries = [finetuned(model, each.request, seed) for model in (each.original, each.retrained, each.hiding)]
        assert not any(found(recovery) for recovery in recoveries)
        changes.append([contrasts(recovery)[0].change.value for recovery in recoveries])
    original, retrained, hiding = (mean_interval(column) for column in zip(*changes, strict=True))
    assert hiding.low > 0
    assert abs(original.value) < 0.02
    assert abs(retrained.value) < 0.02


def test_a_hidden_class_rises_and_a_class_never_seen_does_not(digits_project: Project) -> None:
    project = digits_project
    assert project.recipe is not None
    rises = []
    for name in (0, 3, 4, 6):
        request = project.data.forget_class(name)
        hiding = ascended(project.model, request, 4.0)
        retrained = Retrain().unlearn(project.model, request, CLASSES, recipe=project.recipe).model
        recovery, reference = finetuned(hiding, request), finetuned(retrained, request)
        assert set(recovery.before.unseen["target"]) == {name}
        assert not found(reference)
        assert found(recovery) == found(recovery, reference)
        rises.append(found(recovery))
        assert not any(contrast.change.low > 0 for contrast in contrasts(recovery))  # unseen records of it rise too
    assert sum(rises) >= 3


def test_a_rate_that_breaks_the_model_gives_way_to_the_next(data: TrainingData) -> None:
    request, model = data.forget_fraction(0.2), small_network()
    gentle = finetuned(model, request, steps=(5,), learning_rates=(1e-3,))
    for violent in (30.0, 1e30):  # the first raises the retain loss, the second leaves no number at all
        fallen = finetuned(model, request, steps=(5,), learning_rates=(violent, 1e-3))
        assert fallen.learning_rate == 1e-3
        assert fallen.retain_losses == gentle.retain_losses
        assert (fallen.after[5].unseen["margin"] == gentle.after[5].unseen["margin"]).all()
    worst = finetuned(model, request, steps=(5,), learning_rates=(30.0,))
    assert worst.retain_losses is not None
    assert worst.retain_losses[1] > worst.retain_losses[0]
    with pytest.raises(NablatauError, match=r"not finite|is nan|is inf"):
        finetuned(model, request, steps=(5,), learning_rates=(1e30,))


def test_statistics_of_batch_norm_that_hide_the_memory_are_renewed(data: TrainingData) -> None:
    """Without any change of weights, a model whose statistics were spoilt ends where the sound one does."""
    request, sound = data.forget_fraction(0.2), small_network(batch_norm=True)
    spoilt = copy.deepcopy(sound)
    with torch.no_grad():
        spoilt[1].running_mean.add_(5.0)  # type: ignore[union-attr, operator]
    readouts = [finetuned(model, request, steps=(100,), learning_rates=(1e-12,)) for model in (sound, spoilt)]
    losses = [(each.before.unseen["loss"], each.after[100].unseen["loss"]) for each in readouts]
    assert np.abs(losses[0][0] - losses[1][0]).mean() > 0.1
    assert np.allclose(losses[0][1], losses[1][1], atol=1e-3)


# ---------------------------------------------------------------------- rounded weights


def naively_quantised(weight: torch.Tensor, bits: int, axis: int) -> torch.Tensor:
    """Channel by channel, number by number."""
    levels = list(range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)))
    channels = []
    for channel in weight.detach().double().unbind(axis):
        step = float(channel.abs().max()) / levels[-1]
        nearest = [
            min(levels, key=lambda level: abs(level * step - value)) * step for value in channel.flatten().tolist()
        ]
        channels.append(torch.tensor(nearest).reshape(channel.shape))
    return torch.stack(channels, dim=axis)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_rounded_as_naively(bits: int, dtype: torch.dtype) -> None:
    torch.manual_seed(bits)
    layers: list[nn.Module] = [nn.Linear(5, 3), nn.Conv2d(2, 3, 2), nn.ConvTranspose1d(4, 3, 2), nn.Embedding(6, 4)]
    model = nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        model[0].weight[1] = 0  # a channel without a step
    rounded = quantised(model, bits)
    for before, after, axis in zip(model, rounded, (0, 0, 1, 0), strict=True):
        assert after.weight.dtype == dtype
        assert torch.allclose(after.weight.double(), naively_quantised(before.weight, bits, axis).double(), atol=1e-6)
        assert all(len(channel.unique()) <= 2**bits - 1 for channel in after.weight.unbind(axis))
    again = quantised(rounded, bits)
    for once, twice in zip(rounded.parameters(), again.parameters(), strict=True):
        assert torch.allclose(once, twice, rtol=1e-5)


def test_biases_norms_and_buffers_stay_and_tied_weights_stay_tied() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.Sequential(nn.LayerNorm((3, 4)), nn.BatchNorm1d(4), nn.GroupNorm(2, 4))
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.bias_table = nn.Parameter(torch.rand(3, 3))
            self.register_buffer("table", torch.rand(3, 3))

    model = Network()
    with torch.no_grad():
        for norm in model.norms:
            norm.weight.copy_(torch.rand_like(norm.weight))  # type: ignore[union-attr, operator, arg-type]
    rounded = quantised(model, 3)
    changed = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, rounded.state_dict()[name])
    ]
    assert changed == ["first.weight", "second.weight"]
    assert rounded.first.weight is rounded.second.weight  # type: ignore[union-attr]


@pytest.mark.parametrize("bits", [1, 0, 17, 4.5])
def test_impossible_bits_are_refused(bits: Any) -> None:
    with pytest.raises(SettingsError, match="whole number, 2 … 16"):
        quantised(small_network(), bits)


def test_what_hides_between_the_steps_of_four_bits_comes_back_when_rounded() -> None:
    """From weights on the grid of 4 bits, an ascent that stays within half a step is undone; 8 bits keep it."""
    for seed in range(3):
        each = zoo(seed)
        on_grid = quantised(each.original, 4)
        hiding = ascended(on_grid, each.request, unseen_loss(on_grid, each.request), rate=3e-4)
        recovery = recover_by_rounding(hiding, each.request, CLASSES)
        eight, four = contrasts(recovery)
        assert (eight.at, four.at) == (8, 4)
        assert four.recovered
        assert not eight.recovered
        reference = recover_by_rounding(each.retrained, each.request, CLASSES)
        assert not found(reference)
        assert [contrast.recovered for contrast in contrasts(recovery, reference)] == [False, True]


# ---------------------------------------------------------------------- contrasts as arithmetic


def scores(size: int, seed: int, *names: str) -> Scores:
    generator = np.random.default_rng(seed)
    arrays = {
        "loss": generator.random(size),
        "margin": generator.normal(size=size),
        "correct": generator.random(size) > 0.4,
    }
    return Scores([f"{size}-{i}" for i in range(size)], {name: arrays[name] for name in ("loss", *names)})


def made(seed: int, *names: str) -> Recovery:
    readouts = [
        Readout(forget=scores(30, seed + i, *names), unseen=scores(40, seed + 10 + i, *names)) for i in range(3)
    ]
    return Recovery(goal="records", before=readouts[0], after={10: readouts[1], 30: readouts[2]})


def naive_auc(readout: Readout, sign: int, name: str) -> float:
    both = np.concatenate([readout.forget[name], readout.unseen[name]])
    return float(roc_auc_score(np.repeat([1, 0], [30, 40]), sign * both))


@pytest.mark.parametrize(
    ("names", "share", "sign", "rank"),
    [(("margin", "correct"), "correct", 1, "margin"), (("margin",), "margin", 1, "margin"), ((), "loss", -1, "loss")],
)
def test_contrasts_are_what_they_say(names: tuple[str, ...], share: str, sign: int, rank: str) -> None:
    recovery, reference = made(0, *names), made(100, *names)

    def naive(each: Recovery, at: int) -> tuple[float, float, float, float]:
        rises = [
            sign * float(each.after[at].__getattribute__(part)[share].mean() - getattr(each.before, part)[share].mean())
            for part in ("forget", "unseen")
        ]
        aucs = [naive_auc(readout, sign, rank) for readout in (each.before, each.after[at])]
        return rises[0], rises[0] - rises[1], aucs[1] - aucs[0], aucs[1] - 0.5

    for alone, against in zip(contrasts(recovery), contrasts(recovery, reference), strict=True):
        ours, theirs = naive(recovery, alone.at), naive(reference, alone.at)
        values = [(each.rise.value, each.change.value, each.gain.value, each.lead.value) for each in (alone, against)]
        assert values[0] == pytest.approx(ours)
        assert values[1] == pytest.approx(tuple(our - their for our, their in zip(ours, theirs, strict=True)))
        assert (against.change.n, against.change.m) == (alone.change.n, alone.change.m) == (30, 40)
        assert against.gain.high - against.gain.low > alone.gain.high - alone.gain.low


def test_limits_hold_for_all_readouts_at_once() -> None:
    recovery = made(0, "margin", "correct")
    single = replace(recovery, after={10: recovery.after[10]})
    narrow, wide = contrasts(single)[0], contrasts(recovery)[0]
    assert narrow.change.confidence == pytest.approx(0.95)
    assert wide.change.confidence == wide.gain.confidence == pytest.approx(0.975)
    assert wide.gain.low < narrow.gain.low
    assert contrasts(single, confidence=0.975)[0] == wide


def test_a_reference_of_other_records_or_steps_is_refused() -> None:
    recovery = made(0, "margin")
    with pytest.raises(EvidenceError, match="Run the same check"):
        contrasts(recovery, replace(recovery, after={10: recovery.after[10]}))
    other = Readout(forget=scores(29, 0, "margin"), unseen=scores(40, 1, "margin"))
    with pytest.raises(EvidenceError, match="on other records"):
        contrasts(recovery, replace(recovery, before=other))


# ---------------------------------------------------------------------- relearning


def test_relearn_times_rank_what_is_left() -> None:
    """Retrained twice takes as long; the stopped ascent a fraction of it; the original no step; a fresh one longest."""
    indices = []
    for seed in range(2):
        each = zoo(seed)
        again = Retrain().unlearn(each.original, each.request, CLASSES, recipe=each.recipe, seed=seed + 300).model
        models = {"original": each.original, "retrained": each.retrained, "again": again, "unlearned": each.hiding}
        relearning = relearn(models, each.request, CLASSES, recipe=each.recipe, seeds=(0, 1, 2), runtime=QUIET)
        assert [time.value for time in relearn_times(relearning, "original")] == [0, 0, 0]
        assert all(time.value > 50 for time in relearn_times(relearning, "retrained"))
        assert relearn_index(relearning, "unlearned").high < 0.6
        assert 1 in relearn_index(relearning, "again")
        assert relearn_index(relearning, "fresh").value > 1
        assert relearn_index(relearning, "unlearned", by="accuracy").high < 0.6
        indices.append(relearn_index(relearning).value)
    assert max(indices) < 0.4


def test_what_the_paper_preset_leaves_on_digits_is_relearned_at_once() -> None:
    each = zoo(0)
    unlearned = PublishedNablaTau().unlearn(each.original, each.request, CLASSES).model
    models = {"original": each.original, "retrained": each.retrained, "unlearned": unlearned}
    relearning = relearn(models, each.request, CLASSES, seeds=(0, 1), runtime=QUIET)
    assert "fresh" not in relearning.losses
    assert relearn_index(relearning).high < 0.3


STEPS = (0, 1, 2, 4, 8)


def curves(**losses: list[list[float]]) -> Relearning:
    arrays = {name: np.array(runs) for name, runs in losses.items()}
    return Relearning(steps=STEPS, seeds=(0, 1), losses=arrays, accuracies={n: 1 - a / 2 for n, a in arrays.items()})


ORIGINAL = [[0.1, 0.1, 0.1, 0.1, 0.1]] * 2
REFERENCE = [[1.1, 1.0, 0.8, 0.4, 0.1], [1.1, 0.9, 0.7, 0.1, 0.1]]


def test_the_index_by_loss_counts_the_gap_that_is_closed() -> None:
    relearning = curves(original=ORIGINAL, retrained=REFERENCE, unlearned=[[0.9, 0.5, 0.14, 0.1, 0.1]] * 2)
    assert [(time.low, time.value) for time in relearn_times(relearning)] == [(1, 2), (1, 2)]  # 96 % closed
    assert [(time.low, time.value) for time in relearn_times(relearning, "retrained")] == [(4, 8), (2, 4)]
    index = relearn_index(relearning)
    assert index.value == pytest.approx((2 / 8 + 2 / 4) / 2)
    lows, highs = [1 / 8, 1 / 4], [2 / 4, 2 / 2]
    assert index.low == pytest.approx(max(0.0, mean_interval(lows).low))
    assert index.high == pytest.approx(mean_interval(highs).high)
    assert relearn_times(relearning, tolerance=0.03)[0].value == 4


def test_the_index_by_accuracy_is_the_published_one() -> None:
    relearning = curves(original=ORIGINAL, retrained=REFERENCE, unlearned=[[0.9, 0.5, 0.14, 0.1, 0.1]] * 2)
    single = replace(relearning, seeds=(0,), accuracies={name: a[:1] for name, a in relearning.accuracies.items()})
    ours, theirs = (single.accuracies[name][0] for name in ("unlearned", "retrained"))
    expected = anamnesis_index(ours, theirs, STEPS, 0.95)
    found_index = relearn_index(single, by="accuracy")
    assert (found_index.value, found_index.low, found_index.high) == (expected.value, expected.low, expected.high)


def test_a_reference_that_is_not_there_in_time_bounds_the_index_from_above() -> None:
    slow = [[1.1, 1.1, 1.0, 0.9, 0.8], REFERENCE[1]]
    relearning = curves(original=ORIGINAL, retrained=slow, unlearned=[[0.9, 0.5, 0.14, 0.1, 0.1]] * 2)
    assert relearn_times(relearning, "retrained")[0].value == math.inf
    assert relearn_index(relearning).value == pytest.approx((2 / 8 + 2 / 4) / 2)  # first seed: at most 2 of more than 8
    never = curves(original=ORIGINAL, retrained=REFERENCE, unlearned=[[1.0, 1.0, 1.0, 1.0, 0.9]] * 2)
    assert relearn_index(never).value == math.inf
    assert relearn_index(never).low == pytest.approx((8 / 8 + 8 / 4) / 2)


def test_what_has_no_relearn_time_is_said() -> None:
    knows_nothing = curves(original=REFERENCE, retrained=ORIGINAL, unlearned=ORIGINAL)
    with pytest.raises(EvidenceError, match="nothing is remembered"):
        relearn_times(knows_nothing)
    with pytest.raises(EvidenceError, match="no loss curve of retrained; there are original"):
        relearn_times(curves(original=ORIGINAL), "original")
    with pytest.raises(EvidenceError, match="no accuracy curve"):
        relearn_times(replace(curves(original=ORIGINAL), accuracies={}), "original", by="accuracy")
    with pytest.raises(ValueError, match="before any relearning"):
        relearn_index(curves(original=REFERENCE, retrained=ORIGINAL, unlearned=ORIGINAL), by="accuracy")


@pytest.mark.parametrize("count", [1, 30, 80])
def test_half_of_what_is_relearned_is_the_forget_set(data: TrainingData, count: int) -> None:
    asked: list[torch.Tensor] = []

    def outputs(model: nn.Module, batch: Any) -> torch.Tensor:
        if model.training:
            asked.append(batch[0])
        return model(batch[0])  # type: ignore[no-any-return]

    request = data.forget_ids(range(count))
    relearn({"a": small_network()}, request, Objective.classification(outputs=outputs), seeds=(0,), steps=(0, 40))
    forgotten = torch.stack([request.forget_set[i][0] for i in range(count)])
    share = (torch.cat(asked)[:, None] == forgotten[None]).all(dim=2).any(dim=1).double().mean()
    assert float(share) == pytest.approx(0.5, abs=0.08)


def test_relearning_takes_the_next_rate_for_all_where_a_loss_is_no_number(data: TrainingData) -> None:
    request, models = data.forget_fraction(0.2), {"original": small_network(), "retrained": small_network(1)}
    gentle, fallen = (
        relearn(models, request, CLASSES, seeds=(0,), steps=(0, 5), learning_rates=rates, runtime=QUIET)
        for rates in ((1e-3,), (1e30, 1e-3))
    )
    assert gentle.learning_rate == fallen.learning_rate == 1e-3
    for name, curve in gentle.losses.items():
        assert (curve == fallen.losses[name]).all()
    with pytest.raises(NablatauError, match=r"not finite|is nan|is inf"):
        relearn(models, request, CLASSES, seeds=(0,), steps=(0, 5), learning_rates=(1e30,), runtime=QUIET)


def test_relearning_that_diverges_is_a_row_that_was_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: TrainingData
) -> None:
    def diverged(*_: Any, **__: Any) -> None:
        raise NonFiniteLossError(3, "loss", math.nan, {"train": [17]})

    monkeypatch.setattr("nablatau.api.relearn", diverged)
    models, request = [small_network(seed) for seed in range(3)], data.forget_fraction(0.2)
    evaluation = evaluate(models[0], models[1], request, CLASSES, reference=models[2], runtime=QUIET)
    for each in (evaluation, Evaluation.load(evaluation.save_evidence(tmp_path / "evidence"))):
        rows = {row.name: row for row in each.rows}
        for name in ("Steps to relearn the forget set", "Anamnesis index"):
            assert rows[name].note.startswith("not run: a loss became infinite or no number")
            assert "0.001, 0.0001, 1e-05" in rows[name].note
        assert rows["Recovered after 100 steps on the retain set"].values["unlearned"] is not None


# ---------------------------------------------------------------------- other tasks, and what is refused


def test_tasks_without_classes_are_compared_by_margin_or_loss() -> None:
    inputs, holdout = random_set(60, 1).tensors[0], random_set(40, 2).tensors[0]
    cases = [
        (Objective.regression(), inputs[:, :3], holdout[:, :3]),
        (Objective.multi_label(), (inputs[:, :3] > 0).float(), (holdout[:, :3] > 0).float()),
        (
            Objective.of_loss(lambda model, batch: (model(batch[0]) - batch[1]).abs().mean(dim=1)),
            inputs[:, :3],
            holdout[:, :3],
        ),
    ]
    for objective, targets, other in cases:
        request = TrainingData(TensorDataset(inputs, targets), TensorDataset(holdout, other)).forget_fraction(0.3)
        recovery = recover_by_finetuning(small_network(), request, objective, steps=(5,))
        assert math.isfinite(contrasts(recovery)[0].change.value)
        assert len(contrasts(recover_by_rounding(small_network(), request, objective))) == 2
        models = {"original": small_network(), "retrained": small_network(1)}
        relearning = relearn(models, request, objective, seeds=(0,), steps=(0, 2))
        assert relearning.losses["original"].shape == (1, 2)
        assert not relearning.accuracies


def test_requests_and_settings_that_cannot_be_are_refused(data: TrainingData) -> None:
    request, model = data.forget_fraction(0.2), small_network()
    with pytest.raises(EvidenceError, match="18 forgotten and 0 unseen"):
        finetuned(model, request.for_methods())
    with pytest.raises(EvidenceError, match="1 forgotten and 20 unseen"):
        recover_by_rounding(model, data.forget_ids([3]), CLASSES)
    for steps in ((), (0, 10), (10, 5), (5, 5)):
        with pytest.raises(SettingsError, match="steps must rise from 1"):
            finetuned(model, request, steps=steps)
    for rates in ((), (1e-3, 0.0)):
        with pytest.raises(SettingsError, match="learning_rates must be"):
            finetuned(model, request, learning_rates=rates)
        with pytest.raises(SettingsError, match="learning_rates must be"):
            relearn({"original": model}, request, CLASSES, learning_rates=rates)
    with pytest.raises(SettingsError, match="steps must rise from 0"):
        relearn({"original": model}, request, CLASSES, steps=(0,))
    with pytest.raises(SettingsError, match="one number of bits or more"):
        recover_by_rounding(model, request, CLASSES, bits=())
    with pytest.raises(SettingsError, match="its own"):
        relearn({"fresh": model}, request, CLASSES)
    with pytest.raises(SettingsError, match="No parameter of the model requires a gradient"):
        finetuned(small_network().requires_grad_(False), request)
    bad = copy.deepcopy(model)
    with torch.no_grad():
        bad[0].weight.fill_(float("nan"))
    with pytest.raises(EvidenceError, match="not finite"):
        finetuned(bad, request)
