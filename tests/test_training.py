"""The loop: same bits from the same seed, modes, clipping, precision, and a stop at a loss that is no number."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from nablatau import Finetune, Objective, PublishedNablaTau, Recipe, Runtime, TrainingData
from nablatau.errors import NonFiniteLossError, ObjectiveError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.history import History, Step
from nablatau.loading import Loader, RecordBatch, resident
from nablatau.modes import in_mode
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.runtime import isolated_randomness, random_generator
from nablatau.training import linear_decay, mean_loss, run_steps, values_of
from small import random_set, small_network

RECIPE = Recipe(epochs=3, learning_rate=0.1, batch_size=16, build=lambda: small_network(batch_norm=True))


class Listed(Dataset[Any]):
    """The same records one by one, as a data set that reads files would give them."""

    def __init__(self, source: TensorDataset) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> Any:
        return self.source[position]


def test_the_same_seed_gives_the_same_bits(objective: Objective) -> None:
    records = Records.all_of(random_set(50, 1))
    digests = [weights_digest(train(RECIPE, records, objective, seed=seed)) for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_one_by_one_gives_the_same_bits_as_reading_tensors(objective: Objective, workers: int) -> None:
    source = random_set(50, 1)
    fast = train(RECIPE, Records.all_of(source), objective, seed=0)
    slow = train(RECIPE, Records.all_of(Listed(source)), objective, seed=0, runtime=Runtime(workers=workers))
    assert weights_digest(fast) == weights_digest(slow)


def test_the_callers_generators_are_left_alone(objective: Objective) -> None:
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    train(RECIPE, Records.all_of(random_set(20, 1)), objective, seed=0)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_randomness_is_put_back_after_an_error() -> None:
    state = torch.get_rng_state()

    def fail_inside() -> None:
        with isolated_randomness(1):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.equal(state, torch.get_rng_state())


def test_streams_are_independent_of_each_other() -> None:
    draws = {
        (seed, stream): tuple(torch.rand(3, generator=random_generator(seed, stream)).tolist())
        for seed in (0, 1)
        for stream in ("forget batches", "retain batches")
    }
    assert len(set(draws.values())) == 4


def test_a_pass_holds_every_record_once(objective: Objective) -> None:
    loader = Loader(
        Records.all_of(random_set(23, 1)),
        objective,
        batch_size=5,
        device=torch.device("cpu"),
        generator=random_generator(0, "order"),
    )
    passes = [[batch.positions for batch in loader] for _ in range(2)]
    assert [len(batch) for batch in passes[0]] == [5, 5, 5, 5, 3]
    assert passes[0] != passes[1]
    for each in passes:
        assert sorted(position for batch in each for position in batch) == list(range(23))
    assert len(loader) == 5


def test_mean_loss_is_the_mean_over_examples_and_not_over_batches(objective: Objective, model: nn.Module) -> None:
    records = Records.all_of(random_set(23, 1))
    whole = objective.loss(model, records.dataset.tensors, 23).mean()  # type: ignore[attr-defined]
    for batch_size in (4, 23):
        loader = Loader(records, objective, batch_size=batch_size, device=torch.device("cpu"))
        assert mean_loss(model, loader, Runtime()) == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("batch_size", [4, 23])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_value_of_each_record_in_the_order_of_the_records(
    objective: Objective, batch_size: int, shuffled: bool
) -> None:
    model, records = small_network(batch_norm=True).train(), Records.all_of(random_set(30, 1)).subset(range(25, 2, -1))
    loader = Loader(
        records,
        objective,
        batch_size=batch_size,
        device=torch.device("cpu"),
        generator=random_generator(0, "order") if shuffled else None,
    )
    statistics = statistics_of(model)

    def largest(model: nn.Module, batch: RecordBatch) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return model(batch.data[0]).max(dim=1).values

    found = values_of(model, loader, Runtime(), largest)
    assert model.training
    assert (found.dtype, found.shape) == (torch.float64, (23,))
    assert all(torch.equal(*pair) for pair in zip(statistics, statistics_of(model), strict=True))
    model.eval()
    for value, position in zip(found, range(23), strict=True):
        assert value.item() == pytest.approx(model(records[position][0][None]).max().item(), rel=1e-5)


def test_values_may_be_answers_and_records_may_be_none(objective: Objective) -> None:
    records = Records.all_of(random_set(9, 1))
    for chosen in (records, records.subset([])):
        loader = Loader(chosen, objective, batch_size=4, device=torch.device("cpu"))
        found = values_of(small_network(), loader, Runtime(), lambda _, batch: batch.data[1] == 2)
        assert found.tolist() == [float(chosen[i][1] == 2) for i in range(len(chosen))]


def test_a_group_with_a_scale_takes_that_many_times_the_rate(objective: Objective) -> None:
    model = small_network()
    before = [each.detach().clone() for each in model.parameters()]
    first, *others = model.parameters()
    optimizer = torch.optim.SGD([{"params": [first], "scale": 0.25}, {"params": others}], lr=9.0)
    (batch,) = Loader(Records.all_of(random_set(9, 1)), objective, batch_size=9, device=torch.device("cpu"))

    def step_loss(model: nn.Module, step: Step) -> dict[str, torch.Tensor]:
        return {"loss": sum((each.sum() for each in model.parameters()), torch.zeros(()))}

    run_steps(
        model,
        [Step({"train": batch}, 0.5), Step({"train": batch}, 0.1)],
        step_loss,
        optimizer,
        runtime=Runtime(),
        device=torch.device("cpu"),
        mode="eval",
        history=(history := History()),
        total=2,
    )
    for old, new, scale in zip(before, model.parameters(), [0.25, 1.0, 1.0, 1.0], strict=True):
        assert torch.allclose(old - new, torch.full_like(old, 0.6 * scale), atol=1e-6)
    assert history.columns["learning_rate"] == [0.5, 0.1]


def test_every_module_gets_its_own_mode_back() -> None:
    model = small_network(batch_norm=True).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with in_mode(model, "eval"):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


def statistics_of(model: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


@pytest.mark.parametrize("method", [PublishedNablaTau, Finetune])
def test_eval_mode_freezes_statistics_and_trains_their_weights(
    data: TrainingData, objective: Objective, method: type[PublishedNablaTau | Finetune]
) -> None:
    model = train(RECIPE, Records.all_of(data.train_set), objective, seed=0)
    request = data.forget_fraction(0.2)
    frozen = method(mode="eval").unlearn(model, request, objective).model
    moving = method(mode="train").unlearn(model, request, objective).model
    for before, after in zip(statistics_of(model), statistics_of(frozen), strict=True):
        assert torch.equal(before, after)
    assert not torch.equal(model[1].weight, frozen[1].weight)
    assert not torch.equal(model[1].running_mean, moving[1].running_mean)
    assert not any(module.training for module in moving.modules())


def test_dropout_draws_only_in_train_mode(data: TrainingData, objective: Objective) -> None:
    model, request = small_network(batch_norm=True), data.forget_fraction(0.2)
    order = torch.randperm(72, generator=random_generator(0, "retain batches"))[:8]
    inputs, labels = (torch.stack(part) for part in zip(*(request.retain_set[i] for i in order.tolist()), strict=True))
    first = {
        mode: Finetune(mode=mode, batch_size=8).unlearn(model, request, objective).history.columns["retain_loss"]
        for mode in ("eval", "train")
    }
    without_dropout = nn.functional.cross_entropy(model(inputs), labels).item()
    assert first["eval"][0] == without_dropout
    assert first["train"][0] != without_dropout
    again = Finetune(mode="train", batch_size=8).unlearn(model, request, objective).history.columns["retain_loss"]
    assert again == first["train"]


def test_a_loss_that_is_no_number_stops_with_step_and_records(data: TrainingData, objective: Objective) -> None:
    inputs, labels = data.train_set.tensors  # type: ignore[attr-defined]
    inputs = inputs.clone()
    inputs[11] = float("nan")
    names = [f"record {i}" for i in range(90)]
    broken = TrainingData(TensorDataset(inputs, labels), data.holdout_set, names)
    with pytest.raises(NonFiniteLossError, match=r"^(retain_)?loss is nan") as caught:
        Finetune(batch_size=8).unlearn(small_network(), broken.forget_ids(["record 0"]), objective)
    assert "record 11" in caught.value.record_ids["retain"]
    assert f"at step {caught.value.step}" in str(caught.value)
    assert len(caught.value.record_ids["retain"]) <= 8


def test_clipping_bounds_the_step(data: TrainingData, objective: Objective) -> None:
    recipe = Recipe(epochs=1, learning_rate=1.0, batch_size=90, momentum=0, weight_decay=0, build=small_network)
    records = Records.all_of(data.train_set)
    start, clipped = small_network(), train(recipe, records, objective, seed=0, runtime=Runtime(clip_norm=0.01))
    moved = sum((a - b).square().sum().item() for a, b in zip(start.parameters(), clipped.parameters(), strict=True))
    assert moved**0.5 == pytest.approx(0.01, rel=1e-3)


def test_bf16_trains_and_keeps_the_weights_in_fp32(data: TrainingData, objective: Objective) -> None:
    recipe = Recipe(epochs=10, learning_rate=0.1, batch_size=16, build=small_network)
    records = Records.all_of(data.train_set)
    losses = {}
    for precision in ("fp32", "bf16"):
        runtime = Runtime(precision=precision)  # type: ignore[arg-type]
        model = train(recipe, records, objective, seed=0, runtime=runtime)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        loader = Loader(records, objective, batch_size=90, device=torch.device("cpu"))
        losses[precision] = mean_loss(model, loader, Runtime())
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)
    assert losses["bf16"] != losses["fp32"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp8"}, "precision must be"),
        ({"clip_norm": 0}, "clip_norm must be above 0"),
        ({"workers": -1}, "workers must be 0 or more"),
        ({"evaluation_batch_size": 0}, "evaluation_batch_size must be 1"),
    ],
)
def test_impossible_runtimes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Runtime(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, not 0"),
        ({"learning_rate": -1}, "learning_rate must be above 0"),
        ({"optimizer": "adam"}, "'sgd' or 'adamw'"),
        ({"final_fraction": 2}, "final_fraction must lie in"),
    ],
)
def test_impossible_recipes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Recipe(**({"epochs": 1, "learning_rate": 0.1} | settings))


def test_fresh_weights_need_a_way_to_be_drawn(objective: Objective) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :3] * self.scale

    records = Records.all_of(random_set(9, 1))
    recipe = Recipe(epochs=1, learning_rate=0.1)
    with pytest.raises(SettingsError, match=r"holds weights and has no reset_parameters.*build="):
        train(recipe, records, objective, like=Scaled(), seed=0)
    with pytest.raises(SettingsError, match=r"pass Recipe\(build=…"):
        train(recipe, records, objective, seed=0)
    old = small_network(batch_norm=True)
    fresh = recipe.fresh_model(old)
    assert weights_digest(fresh) != weights_digest(old) == weights_digest(small_network(batch_norm=True))


def test_progress_is_drawn_on_request(
    data: TrainingData, objective: Objective, model: nn.Module, capfd: pytest.CaptureFixture[str]
) -> None:
    request = data.forget_fraction(0.2)
    Finetune().unlearn(model, request, objective)
    assert capfd.readouterr() == ("", "")
    Finetune().unlearn(model, request, objective, runtime=Runtime(progress=True))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "fine-tuning" in shown.err


def test_linear_decay() -> None:
    assert [linear_decay(1.0, 0.0, i, 4) for i in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_a_data_set_of_ones_own_is_read_through_its_own_method(objective: Objective) -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, position: Any) -> Any:
            inputs, label = super().__getitem__(position)
            return inputs * 2, label

    records = Records.all_of(Doubled(*random_set(10, 1).tensors))
    batch = next(iter(Loader(records, objective, batch_size=10, device=torch.device("cpu"))))
    assert torch.equal(batch.data[0], random_set(10, 1).tensors[0] * 2)


class Noisy(Dataset[Any]):
    """Random transforms from every generator that a user's data set may draw from."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, position: int) -> Any:
        return torch.tensor([torch.rand(1).item(), np.random.rand(), random.random()]), 0


