"""A cell: from its description to its record, and what a failure leaves."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from bench_work import NUMBERED, TINY
from nablatau.bench import Cell, Grid, make_plan
from nablatau.bench.cell import Place, Record, failure, run_cell
from nablatau.bench.memory import peak_memory
from nablatau.bench.numbers import average_gap, numbers_of
from nablatau.bench.shared_work import SharedWork
from nablatau.errors import NonFiniteLossError
from nablatau.evaluation import AUC_NAME, summarise
from nablatau.evaluation.beside_reference import CALIBRATED_NAME
from nablatau.evidence import Evidence
from nablatau.methods import METHODS
from nablatau.methods.base import Job, Method
from nablatau.objectives import Objective
from nablatau.recipes import Recipe, train
from nablatau.records import Records
from nablatau.results import Evaluation
from nablatau.runtime import Runtime

FIELDS = [
    "format",
    "cell",
    "status",
    "task",
    "request",
    "method",
    "settings",
    "settings_from",
    "tuning",
    "training_seed",
    "unlearning_seed",
    "kind",
    "goal",
    "numbers",
    "verdict",
    "seconds",
    "retrain_seconds",
    "trained_samples",
    "scored_samples",
    "retrain_trained_samples",
    "peak_memory_bytes",
    "evidence",
    "versions",
    "hardware",
    "finished",
]
NUMBERS = ["score_retain", "score_forget", "score_unseen", "score_test", "auc", "rmia_auc", "js_forget", "average_gap"]


@dataclass(frozen=True, kw_only=True)
class Raises(Method):
    """A method that ends in an error."""

    name: ClassVar[str] = "raises"
    source: ClassVar[str] = "test"
    error: ClassVar[Callable[[], BaseException]] = MemoryError

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        raise type(self).error()


@dataclass(frozen=True, kw_only=True)
class Halves(Method):
    """Starts from an original of its own: the mean of two models, one for each half of the records."""

    name: ClassVar[str] = "halves"
    source: ClassVar[str] = "test"

    def own_original(
        self,
        records: Records,
        objective: Objective,
        recipe: Recipe,
        *,
        like: nn.Module,
        seed: int,
        runtime: Runtime | None = None,
    ) -> nn.Module:
        halves = [records.subset(np.arange(start, len(records), 2)) for start in (0, 1)]
        return Pair([train(recipe, half, objective, like=like, seed=seed, runtime=runtime) for half in halves])

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        assert isinstance(model, Pair)
        return model


class Pair(nn.Module):
    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(copy.deepcopy(model) for model in models)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([model(inputs) for model in self.models]).mean(dim=0)


def cells(**changes: Any) -> list[Cell]:
    """Of fine-tuning on the tiny task unless told otherwise, without the recovery checks, which take most of a cell."""
    settings: dict[str, Any] = {"tasks": (TINY,), "requests": ("random:0.2",), "methods": ("finetune",)}
    settings |= {"training_seeds": (0,), "recovery": False}
    return make_plan(Grid(**(settings | changes))).cells


def run(cell: Cell, folder: Path) -> Record:
    record = run_cell(cell, Place(folder=str(folder)))
    return dict(json.loads(json.dumps(record)))


def results(record: Record) -> Record:
    """What must not differ between two runs."""
    return {name: record[name] for name in (*FIELDS[:15], "trained_samples", "scored_samples", "evidence")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that models are trained once for all tests here."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    """Of a cell with all of its parts."""
    return run(cells(recovery=True)[0], folder)


@pytest.fixture
def other_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (Raises, Halves):
        monkeypatch.setitem(METHODS, method.name, method)


def test_a_record_holds_what_it_should(record: Record) -> None:
    assert list(record) == FIELDS
    assert record["status"] == "done"
    assert record["cell"] == cells(recovery=True)[0].digest
    assert list(record["numbers"]) == NUMBERS
    models = {name: set(each) for name, each in record["numbers"].items()}
    everyone = {"original", "unlearned", "retrained", "retrained_again"}
    for name in NUMBERS:
        compared = name in ("rmia_auc", "js_forget", "average_gap")
        assert models[name] == (everyone - {"retrained"} if compared else everyone), name
    for each in record["numbers"].values():
        for number in each.values():
            assert list(number) == ["value", "low", "high", "n", "m", "how"]
            assert number["low"] <= number["value"] <= number["high"]
    assert record["trained_samples"] > 0 < record["retrain_trained_samples"] == 4 * 96
    assert record["peak_memory_bytes"] > 1e6
    assert record["seconds"] > 0 < record["retrain_seconds"]
    assert record["hardware"]["threads"] == 1


def test_the_evidence_makes_the_report_again(record: Record, folder: Path) -> None:
    evaluation = Evaluation.load(folder / record["evidence"])
    assert str(evaluation.verdict.word) == record["verdict"]
    rows = {row.name: row.values for row in evaluation.rows}
    pairs = {"score_test": "Accuracy, test set", "auc": AUC_NAME, "rmia_auc": CALIBRATED_NAME}
    for name, row in pairs.items():
        for model, number in record["numbers"][name].items():
            found = rows[row][model]
            assert found is not None
            assert (found.value, found.low, found.high) == (number["value"], number["low"], number["high"])


def test_a_cell_repeats_whatever_was_there_before(folder: Path, tmp_path: Path) -> None:
    for cell in (cells(methods=("nabla_tau",), recovery=True)[0], cells(methods=("retrain",))[0]):
        assert results(run(cell, folder)) == results(run(cell, folder)) == results(run(cell, tmp_path))


def test_retraining_does_not_repeat_the_reference(folder: Path) -> None:
    record = run(cells(methods=("retrain",))[0], folder)
    gap, floor = (record["numbers"]["average_gap"][model]["value"] for model in ("unlearned", "retrained_again"))
    assert gap > 0 < floor
    assert gap != floor
    assert record["numbers"]["js_forget"]["unlearned"]["value"] > 0


def test_training_and_unlearning_seeds_are_apart(folder: Path) -> None:
    found = [run(cell, folder) for cell in cells(training_seeds=(0, 1), unlearning_seeds=(0, 1), methods=("retrain",))]
    scores = {(r["training_seed"], r["unlearning_seed"]): r["numbers"]["score_forget"] for r in found}
    assert scores[0, 0]["original"] == scores[0, 1]["original"]
    assert scores[0, 0]["retrained"] == scores[0, 1]["retrained"]
    assert len({record["numbers"]["js_forget"]["unlearned"]["value"] for record in found}) == 4


def test_shadow_pipelines_add_their_attack(folder: Path) -> None:
    for method in ("finetune", "nabla_tau"):
        record = run(cells(methods=(method,), shadows=6)[0], folder)
        assert set(record["numbers"]["u_lira_auc"]) == {"original", "unlearned", "retrained", "retrained_again"}
    pools = [place for place in (folder / "artifacts").iterdir() if (place / "5.safetensors").exists()]
    assert len(pools) == 1


@pytest.mark.usefixtures("other_methods")
def test_a_method_may_start_from_an_original_of_its_own(folder: Path) -> None:
    cell = cells(methods=("halves",), shadows=6)[0]
    record = run(cell, folder)
    assert record["status"] == "done", record
    numbers = record["numbers"]["score_retain"]
    assert numbers["original"] == numbers["unlearned"]
    assert numbers["original"] != run(cells()[0], folder)["numbers"]["score_retain"]["original"]
    assert "u_lira_auc" not in record["numbers"]  # shadow models are trained by the recipe, not by the method
    shared = SharedWork.of(cell, folder, Runtime())
    made = Halves().own_original(
        Records.all_of(shared.project.train_set),
        shared.project.objective,
        shared.recipe,
        like=shared.project.model,
        seed=0,
    )
    for name, value in shared.original().state_dict().items():
        assert torch.equal(value, made.state_dict()[name])


@pytest.mark.usefixtures("other_methods")
@pytest.mark.parametrize(
    "error",
    [
        lambda: MemoryError("cannot allocate"),
        lambda: torch.OutOfMemoryError("CUDA out of memory"),
        lambda: OSError(28, "No space left on device"),
        lambda: NonFiniteLossError(3, "loss", float("nan"), {"forget": [1]}),
        lambda: KeyError("a method's own mistake"),
    ],
)
def test_a_failure_is_a_record(
    error: Callable[[], BaseException], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Raises, "error", error)
    record = run(cells(methods=("raises",))[0], folder)
    assert sorted(record) == sorted([*FIELDS, "reason"])
    assert record["status"] == "failed"
    assert record["reason"] == {"type": type(error()).__name__, "message": str(error())}
    assert record["numbers"] == {}
    assert record["verdict"] is None


@pytest.mark.usefixtures("other_methods")
def test_an_interrupt_is_no_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raises, "error", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run(cells(methods=("raises",))[0], folder)


def test_regression_and_small_requests(tmp_path: Path) -> None:
    record = run(cells(tasks=(NUMBERED,), requests=("random:0.05",))[0], tmp_path)
    assert record["status"] == "done", record
    assert list(record["numbers"]) == [name for name in NUMBERS if name != "js_forget"]
    assert record["numbers"]["average_gap"]["unlearned"]["how"] == "mean of 4 gaps"


def test_a_failure_has_the_fields_of_a_record() -> None:
    assert set(failure(cells()[0], "WorkerLost", "killed")) == {*FIELDS, "reason"}


# ---------------------------------------------------------------------- numbers


def naive_average_gap(evidence: Evidence, model: str) -> float:
    """Mean of |difference| of three accuracies, and of the distance of the calibrated AUC from 0.5."""
    gaps = []
    for split in ("retain", "forget", "test"):
        ours, theirs = evidence.scores[model][split], evidence.scores["retrained"][split]
        gaps.append(abs(ours["correct"].mean() - theirs["correct"].mean()))
    rows = {row.name: row.values for row in summarise(evidence)}
    calibrated = rows[CALIBRATED_NAME][model]
    assert calibrated is not None
    return float(np.mean([*gaps, abs(calibrated.value - 0.5)]))


def test_the_average_gap_is_what_it_says(record: Record, folder: Path) -> None:
    evidence = Evidence.load(folder / record["evidence"])
    found = numbers_of(evidence)["average_gap"]
    for model in ("original", "unlearned", "retrained_again"):
        assert found[model]["value"] == pytest.approx(naive_average_gap(evidence, model))


def test_the_average_gap_of_equal_parts_has_their_width() -> None:
    found = average_gap([(0.1, 0.02)])
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.high - found.value == pytest.approx(0.02, rel=0.02)  # |Z| < 1.96 in 95 %, by simulation
    assert average_gap([]) is None
    both = average_gap([(0.0, 0.02), (0.0, 0.02)])
    assert both is not None
    assert both.low == 0
    assert 0.01 < both.high < 0.02


def test_peak_memory_sees_what_was_freed() -> None:
    with peak_memory(torch.device("cpu")) as small:
        pass
    with peak_memory(torch.device("cpu")) as large:
        np.ones(100_000_000, dtype=np.uint8)
    assert large.size - small.size > 50_000_000


def test_cells_of_another_precision_are_others(folder: Path) -> None:
    cell = cells()[0]
    assert (
        SharedWork.of(cell, folder, Runtime())
        .parts()
        .keys()
        .isdisjoint(SharedWork.of(replace(cell, precision="bf16"), folder, Runtime()).parts())
    )


def test_a_cell_leaves_the_number_of_threads_alone(folder: Path) -> None:
    torch.set_num_threads(2)
    assert run(cells(threads=1)[0], folder)["hardware"]["threads"] == 1
    assert torch.get_num_threads() == 2
