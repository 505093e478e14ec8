"""The plan: which cells a grid has, what they are known by, and what is refused before any work."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from bench_work import THREE, TINY
from nablatau import Finetune, NablaTau
from nablatau.bench import Grid, make_plan
from nablatau.bench.plan import Cell, derived_seed, label_of, load_grid
from nablatau.bench.shared_work import SharedWork
from nablatau.errors import ProjectError, RequestError, SettingsError
from nablatau.methods import METHODS
from nablatau.methods.base import Job, Method, Need, Tunable
from nablatau.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class ForClasses(Method):
    """A method that removes classes only, with a setting to tune."""

    name: ClassVar[str] = "for_classes"
    source: ClassVar[str] = "test"
    needs: ClassVar[frozenset[Need]] = frozenset({"class request"})
    tunable: ClassVar[dict[str, Tunable]] = {"strength": Tunable(low=0.1, high=1.0)}
    strength: float = 0.5

    def _run(self, model, job: Job):  # type: ignore[no-untyped-def]
        return model


@pytest.fixture
def for_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "for_classes", ForClasses)


def grid(**changes: object) -> Grid:
    return Grid(**({"tasks": (TINY,), "requests": ("random:0.1",), "methods": ("finetune",)} | changes))  # type: ignore[arg-type]


def ids(cell: Cell, folder: Path) -> list[object]:
    request = SharedWork.of(cell, folder, Runtime()).request
    return request.forget_set.ids_at(range(len(request.forget_set)))


def test_every_combination_is_a_cell() -> None:
    plan = make_plan(
        grid(
            requests=("random:0.1", "class:2", "group:person 3"),
            methods=("finetune", "nabla_tau"),
            training_seeds=(0, 1),
            unlearning_seeds=(0, 1, 2),
        )
    )
    assert len(plan.cells) == len({cell.digest for cell in plan.cells}) == 3 * 2 * 2 * 3
    assert [cell.training_seed for cell in plan.cells] == [0] * 18 + [1] * 18  # a benchmark stopped has whole seeds
    assert plan.left_out == {}


def test_a_digest_covers_everything(tmp_path: Path) -> None:
    cell = make_plan(grid()).cells[0]
    changes: dict[str, object] = {
        "task": "digits",
        "request": "random:0.2",
        "settings": Finetune(budget=1.0).settings(),
        "settings_from": "tuned",
        "configurations": 3,
        "training_seed": 7,
        "unlearning_seed": 7,
        "shadows": 16,
        "recovery": False,
        "precision": "bf16",
        "threads": 2,
        "content": "other",
        "version": "0.0.0",
    }
    assert changes.keys() == cell.__dataclass_fields__.keys()
    digests = {replace(cell, **{name: value}).digest for name, value in changes.items()}  # type: ignore[arg-type]
    assert len(digests | {cell.digest}) == len(changes) + 1
    assert replace(cell).digest == cell.digest


def test_a_list_of_ids_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    digests = []
    for content in ("3\n14\n15\n", "3\n14\n16\n"):
        file.write_text(content)
        digests.append(make_plan(grid(requests=(f"ids:{file}",))).cells[0].digest)
    assert digests[0] != digests[1]


def test_all_methods_forget_the_same_records(tmp_path: Path) -> None:
    cells = make_plan(grid(methods=THREE, training_seeds=(0, 1))).cells
    drawn = {(cell.training_seed, tuple(ids(cell, tmp_path))) for cell in cells}
    assert len(cells) == 2 * len(THREE)
    assert len(drawn) == 2
    assert len({records for _, records in drawn}) == 2


def test_seeds_of_different_uses_are_apart() -> None:
    uses = ("retrained", "retrained_again", "shadows", "tuning", "unlearning")
    seeds = {derived_seed(use, training, *more) for use in uses for training in range(20) for more in ((), (0,), (1,))}
    assert len(seeds) == len(uses) * 20 * 3
    assert not seeds & set(range(1000))
    assert derived_seed("unlearning", 0, 1) != derived_seed("unlearning", 1, 0)


def test_all_methods_that_apply_unless_some_are_named() -> None:
    plan = make_plan(grid(methods=(), training_seeds=(0,)))
    left_out = {place.partition(" on ")[0] for place in plan.left_out}
    assert {cell.method for cell in plan.cells} == METHODS.keys() - left_out
    assert {"nabla_tau", "finetune", "retrain"} <= {cell.method for cell in plan.cells}


@pytest.mark.usefixtures("for_classes")
def test_what_does_not_go_together_is_left_out() -> None:
    plan = make_plan(grid(requests=("random:0.1", "class:1"), methods=("for_classes", "finetune")))
    assert [(cell.method, cell.request) for cell in plan.cells[:3]] == [
        ("finetune", "random:0.1"),
        ("for_classes", "class:1"),
        ("finetune", "class:1"),
    ]
    assert "random 10 %" in next(iter(plan.left_out))
    with pytest.raises(SettingsError, match="for_classes applies to none of the requests"):
        make_plan(grid(methods=("for_classes",)))


@pytest.mark.usefixtures("for_classes")
def test_tuned_cells_stand_beside_the_defaults() -> None:
    cells = make_plan(
        grid(requests=("class:1",), methods=("for_classes", "finetune"), tune=5, training_seeds=(0,))
    ).cells
    tuned = [(cell.method, cell.settings_from, cell.configurations) for cell in cells if cell.method == "for_classes"]
    assert tuned == [("for_classes", "default", 0), ("for_classes", "tuned", 5)]
    own = make_plan(grid(requests=("class:1",), methods=(ForClasses(strength=0.7), ForClasses()), training_seeds=(0,)))
    assert [(cell.settings["strength"], cell.settings_from) for cell in own.cells] == [(0.7, "given"), (0.5, "default")]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tasks": ("digit",)}, ProjectError, "no task 'digit'. Did you mean digits?"),
        ({"tasks": (TINY.replace("tiny", "absent"),)}, ProjectError, "has no function absent"),
        ({"tasks": (TINY.replace("tiny", "nothing"),)}, ProjectError, "returned a NoneType"),
        ({"tasks": (TINY.replace("tiny", "no_recipe"),)}, SettingsError, "recipe"),
        ({"requests": ("randon:0.1",)}, RequestError, "no request 'randon:0.1'. Did you mean random:0.1?"),
        ({"requests": ("random:",)}, RequestError, "Known: random:0.1, class:3"),
        ({"requests": ("random:ten",)}, RequestError, "Write random:0.1 for 10 %"),
        ({"requests": ("random:10",)}, RequestError, "fraction must lie above 0 and below 1"),
        ({"requests": ("class:9",)}, RequestError, "Known: "),
        ({"methods": ("finetuned",)}, SettingsError, "no method 'finetuned'. Did you mean finetune?"),
        ({"methods": ("finetune", Finetune(), "finetune")}, SettingsError, "repeat"),
        ({"requests": ()}, SettingsError, "no requests"),
        ({"shadows": 3}, SettingsError, "6 or more"),
        ({"tune": -1}, SettingsError, "tune must be"),
    ],
)
def test_mistakes_show_before_any_work(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("?", r"\?")):
        make_plan(grid(**changes))


def test_a_grid_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "study.py"
    file.write_text(
        "import nablatau\nfrom nablatau.bench import Grid\n"
        "grid = Grid(tasks=('digits',), requests=('random:0.1',), methods=(nablatau.NablaTau(turn=0.02), 'finetune'))\n"
        "def made(): return grid\n"
        "other = 3\n"
    )
    assert load_grid(f"{file}:grid").methods == (NablaTau(turn=0.02), "finetune")
    assert load_grid(f"{file}:made") == load_grid(f"{file}:grid")
    with pytest.raises(SettingsError, match="is a int"):
        load_grid(f"{file}:other")


def test_labels_are_for_readers() -> None:
    assert [label_of(word) for word in ("random:0.1", "random:0.025", "class:3", "group:writer 1")] == [
        "random 10 %",
        "random 2.5 %",
        "class 3",
        "group writer 1",
    ]