@pytest.mark.parametrize("workers", [0, 2])
def test_random_transforms_differ_between_passes_and_seeds_and_repeat_with_the_seed(
    objective: Objective, workers: int
) -> None:
    def two_passes(seed: int) -> list[torch.Tensor]:
        with isolated_randomness(seed):
            loader = Loader(
                Records.all_of(Noisy()), objective, batch_size=6, device=torch.device("cpu"), workers=workers
            )
            return [next(iter(loader)).data[0] for _ in range(2)]

    first, second = two_passes(0)
    again, other = two_passes(0), two_passes(1)
    columns = slice(0, 3) if workers == 0 else slice(0, 1)  # torch seeds its own generator in reading processes
    assert torch.equal(first[:, columns], again[0][:, columns])
    assert (first[:, columns] != second[:, columns]).any(dim=0).all()
    assert (first[:, columns] != other[0][:, columns]).any(dim=0).all()


def test_a_last_batch_of_one_record_does_not_break_batch_norm(data: TrainingData, objective: Objective) -> None:
    records = Records.all_of(random_set(33, 1))
    recipe = Recipe(epochs=1, learning_rate=0.1, batch_size=16, build=lambda: small_network(batch_norm=True))
    assert train(recipe, records, objective, seed=0)
    loader = Loader(records, objective, batch_size=16, device=torch.device("cpu"), merge_single=True)
    assert [batch.size for batch in loader] == [16, 17]
    assert len(loader) == 2
    request = data.forget_ids([3])
    with pytest.raises(SettingsError, match="Use mode='eval'"):
        PublishedNablaTau(mode="train").unlearn(small_network(batch_norm=True), request, objective)
    assert PublishedNablaTau(mode="train").unlearn(small_network(), request, objective)


