"""∇τ on what it may meet: runs that fail and are undone, requests that deserve a word, models and tasks of any kind."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from by_hand import apart, columns, several_labels_request
from nablatau import NablaTau, Objective, Runtime, TrainingData
from nablatau.data import Request
from nablatau.errors import NonFiniteLossError, ObjectiveError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.methods.precautions import loss_of_utility
from nablatau.records import Records
from remembering import noisy_set, remembered
from small import accuracy, random_set, small_network

QUICK = {"least_records": 200}
GRADUAL = 1e9
"""A level of heat that no loss reaches, so that nothing holds a run back that does harm."""


def changed_in_training(change: Callable[[int, Tensor], Tensor]) -> Objective:
    """Classification whose logits are changed where gradients are on; the change knows how many steps came before."""
    count = itertools.count()

    def outputs(model: nn.Module, batch: Any) -> Tensor:
        logits: Tensor = model(batch[0])
        return change(next(count), logits) if torch.is_grad_enabled() else logits

    return Objective.classification(outputs=outputs)


# ---------------------------------------------------------------------- runs that fail


def test_a_run_that_diverges_is_undone_and_run_again_with_a_quarter_of_the_heat() -> None:
    original, request = remembered(batch_norm=True)
    once = changed_in_training(lambda step, logits: logits * (math.nan if step == 15 else 1.0))
    done = NablaTau(**QUICK).unlearn(original, request, once)
    _, failed, account = done.history.notes
    assert failed.startswith("A run with turns of up to 0.08 failed: the loss became no number at step 15.")
    assert "run again with a quarter of the heat" in failed
    assert account.startswith("Mean loss of the 18 forgotten records")
    cooler = NablaTau(turn=0.02, **QUICK).unlearn(original, request, Objective.classification())
    assert weights_digest(done.model) == weights_digest(cooler.model)
    assert done.history.columns["retain_loss"][15:] == cooler.history.columns["retain_loss"]


def test_after_three_runs_that_diverge_the_original_comes_back() -> None:
    request = TrainingData(random_set(90, 1), random_set(80, 2)).forget_fraction(0.2)
    original = small_network(batch_norm=True)  # statistics and dropout among what must come back
    broken = changed_in_training(lambda step, logits: logits * (math.nan if step >= 15 else 1.0))
    done = NablaTau(**QUICK).unlearn(original, request, broken)
    assert weights_digest(done.model) == weights_digest(original)
    assert not any(module.training for module in done.model.modules())
    *failed, last = (note for note in done.history.notes if "failed" in note or "AS IT WAS" in note)
    assert [note.split(" failed")[0] for note in failed] == [
        f"A run with turns of up to {turn}" for turn in ("0.08", "0.02", "0.005")
    ]
    assert "came back AS IT WAS: nothing has been forgotten" in last
    assert len(done.history) == 15


@pytest.mark.parametrize("kind", ["classes", "loss"])
def test_a_run_that_makes_the_model_worse_on_unseen_records_is_undone(kind: str) -> None:
    original, request = remembered()
    data = TrainingData(request.forget_set.dataset, random_set(200, 2, torch.float64))
    objective, what = changed_in_training(lambda _, logits: -logits), "accuracy"
    if kind == "loss":
        asked = objective
        objective = Objective.of_loss(lambda model, batch: asked.loss(model, batch, len(batch[0])))
        what = "mean loss"
    done = NablaTau(turn=0.4, heat=GRADUAL, least_records=600).unlearn(original, data.forget_fraction(0.2), objective)
    failed = [note for note in done.history.notes if "failed" in note]
    assert len(failed) == 3
    assert f"{what} on 100 unseen records went from" in failed[0]
    assert "AS IT WAS" in done.history.notes[-1]
    assert weights_digest(done.model) == weights_digest(original)


def request_for_a_class(*, known: bool) -> tuple[nn.Module, Request]:
    """A request for class 1, to which most of the holdout set belongs."""
    train_set, (inputs, labels) = random_set(90, 1, torch.float64), random_set(400, 2, torch.float64).tensors
    rows = torch.cat([(labels == 1).nonzero()[:, 0], (labels != 1).nonzero()[:60, 0]])
    data = TrainingData(
        train_set,
        TensorDataset(inputs[rows], labels[rows]),
        labels=train_set.tensors[1].tolist(),
        holdout_labels=labels[rows].tolist() if known else None,
    )
    return remembered()[0], data.forget_class(1)


def test_of_a_class_request_the_classes_that_stay_are_judged() -> None:
    """Most of the unseen records are no longer classified rightly, as is wanted."""
    model, request = request_for_a_class(known=True)
    inputs, labels = columns(request.holdout_set)
    assert sorted(request.holdout_kept) == [i for i, label in enumerate(labels.tolist()) if label != 1]
    done = NablaTau(**QUICK).unlearn(model, request, Objective.classification())
    (account,) = [note for note in done.history.notes if "Mean loss" in note or "failed" in note]
    assert account.endswith("quality on unseen records was kept.")
    assert accuracy(model, request.forget_set) > 0.7 > 0.1 > accuracy(done.model, request.forget_set)
    before, after = ((each(inputs).argmax(dim=1) == labels).double() for each in (model, done.model))
    assert loss_of_utility(before, after, 0.0)
    kept = torch.from_numpy(request.holdout_kept)
    wrecking = changed_in_training(lambda _, logits: -logits)
    wrecked = NablaTau(heat=GRADUAL, **QUICK).unlearn(model, request, wrecking)
    assert f"accuracy on {len(kept)} unseen records" in wrecked.history.notes[-2]


def test_of_unknown_holdout_classes_nothing_is_judged_and_the_account_says_so() -> None:
    model, request = request_for_a_class(known=False)
    assert request.holdout_gone is None
    done = NablaTau(**QUICK).unlearn(model, request, Objective.classification())
    assert "whether quality was kept is not known" in done.history.notes[-1]
    assert accuracy(done.model, request.forget_set) < 0.1


# ---------------------------------------------------------------------- what counts as worse


def answers(right: int, wrong: int) -> Tensor:
    return torch.tensor([1.0] * right + [0.0] * wrong, dtype=torch.float64)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (answers(90, 10), answers(90, 10), False),
        (answers(90, 10), answers(60, 40), True),
        (answers(60, 40), answers(90, 10), False),  # better is never worse
        (answers(900, 100), answers(892, 108), False),  # within the point that is tolerated
        (answers(90, 10), answers(88, 12), False),  # which chance could do
        (answers(900, 100), answers(860, 140), True),
        (answers(1, 0), answers(0, 1), False),  # one record says nothing
        (answers(0, 0), answers(0, 0), False),
    ],
)
def test_a_loss_of_accuracy(before: Tensor, after: Tensor, worse: bool) -> None:
    assert bool(loss_of_utility(before, after, 0.0)) == worse


def test_a_loss_of_accuracy_in_words() -> None:
    found = loss_of_utility(answers(90, 10), answers(60, 40), 0.0)
    assert found == "accuracy on 100 unseen records went from 0.900 to 0.600"


def test_a_rise_of_loss() -> None:
    before = -torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = 0.1 * torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spread = float(before.std())
    assert loss_of_utility(before, before - 0.04 * spread, 0.0) == ""
    assert loss_of_utility(before, before + spread + noise, 0.0) == ""
    assert loss_of_utility(before, before - 0.051 * spread - noise + noise.mean(), 0.0) == ""
    found = loss_of_utility(before, before - 0.2 * spread + noise, 0.0)
    assert found.startswith(f"mean loss on 400 unseen records went from {-float(before.mean()):.3f} to ")
    assert loss_of_utility(before, torch.full_like(before, -math.inf), 0.0)
    assert loss_of_utility(before[:1], before[:1] - 9, 0.0) == ""


def test_a_loss_that_was_nothing_is_no_accuracy() -> None:
    found = loss_of_utility(torch.zeros(50), -torch.rand(50), 0.0)
    assert found.startswith("mean loss on 50 unseen records went from")


# ---------------------------------------------------------------------- before any step


@pytest.mark.parametrize("part", ["forget", "retain", "holdout"])
def test_a_loss_that_is_not_finite_is_one_error_before_any_step(part: str, objective: Objective) -> None:
    train_set, holdout_set = random_set(90, 1), random_set(200, 2)
    request = TrainingData(train_set, holdout_set, [f"user {i}" for i in range(90)]).forget_fraction(0.2)
    records: Records = getattr(request, f"{part}_set")
    records.dataset.tensors[0][records.positions[[3, 5]]] = math.nan  # type: ignore[attr-defined]
    named = ", ".join(map(repr, records.ids_at([3, 5])))
    rows: list[dict[str, float]] = []
    with pytest.raises(NonFiniteLossError) as caught:
        NablaTau(**QUICK).unlearn(small_network(), request, objective, on_step=rows.append)
    assert f"{part}_loss is nan at step 0" in str(caught.value)
    assert f"{part}: [{named}]" in str(caught.value)
    assert not rows


def test_labels_without_a_logit_are_the_objectives_error_before_any_step(objective: Objective) -> None:
    inputs, labels = random_set(90, 1).tensors
    labels[7] = 3
    request = TrainingData(TensorDataset(inputs, labels), random_set(80, 2)).forget_ids([7, 8])
    rows: list[dict[str, float]] = []
    with pytest.raises(ObjectiveError, match=r"whole numbers from 0 to 2; this batch has \[.*3"):
        NablaTau(**QUICK).unlearn(small_network(), request, objective, on_step=rows.append)
    assert not rows


# ---------------------------------------------------------------------- notices

SENTENCES = ("unseen records show the method", "More is forgotten", "there is little to forget", "from another source")


def noticed(model: nn.Module, request: Request) -> list[str]:
    """Which of the sentences about a request stand in the notes, whose last is the account of the run."""
    _, *notes, account = NablaTau(**QUICK).unlearn(model, request, Objective.classification()).history.notes
    assert account.startswith("Mean loss of the")
    found = [sentence for sentence in SENTENCES for note in notes if sentence in note]
    assert len(found) == len(notes)
    return found


def test_of_a_sound_request_nothing_is_said() -> None:
    model, request = remembered(0.4)
    assert noticed(model, request) == []


def test_few_unseen_records() -> None:
    model, request = remembered()
    data = TrainingData(request.forget_set.dataset, noisy_set(58, 2))
    assert noticed(model, data.forget_fraction(0.2)) == [SENTENCES[0]]
    enough = TrainingData(request.forget_set.dataset, noisy_set(60, 2))
    assert noticed(model, enough.forget_fraction(0.2)) == []


def test_more_is_forgotten_than_kept() -> None:
    assert noticed(*remembered(0.6)) == [SENTENCES[1]]


def test_what_the_model_does_not_remember() -> None:
    _, request = remembered(0.4)
    fresh = small_network(dtype=torch.float64)
    assert noticed(fresh, request) == [SENTENCES[2]]
    few = TrainingData(request.forget_set.dataset, noisy_set(80, 2)).forget_ids(range(9))
    assert noticed(fresh, few) == []  # of which nine records cannot tell


def test_unseen_records_of_another_kind() -> None:
    model, request = remembered(0.4)
    inputs = noisy_set(80, 2).tensors[0]
    with torch.no_grad():
        model[-1].weight *= 3
        wrong = model(inputs).argmin(dim=1)
    data = TrainingData(request.forget_set.dataset, TensorDataset(inputs, wrong))
    assert noticed(model, data.forget_fraction(0.4)) == [SENTENCES[3]]


# ---------------------------------------------------------------------- tasks and models of any kind


def regression_request() -> Request:
    sets = [
        TensorDataset(inputs, inputs[:, :2].sum(dim=1)) for inputs, _ in (random_set(60, 1)[:], random_set(20, 2)[:])
    ]
    return TrainingData(*sets).forget_fraction(0.2)


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1], reduction="none")


@pytest.mark.parametrize(
    ("request_of", "objective", "model"),
    [
        (regression_request, Objective.regression(), nn.Linear(6, 1)),
        (several_labels_request, Objective.multi_label(), small_network()),
        (lambda: remembered()[1], Objective.of_loss(own_loss), small_network(dtype=torch.float64)),
        (lambda: remembered(1e-9)[1], Objective.classification(), small_network(dtype=torch.float64)),
        (lambda: remembered(0.9)[1], Objective.classification(), small_network(dtype=torch.float64, batch_norm=True)),
        (
            lambda: remembered(89 / 90)[1],
            Objective.classification(),
            small_network(dtype=torch.float64, batch_norm=True),
        ),
    ],
    ids=["regression", "several labels", "own loss", "one record", "more than kept", "one record kept"],
)
def test_any_task_runs(request_of: Callable[[], Request], objective: Objective, model: nn.Module) -> None:
    request = request_of()
    done = NablaTau(**QUICK).unlearn(model, request, objective)
    assert f"Mean loss of the {len(request.forget_set)} forgotten records" in done.history.notes[-1]
    assert all(each.isfinite().all() for each in done.model.state_dict().values())
    assert weights_digest(done.model) != weights_digest(model)


def test_one_unseen_record(objective: Objective) -> None:
    request = TrainingData(random_set(60, 1), random_set(2, 2)).forget_fraction(0.2)
    for each in (objective, Objective.of_loss(own_loss)):
        done = NablaTau(**QUICK).unlearn(small_network(), request, each)
        assert "whether quality was kept is not known" in done.history.notes[-1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_keep_their_type(dtype: torch.dtype, precision: Any, data: TrainingData) -> None:
    objective = Objective.classification(outputs=lambda model, batch: model(batch[0].to(model[0].weight.dtype)))
    model, request = small_network(dtype=dtype), data.forget_fraction(0.2)
    done = NablaTau(**QUICK).unlearn(model, request, objective, runtime=Runtime(precision=precision))
    assert {each.dtype for each in done.model.parameters()} == {dtype}
    assert "failed" not in done.history.notes[-1]
    assert weights_digest(done.model) != weights_digest(model)


@pytest.mark.parametrize(("batch_size", "moves"), [(1, False), (2, True)])
def test_statistics_move_unless_batches_hold_one_record(data: TrainingData, batch_size: int, moves: bool) -> None:
    model = small_network(batch_norm=True)
    settings = NablaTau(batch_size=batch_size, least_records=50)
    done = settings.unlearn(model, data.forget_fraction(0.2), Objective.classification())
    assert torch.equal(done.model[1].running_mean, model[1].running_mean) != moves
    assert not torch.equal(done.model[1].weight, model[1].weight)


def test_parts_of_different_data_sets_are_joined_as_those_of_one() -> None:
    original, whole = remembered()
    forget, retain = (
        Records.all_of(TensorDataset(*columns(each)), each.ids_at(range(len(each))))
        for each in (whole.forget_set, whole.retain_set)
    )
    holdout = whole.holdout_set
    apart_sets = Request(
        forget_set=forget,
        retain_set=retain,
        holdout_set=holdout,
        evaluation_set=None,
        goal="records",
        description={},
    )
    digests = {
        weights_digest(NablaTau(least_records=200).unlearn(original, each, Objective.classification()).model)
        for each in (whole, apart_sets)
    }
    assert len(digests) == 1


def test_the_size_of_evaluation_batches_changes_nothing() -> None:
    original, request = remembered()
    models = [
        NablaTau(least_records=200).unlearn(original, request, Objective.classification(), runtime=runtime).model
        for runtime in (Runtime(), Runtime(evaluation_batch_size=7))
    ]
    assert apart(*models) < 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passes": 0}, "passes must be above 0, not 0"),
        ({"turn": -0.1}, r"turn must be above 0, not -0\.1"),
        ({"least_records": 1.5}, "least_records must be a whole number"),
        ({"batch_size": 0}, "batch_size must be above 0, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"heat": -1}, "heat must be 0 or more, not -1"),
        ({"push": float("nan")}, "push must be 0 or more, not nan"),
        ({"visits": -3}, "visits must be 0 or more"),
        ({"visits": math.inf}, "visits must be finite, not inf"),
        ({"passes": math.inf}, "passes must be finite"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        NablaTau(**settings)


@pytest.mark.parametrize(("lost", "worse"), [(0.09, False), (0.2, True)])
def test_fewer_records_may_cost_what_they_cost_any_model(lost: float, worse: bool) -> None:
    """At 30 % forgotten an error of 0.5 may become 0.5 · 0.7^(−½) = 0.598."""
    before = (torch.arange(4000) % 2 == 0).double()
    after = before.clone()
    after[torch.nonzero(before)[: round(lost * 4000)]] = 0.0
    assert loss_of_utility(before, after, 0.0)
    assert bool(loss_of_utility(before, after, 0.3)) == worse
