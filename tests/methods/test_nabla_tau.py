"""∇τ: a whole run against a naive loop, the formulas, what is read when, and what the push does and does not do."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from by_hand import apart, columns
from nablatau import NablaTau, Objective, TrainingData
from nablatau.data import Request
from nablatau.methods.nabla_tau import chosen_batch_size, targets_by_rank
from nablatau.runtime import random_generator
from remembering import WIDE, noisy_set, remembered
from small import random_set

# ---------------------------------------------------------------------- a whole run, by hand


def order_of(count: int, total: int, seed: int, stream: str) -> Tensor:
    """Pass after pass in random order, cut at a total."""
    generator = random_generator(seed, stream)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(total // count + 1)])[:total]


class NaiveAdam:
    """Adam (Kingma and Ba 2015) on each tensor with its own rate, which then gets its old length back."""

    def __init__(self, model: nn.Module) -> None:
        self.weights, self.count = list(model.parameters()), 0
        self.lengths = [float(each.detach().square().sum().sqrt()) for each in self.weights]
        self.first = [torch.zeros_like(each) for each in self.weights]
        self.second = [torch.zeros_like(each) for each in self.weights]
        sizes = [n / math.sqrt(w.numel()) for n, w in zip(self.lengths, self.weights, strict=True)]
        matrices = sorted(s for s, w in zip(sizes, self.weights, strict=True) if w.ndim == 2)
        sizes = [s if w.ndim == 2 else matrices[1] for s, w in zip(sizes, self.weights, strict=True)]
        self.scales = [2 ** (round(4 * math.log2(size)) / 4) for size in sizes]

    def step(self, loss: Tensor, rate: float) -> None:
        self.count += 1
        gradients = torch.autograd.grad(loss, self.weights)
        with torch.no_grad():
            for i, (weight, g) in enumerate(zip(self.weights, gradients, strict=True)):
                self.first[i] = 0.9 * self.first[i] + 0.1 * g
                self.second[i] = 0.999 * self.second[i] + 0.001 * g * g
                mean, square = self.first[i] / (1 - 0.9**self.count), self.second[i] / (1 - 0.999**self.count)
                weight -= rate * self.scales[i] * mean / (square.sqrt() + 1e-8)
                if weight.ndim == 2:
                    weight *= self.lengths[i] / weight.square().sum().sqrt()


def naive_run(model: nn.Module, request: Request, size: int, steps: int, turn: float, heat: float, seed: int) -> None:
    """The five points at the head of the method's file but the last; the model is changed in place."""
    (x, y), (x_forget, y_forget), (x_unseen, y_unseen) = map(
        columns, (request.retain_set, request.forget_set, request.holdout_set)
    )

    def losses(inputs: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return cross_entropy(model.eval()(inputs), labels, reduction="none")

    sample = torch.randperm(len(y), generator=random_generator(seed, "retain sample"))[: len(y_unseen)]
    unseen_before = losses(x_unseen, y_unseen)
    level = (1 - heat) * float(losses(x[sample], y[sample]).mean()) + heat * float(unseen_before.mean())
    retain = order_of(len(y), steps * size, seed, "retain batches").split(size)
    half, last = round(steps / 2), round(0.9 * steps)
    reads = max(4 * len(y_forget), min(len(y_forget), size // 2) * (last - half))
    visits = order_of(len(y_forget), reads, seed, "forget batches")
    optimizer, share, running = NaiveAdam(model), 1.0, math.nan
    for step in range(steps):
        if step == half:
            aims = [min(pair) for pair in zip(sorted(unseen_before), sorted(losses(x_unseen, y_unseen)), strict=True)]
            targets, found = torch.zeros(len(y_forget), dtype=WIDE), losses(x_forget, y_forget).tolist()
            for rank, record in enumerate(sorted(range(len(found)), key=found.__getitem__)):
                targets[record] = aims[int((rank + 0.5) / len(found) * len(aims))]
        rows = retain[step]
        pushed = visits[:0]
        if half <= step < last:
            start, end = (len(visits) * each // (last - half) for each in (step - half, step - half + 1))
            pushed = visits[start:end]
        logits = model.train()(torch.cat([x[rows], x_forget[pushed]]))
        kept = cross_entropy(logits[: len(rows)], y[rows], reduction="sum") / size
        short = 0.0
        for i, record in enumerate(pushed.tolist()):
            loss = cross_entropy(logits[len(rows) + i], y_forget[record])
            short = short + torch.relu(targets[record] - loss) / size * 4 * len(y_forget) / reads
        done = (step + 0.5) / steps
        optimizer.step(kept + short, turn * share * (done / 0.25 if done < 0.25 else (1 - done) / 0.75))
        running = kept.item() if step == 0 else 0.8 * running + 0.2 * kept.item()
        share = 0.92 * share if running > level else min(1.0, 1.02 * share)
    model.eval()


@pytest.mark.parametrize(("batch_norm", "heat"), [(False, 0.1), (True, 0.5)])
def test_a_whole_run_equals_a_naive_loop(batch_norm: bool, heat: float) -> None:
    """72 retain records: 8 a step, as a 200th of 90 is less, and 400 records to take steps on."""
    original, request = remembered(batch_norm=batch_norm)
    naive = copy.deepcopy(original)
    naive_run(naive, request, size=8, steps=50, turn=0.2, heat=heat, seed=9)
    settings = NablaTau(turn=0.2, heat=heat, least_records=400)
    done = settings.unlearn(original, request, Objective.classification(), seed=9)
    assert len(done.history) == 50
    assert apart(done.model, naive) < 1e-12
    assert apart(done.model, original) > 0.01
    assert min(done.history.columns["heat"]) < 1.0  # it was held back, and records were pushed: no part is idle
    assert max(done.history.columns["shortfall"]) > 0.0


def test_another_batch_size_takes_as_many_records_and_turns_by_the_root_of_the_ratio() -> None:
    original, request = remembered(0.3)
    naive = copy.deepcopy(original)
    naive_run(naive, request, size=18, steps=22, turn=0.08 * math.sqrt(18 / 8), heat=0.5, seed=2)
    settings = NablaTau(least_records=400, batch_size=18)
    done = settings.unlearn(original, request, Objective.classification(), seed=2)
    assert apart(done.model, naive) < 1e-12


# ---------------------------------------------------------------------- formulas


@pytest.mark.parametrize(("forget", "unseen"), [(5, 5), (3, 20), (20, 3), (1, 9), (1, 1), (7, 1)])
def test_targets_have_the_same_rank_among_unseen_records(forget: int, unseen: int) -> None:
    generator = torch.Generator().manual_seed(forget)
    losses, aims = (torch.rand(n, generator=generator, dtype=WIDE) for n in (forget, unseen))
    found = targets_by_rank(losses, aims.sort().values)
    for own, target in zip(losses, found, strict=True):
        rank = sum(float(other < own) for other in losses)
        assert target == sorted(aims.tolist())[int((rank + 0.5) * unseen / forget)]


def test_targets_of_as_many_records_are_their_losses_in_the_forget_records_order() -> None:
    aims = torch.tensor([1.0, 2.0, 3.0])
    assert targets_by_rank(torch.tensor([9.0, 7.0, 8.0]), aims).tolist() == [3.0, 1.0, 2.0]
    assert targets_by_rank(torch.tensor([5.0]), aims).tolist() == [2.0]  # a single record gets the median
    assert targets_by_rank(torch.tensor([4.0, 4.0, 4.0]), aims).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("records", "size"), [(2, 8), (60, 8), (500, 8), (6_000, 32), (50_000, 256), (10_000_000, 256)]
)
def test_the_batch_size_is_a_200th_of_the_training_set(records: int, size: int) -> None:
    assert chosen_batch_size(records) == size


# ---------------------------------------------------------------------- what is read when


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 180),  # 20 passes over 72 records
        ({"least_records": 600}, 75),
        ({"least_records": 1}, 22),  # 2.5 passes
        ({"least_records": 1, "passes": 4, "batch_size": 16}, 18),
        ({"least_records": 1, "passes": 0.1}, 10),
    ],
)
def test_how_many_steps(data: TrainingData, model: nn.Module, settings: dict[str, Any], steps: int) -> None:
    done = NablaTau(**settings).unlearn(model, data.forget_fraction(0.2), Objective.classification())
    assert len(done.history) == steps