def test_tau_is_measured_in_eval_mode_whatever_the_mode_of_the_steps(data: TrainingData, objective: Objective) -> None:
    model, request = small_network(batch_norm=True), data.forget_fraction(0.2)
    done = PublishedNablaTau(mode="train").unlearn(model, request, objective)
    inputs, labels = data.holdout_set.tensors  # type: ignore[union-attr]
    unseen = request.holdout_set.positions
    expected = nn.functional.cross_entropy(model(inputs[unseen]), labels[unseen]).item()
    assert done.history.columns["tau"][0] == pytest.approx(expected, rel=1e-6)


def test_fp16_scales_the_loss(data: TrainingData, objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[float] = []
    original = torch.amp.GradScaler.step

    def step(self: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> float | None:
        scales.append(self.get_scale())
        return original(self, optimizer)

    monkeypatch.setattr(torch.amp.GradScaler, "step", step)
    request = data.forget_fraction(0.2)
    Finetune().unlearn(small_network(), request, objective, runtime=Runtime(precision="fp16"))
    assert min(scales) > 1
    scales.clear()
    Finetune().unlearn(small_network(), request, objective)
    assert set(scales) == {1.0}


def test_frozen_parts_are_not_redrawn(objective: Objective) -> None:
    model = small_network()
    model[0].requires_grad_(False)
    with pytest.raises(SettingsError, match="2 parameters do not require a gradient"):
        train(Recipe(epochs=1, learning_rate=0.1), Records.all_of(random_set(9, 1)), objective, like=model, seed=0)


def test_models_that_cannot_be_copied_are_named(data: TrainingData, objective: Objective) -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)
            self.cache: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cache = self.linear(x)
            return self.cache

    model = Caching()
    model(torch.zeros(1, 6))
    with pytest.raises(SettingsError, match="cannot be copied, and it must not be changed"):
        Finetune().unlearn(model, data.forget_fraction(0.1), objective)


def test_labels_without_a_logit(objective: Objective) -> None:
    inputs = random_set(20, 1).tensors[0]
    for labels, shown in ((torch.full((20,), 3), r"\[3\]"), (torch.full((20,), -1), r"\[-1\]")):
        data = TrainingData(TensorDataset(inputs, labels), random_set(10, 2))
        with pytest.raises(ObjectiveError, match=f"from 0 to 2; this batch has {shown}"):
            Finetune().unlearn(small_network(), data.forget_ids([1]), objective)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(SettingsError, match=f"device '{device}' cannot be used"):
        Runtime(device=device)


def test_a_tensor_data_set_is_copied_to_an_accelerator_once_and_again_when_it_changed() -> None:
    dataset, cpu, elsewhere = random_set(8, 1), torch.device("cpu"), torch.device("meta")
    assert resident(dataset, cpu) is dataset.tensors
    copy = resident(dataset, elsewhere)
    assert [column.device.type for column in copy] == ["meta", "meta"]
    assert resident(dataset, elsewhere) is copy
    dataset.tensors[0].add_(1)
    assert resident(dataset, elsewhere) is not copy
