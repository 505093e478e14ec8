"""The front doors from Python: six lines, saved folders, the report."""

import hashlib
import html.parser
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import nablatau
from nablatau import Objective, Recipe, TrainingData
from nablatau.checkpoints import load_weights
from nablatau.errors import CheckpointError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.results import salted_digests
from small import random_set, small_network

RECIPE = Recipe(epochs=2, learning_rate=0.1, batch_size=16, build=small_network)


@pytest.fixture
def forgotten(data: TrainingData, model: nn.Module, objective: Objective) -> nablatau.Forgotten:
    return nablatau.forget(model, data.forget_fraction(0.2), objective, seed=3)


@pytest.mark.usefixtures("no_plots")
def test_six_lines(model: nn.Module, tmp_path: Path) -> None:
    request = nablatau.TrainingData(random_set(90, 1), random_set(40, 2)).forget_ids([3, 14, 15])
    objective = nablatau.Objective.classification()
    result = nablatau.forget(model, request, objective)
    evaluation = nablatau.evaluate(model, result, request, objective, recipe=RECIPE, test_set=random_set(50, 3))
    result.save(tmp_path / "out", evaluation)
    evaluation.save(tmp_path / "report.html")
    assert list(evaluation.evidence.models) == ["original", "unlearned", "retrained"]
    assert (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_plots")
def test_a_saved_folder_holds_weights_record_report_and_salt(
    forgotten: nablatau.Forgotten, data: TrainingData, model: nn.Module, objective: Objective, tmp_path: Path
) -> None:
    evaluation = nablatau.evaluate(model, forgotten, forgotten.request, objective)
    folder = forgotten.save(tmp_path / "out", evaluation)
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["ids.salt", "model.safetensors", "report.html", "run.json"]
    record = json.loads((folder / "run.json").read_text())
    assert record["model_before"] == weights_digest(model)
    reloaded = load_weights(small_network(seed=99), folder / "model.safetensors")
    assert record["model_after"] == weights_digest(reloaded) == weights_digest(forgotten.model)
    assert record["method"]["turn"] == 0.08
    never_trained, *noticed = record["notes"]
    assert "DO NOT SEEM TO BELONG TOGETHER" in never_trained
    assert noticed == forgotten.history.notes
    assert record["seed"] == 3
    assert record["request"]["forget"] == 18
    assert record["versions"]["torch"] == torch.__version__
    salt = (folder / "ids.salt").read_text().strip()
    ids = forgotten.request.forget_set.ids_at(range(18))
    hashes = record["forget_ids"]["salted_sha256"]
    assert sorted(hashlib.sha256(f"{salt}:{each}".encode()).hexdigest() for each in ids) == hashes
    assert salt not in (folder / "run.json").read_text() + (folder / "report.html").read_text()
    assert [row["name"] for row in record["evaluation"]["rows"]] == [row.name for row in evaluation.rows]


def test_the_order_of_hashes_tells_nothing() -> None:
    assert salted_digests([1, 2, 3], "s") == salted_digests([3, 1, 2], "s") == sorted(salted_digests([2, 3, 1], "s"))


def test_nothing_is_overwritten(forgotten: nablatau.Forgotten, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(CheckpointError, match="nothing is overwritten"):
        forgotten.save(tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("no_plots")
def test_a_write_that_fails_leaves_nothing(
    forgotten: nablatau.Forgotten, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nablatau.results.save_weights", full_disk)
    with pytest.raises(CheckpointError, match=r"could not be written: .*No space left"):
        forgotten.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_report_must_be_a_page(forgotten: nablatau.Forgotten, model: nn.Module, objective: Objective) -> None:
    evaluation = nablatau.evaluate(model, forgotten, forgotten.request, objective)
    with pytest.raises(SettingsError, match=r"must end in \.html"):
        evaluation.save("report.pdf")


class Checker(html.parser.HTMLParser):
    """Collects what a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_says_the_answer_first(
    forgotten: nablatau.Forgotten, model: nn.Module, objective: Objective, tmp_path: Path
) -> None:
    evaluation = nablatau.evaluate(
        model, forgotten, forgotten.request, objective, recipe=RECIPE, test_set=random_set(50, 3)
    )
    page = evaluation.save(tmp_path / "deep" / "report.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert all(reference.startswith("#") for reference in checker.references), checker.references
    assert "<script" not in page
    body = page[page.index("<body>") :]
    assert body.index(str(evaluation.verdict.word)) < body.index("<table>")
    for needed in ("forgotten", "unseen", "What was done", "What this does not show", "torch", "share of retraining"):
        assert needed in checker.text
    assert page.count("<svg") == 5
    assert len(page) < 600_000


@pytest.mark.usefixtures("no_plots")
def test_a_page_without_evaluation_says_so(forgotten: nablatau.Forgotten, tmp_path: Path) -> None:
    page = (forgotten.save(tmp_path / "out") / "report.html").read_text()
    assert "The model was not evaluated." in page
    assert "What this does not show" in page


@pytest.mark.usefixtures("no_plots")
def test_values_from_the_user_are_escaped(model: nn.Module, objective: Objective, tmp_path: Path) -> None:
    train = random_set(30, 1)
    labels = [f"<script>{int(label)}</script>" for label in train.tensors[1]]
    data = TrainingData(train, random_set(20, 2), labels=labels)
    result = nablatau.forget(model, data.forget_class("<script>1</script>"), objective)
    assert "<script>" not in (result.save(tmp_path / "out") / "report.html").read_text()


@pytest.mark.usefixtures("no_plots")
def test_copies_left_behind_are_warned_of(objective: Objective, model: nn.Module, tmp_path: Path) -> None:
    train = random_set(30, 1)
    train.tensors[0][20] = train.tensors[0][4].clone()
    result = nablatau.forget(model, TrainingData(train, random_set(20, 2)).forget_ids([4]), objective)
    page = (result.save(tmp_path / "out") / "report.html").read_text()
    assert "1 retained record has the same inputs as a\nforgotten one" in page


def test_any_model_can_be_evaluated(data: TrainingData, model: nn.Module, objective: Objective) -> None:
    other = small_network(seed=5)
    evaluation = nablatau.evaluate(model, other, data.forget_fraction(0.3), objective, reference=small_network(seed=6))
    assert evaluation.evidence.models == ["original", "unlearned", "retrained"]
    assert evaluation.history is None
    assert evaluation.evidence.costs == {}


def test_what_the_recipe_cannot_train_is_refused_before_any_work(
    data: TrainingData, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, request = small_network(batch_norm=True), data.forget_fraction(0.3)
    monkeypatch.setattr("nablatau.api.collect", lambda *_, **__: pytest.fail("work was done"))
    runtime, known = nablatau.Runtime(micro_batch_size=4), {"reference": model, "method": nablatau.Finetune()}
    for wanted in ({}, known | {"swap": True}, known | {"shadows": 6}):
        with pytest.raises(SettingsError, match="The recipe's own training, which a reference takes, cannot run so"):
            nablatau.evaluate(model, model, request, objective, recipe=RECIPE, runtime=runtime, **wanted)
    monkeypatch.undo()
    nablatau.evaluate(model, model, request, objective, reference=model, runtime=runtime)  # nothing is trained by it


@pytest.mark.usefixtures("no_plots")
def test_weights_are_saved_for_models_with_shared_tensors(data: TrainingData, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6, bias=False)
            self.second = nn.Linear(6, 6, bias=False)
            self.second.weight = self.first.weight
            self.head = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.first(x).relu()))

    model = Tied()
    result = nablatau.forget(model, data.forget_fraction(0.1), Objective.classification())
    assert result.model.first.weight is result.model.second.weight
    saved = load_file(result.save(tmp_path / "out") / "model.safetensors")
    assert len(saved) == 3