def test_a_large_set_is_passed_two_and_a_half_times(model: nn.Module, objective: Objective) -> None:
    data = TrainingData(random_set(5_000, 1), random_set(80, 2), check_content=False)
    done = NablaTau().unlearn(model, data.forget_fraction(0.2), objective)
    assert len(done.history) == round(2.5 * 4_000 / 32)
    visits = 4 * 1_000
    assert done.history.trained_samples == len(done.history) * 32 + visits
    looks = 80 // 2 * 2 + 1_000 * 3 + 40  # unseen and forget records before and half-way, these at the end; a sample
    utility = 40 * 2
    assert done.history.scored_samples == looks + utility


def numbered(size: int, seed: int) -> TensorDataset:
    """Records that hold their own number."""
    inputs, labels = random_set(size, seed).tensors
    return TensorDataset(inputs, torch.arange(size), labels)


@pytest.mark.parametrize(
    ("count", "visits", "reads"),
    [
        (60, 4.0, 240),
        (60, 2.55, 153),
        (60, 0.4, 120),  # two in each of 60 steps
        (18, 3.0, 288),
        (1, 3.0, 178),  # all there is in each of 178 steps
        (60, 0.0, 0),
    ],
)
def test_when_forget_records_are_read(count: int, visits: float, reads: int) -> None:
    """Evenly often, beside whole batches of retain records, from half-way until a tenth before the end."""
    request = TrainingData(numbered(90, 1), numbered(80, 2)).forget_ids(range(count))
    batches: list[list[int]] = []

    def outputs(model: nn.Module, batch: Any) -> Tensor:
        if torch.is_grad_enabled():
            batches.append(batch[1].tolist())
        return model(batch[0])

    model = nn.Sequential(nn.Linear(6, 3))
    NablaTau(visits=visits, batch_size=4).unlearn(model, request, Objective.classification(outputs=outputs))
    forget = [[number for number in batch if number < count] for batch in batches]
    times = [list(itertools.chain(*forget)).count(number) for number in range(count)]
    assert sum(times) == reads
    assert max(times) - min(times) <= 1
    steps, sizes = len(batches), [len(each) for each in forget]
    assert not any(sizes[: steps // 2] + sizes[round(0.9 * steps) :])
    joined = sizes[steps // 2 : round(0.9 * steps)]
    assert max(joined) - min(joined) <= 1
    retain = [[number for number in batch if number >= count] for batch in batches]
    assert {len(each) for each in retain} == {4}
    passes = list(itertools.chain(*retain))[: 90 - count]
    assert sorted(passes) == list(range(count, 90))


# ---------------------------------------------------------------------- what the push does


def test_without_a_push_it_is_descent_on_the_retain_set() -> None:
    original, request = remembered()
    settings = {"least_records": 400}
    pushless = NablaTau(push=0, **settings).unlearn(original, request, Objective.classification())
    columns = pushless.history.columns
    assert columns["loss"] == columns["retain_loss"]
    assert max(columns["shortfall"]) > 0
    visitless = NablaTau(visits=0, **settings).unlearn(original, request, Objective.classification())
    assert apart(pushless.model, visitless.model) < 1e-12
    assert max(visitless.history.columns["shortfall"]) == 0


def test_the_loss_is_that_of_the_retain_set_and_the_weighed_shortfall() -> None:
    original, request = remembered()
    found = NablaTau(push=2.5, least_records=400).unlearn(original, request, Objective.classification())
    columns = found.history.columns
    for loss, retain, short in zip(columns["loss"], columns["retain_loss"], columns["shortfall"], strict=True):
        assert loss == pytest.approx(retain + 2.5 * (72 / 80) * short, rel=1e-12)  # four reads in each of 20 steps


def test_a_push_in_more_visits_is_lighter_in_proportion() -> None:
    """As in the first joined step, where nothing but the weight differs."""
    original, request = remembered()
    found = [
        NablaTau(visits=visits, least_records=400, batch_size=4).unlearn(original, request, Objective.classification())
        for visits in (4.0, 2.0)
    ]
    step = len(found[0].history) // 2
    first, second = ({name: rows[step] for name, rows in each.history.columns.items()} for each in found)
    assert first["shortfall"] == second["shortfall"] > 0
    pushes = [each["loss"] - each["retain_loss"] for each in (first, second)]
    assert pushes[0] == pytest.approx(2 * pushes[1], rel=1e-9)


def test_a_record_above_its_target_is_left_alone() -> None:
    """Unseen records that the model knows by heart: no forget record is below the loss of any of them."""
    original, request = remembered()
    inputs = 3 * noisy_set(80, 5).tensors[0]
    with torch.no_grad():
        easy = TensorDataset(inputs, original(inputs).argmax(dim=1))
    train_set = request.forget_set.dataset
    with torch.no_grad():
        wrong = original(train_set.tensors[0]).argmin(dim=1)  # type: ignore[attr-defined]
    rows = request.forget_set.positions
    labels = train_set.tensors[1].clone()  # type: ignore[attr-defined]
    labels[rows] = wrong[rows]
    hard = TrainingData(TensorDataset(train_set.tensors[0], labels), easy).forget_ids(rows)  # type: ignore[attr-defined]
    settings = {"least_records": 400, "heat": 0.0}
    visited, alone = (
        NablaTau(visits=visits, **settings).unlearn(original, hard, Objective.classification()) for visits in (3.0, 0.0)
    )
    assert visited.history.trained_samples > alone.history.trained_samples
    assert max(visited.history.columns["shortfall"]) == 0
    assert apart(visited.model, alone.model) < 1e-12
    assert apart(visited.model, original) > 1e-3
