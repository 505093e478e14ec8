"""∇τ as published: step counts, ten steps against a naive loop bit for bit, α₀ = 0, and the schedule's edges."""

import copy
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, relu

from nablatau import Finetune, Objective, PublishedNablaTau, TrainingData
from nablatau.errors import SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.methods.nabla_tau_paper import initial_alpha, nabla_tau_loss, paper, paper_text
from nablatau.methods.schedule import forget_epochs, retain_pass_period
from nablatau.objectives import call_model
from nablatau.runtime import random_generator
from small import random_set, small_network


@pytest.mark.parametrize(
    ("share", "retain", "forget", "epochs", "steps", "work"),
    [(0.03, 190, 6, 95, 570, 0.120), (0.15, 167, 30, 16, 480, 0.116), (0.30, 137, 59, 6, 354, 0.104)],
)
def test_published_step_counts(share: float, retain: int, forget: int, epochs: int, steps: int, work: float) -> None:
    forgotten = round(50_000 * share)
    settings = paper()
    assert -(-(50_000 - forgotten) // settings.batch_size) == retain
    assert -(-forgotten // settings.batch_size) == forget
    assert forget_epochs(retain, forget, settings.budget) == epochs
    assert epochs * forget == steps
    retraining = 50 * (50_000 - forgotten)
    assert steps * 2 * settings.batch_size / retraining == pytest.approx(work, abs=5e-4)


@pytest.mark.parametrize(("share", "steps"), [(0.03, 570), (0.15, 480), (0.30, 354)])
def test_published_step_counts_are_those_that_are_taken(share: float, steps: int) -> None:
    data = TrainingData(random_set(50_000, 1), random_set(20, 2), check_content=False)
    done = paper().unlearn(small_network(), data.forget_fraction(share), Objective.classification())
    assert len(done.history) == steps
    assert done.history.columns["alpha"][0] == pytest.approx(5 / 3 * share)


def test_the_alpha_rule() -> None:
    assert initial_alpha(1500, 50_000) == pytest.approx(0.05)
    assert initial_alpha(15_000, 50_000) == pytest.approx(0.5)
    assert initial_alpha(45_000, 50_000) == 1.0  # capped: 1.5 would weigh the retain term by −0.5


def naive_nabla_tau(model: Any, request: Any, size: int, seed: int, steps: int) -> None:
    """Section 1 of the paper's algorithm, written out; the model is changed in place."""
    forget, retain = (Shuffled(r, size, random_generator(seed, w)) for r, w in parts_of(request))
    epochs, period = int(len(retain) / (2 * len(forget)) * 6), len(retain) // len(forget)
    optimizer, x_unseen, y_unseen = torch.optim.AdamW(model.parameters(), lr=1e-3), *columns(request.holdout_set)
    forget_pass, retain_pass, tau = iter(()), iter(()), 0.0
    for step in range(steps):
        epoch, first = step // len(forget), step % len(forget) == 0
        forget_pass = forget.one_pass() if first else forget_pass
        retain_pass = retain.one_pass() if first and epoch % period == 0 else retain_pass
        if first and epoch % 5 == 0:
            tau = cross_entropy(model(x_unseen), y_unseen, reduction="none").mean().item()
        (x, y), (x_retain, y_retain) = next(forget_pass), next(retain_pass)
        alpha = 5 / 3 * len(request.forget_set) / request.training_size * (1 - epoch / epochs)
        optimizer.param_groups[0]["lr"] = 1e-3 + (1e-4 - 1e-3) * (epoch / epochs)
        ascent = relu(tau - cross_entropy(model(x), y)) ** 2
        loss = alpha * ascent + (1 - alpha) * cross_entropy(model(x_retain), y_retain)
        optimizer.zero_grad(), loss.backward(), optimizer.step()


def parts_of(request: Any) -> list[tuple[Any, str]]:
    return [(request.forget_set, "forget batches"), (request.retain_set, "retain batches")]


def columns(records: Any) -> tuple[torch.Tensor, torch.Tensor]:
    examples = [records[i] for i in range(len(records))]
    return torch.stack([x for x, _ in examples]), torch.stack([y for _, y in examples])


class Shuffled:
    """Passes over records in random order, batch by batch."""

    def __init__(self, records: Any, size: int, generator: torch.Generator) -> None:
        self.inputs, self.labels = columns(records)
        self.size, self.generator = size, generator

    def __len__(self) -> int:
        return -(-len(self.labels) // self.size)

    def one_pass(self) -> Any:
        order = torch.randperm(len(self.labels), generator=self.generator)
        return ((self.inputs[each], self.labels[each]) for each in order.split(self.size))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_ten_steps_equal_a_naive_loop_bit_for_bit(share: float) -> None:
    train, holdout = random_set(120, 1, torch.float64), random_set(40, 2, torch.float64)
    request = TrainingData(train, holdout).forget_fraction(share, seed=3)
    original = small_network(seed=4, dtype=torch.float64)
    naive, settings = copy.deepcopy(original), PublishedNablaTau(batch_size=8)
    naive_nabla_tau(naive, request, 8, seed=9, steps=10)

    asked: list[Any] = []

    def outputs(model: Any, batch: Any) -> torch.Tensor:
        asked.append(model)  # the working copy, which is not handed out when a run stops early
        return call_model(model, batch)

    def stop_after_ten(row: dict[str, float]) -> None:
        if row["step"] == 9:
            raise _EnoughError

    objective = Objective.classification(outputs=outputs)
    with pytest.raises(_EnoughError):
        settings.unlearn(original, request, objective, seed=9, on_step=stop_after_ten)
    assert asked[0] is not original
    for ours, theirs in zip(asked[0].parameters(), naive.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_alpha_zero_is_finetuning_step_for_step(data: TrainingData, objective: Objective, share: float) -> None:
    request, model = data.forget_fraction(share), small_network(batch_norm=True)
    ascent = PublishedNablaTau(alpha=0.0, batch_size=8).unlearn(model, request, objective, seed=2)
    plain = Finetune(batch_size=8).unlearn(model, request, objective, seed=2)
    assert ascent.history.columns["retain_loss"] == plain.history.columns["retain_loss"]
    assert weights_digest(ascent.model) == weights_digest(plain.model)


def test_the_loss_against_the_formula() -> None:
    for forget, tau in ((0.2, 0.7), (0.9, 0.7)):
        found = nabla_tau_loss(torch.tensor(forget), torch.tensor(0.4), tau, 0.3)
        assert float(found) == pytest.approx(0.3 * max(0.0, tau - forget) ** 2 + 0.7 * 0.4)


def test_history_records_the_schedule(data: TrainingData, objective: Objective) -> None:
    done = PublishedNablaTau(batch_size=8, tau_every=2).unlearn(small_network(), data.forget_fraction(0.1), objective)
    columns = done.history.columns
    epochs = int(max(columns["epoch"])) + 1
    assert columns["alpha"][0] == pytest.approx(5 / 3 * 0.1)
    assert columns["alpha"][-1] == pytest.approx(5 / 3 * 0.1 / epochs)
    assert columns["learning_rate"][0] == 1e-3 > columns["learning_rate"][-1] > 1e-4
    measured = [
        len({t for t, e in zip(columns["tau"], columns["epoch"], strict=True) if e == i}) for i in range(epochs)
    ]
    assert set(measured) == {1}
    assert len(set(columns["tau"])) == -(-epochs // 2)
    assert done.history.scored_samples == 20 * -(-epochs // 2)
    active = [float(t > f) for t, f in zip(columns["tau"], columns["forget_loss"], strict=True)]
    assert columns["active_hinge"] == active
    assert done.history.active_hinge_share == pytest.approx(sum(active) / len(active))


def test_more_forgotten_than_kept() -> None:
    assert forget_epochs(3, 10, 6.0) == 1
    assert retain_pass_period(3, 10) == 1


def test_the_hinge_never_pulls_loss_down(data: TrainingData, objective: Objective) -> None:
    """With α = 1 and a forget loss above τ there is no gradient at all."""
    model = small_network()
    with torch.no_grad():
        model[2].bias += torch.tensor([5.0, 0.0, -5.0])
    request = data.forget_class(2)
    settings = PublishedNablaTau(alpha=1.0, weight_decay=0.0, budget=0.1)
    done = settings.unlearn(model, request, objective)
    assert done.history.columns["active_hinge"] == [0.0] * len(done.history)
    first = done.history.columns["step"][0]
    assert first == 0
    assert weights_digest(done.model) == weights_digest(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, r"alpha must lie in 0 … 1, or be None for the published rule, not 1\.5"),
        ({"budget": 0}, "budget must be above 0, not 0"),
        ({"batch_size": -2}, "batch_size must be above 0"),
        ({"tau_every": 0}, "tau_every must be above 0"),
        ({"mode": "test"}, "mode must be 'train' or 'eval'"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PublishedNablaTau(**settings)


def test_the_text_preset() -> None:
    settings = paper_text()
    assert (settings.alpha, settings.budget, settings.batch_size, settings.mode) == (0.5, 1.0, 128, "train")
    assert settings.learning_rate == settings.final_learning_rate == 3e-4
