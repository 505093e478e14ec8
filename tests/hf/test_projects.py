"""Hugging Face models through the front door: what is loaded, what is saved, and every bad input with its message."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nablatau
import small_texts
from nablatau.cli import main
from nablatau.errors import CheckpointError
from nablatau.fingerprints import weights_digest
from nablatau.hf import Columns, TextProject, text_project

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")

COLUMNS = Columns(id="id", group="writer")
STEPS = nablatau.Finetune(budget=1.0, batch_size=16)


@dataclass(frozen=True)
class Place:
    """A folder with a trained model and the files it was trained on."""

    folder: Path
    model: Path
    train: Path
    holdout: Path

    def project(self, task: str = "text-classification", **changes: Any) -> TextProject:
        settings = {"train": self.train, "holdout": self.holdout, "columns": COLUMNS}
        return text_project(str(changes.pop("model", self.model)), task=task, **(settings | changes))

    def words(self, **changes: Any) -> list[str]:
        """Words of a command line, with some options changed, or left out where they are None."""
        options = {
            "hf": self.model,
            "task": "text-classification",
            "data": self.train,
            "holdout": self.holdout,
            "id-column": "id",
        } | {name.replace("_", "-"): value for name, value in changes.items()}
        return [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]


def trained(project: nablatau.Project, epochs: int = 12) -> torch.nn.Module:
    """The project's model, trained in place until it knows most of its records."""
    torch.manual_seed(0)
    model, objective = project.model.train(), project.objective
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.01)
    for _ in range(epochs):
        for rows in torch.randperm(len(project.train_set)).split(16):
            batch = objective.collate([project.train_set[row] for row in rows.tolist()])
            optimizer.zero_grad()
            objective.mean_loss(model, batch, len(rows)).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("texts")
    train = small_texts.write_jsonl(folder / "train.jsonl", small_texts.records(96, 1))
    holdout = small_texts.write_jsonl(folder / "unseen.jsonl", small_texts.records(60, 2))
    small_texts.save(folder / "fresh", small_texts.bert())
    made = Place(folder, folder / "model", train, holdout)
    small_texts.save(made.model, trained(made.project(model=folder / "fresh").project))
    (made.model / "README.md").write_text("---\nlicense: mit\n---\n\n# Sentences\n\nThe author's own words.\n")
    return made


@pytest.fixture
def ids_file(tmp_path: Path) -> Path:
    (tmp_path / "ids.txt").write_text("".join(f"s1-{number}\n" for number in range(0, 24, 2)))
    return tmp_path / "ids.txt"


# ---------------------------------------------------------------------- what is read


def test_the_project_reads_what_the_model_itself_would_be_given(place: Place) -> None:
    texts = place.project(test=place.holdout)
    project, rows = texts.project, small_texts.records(96, 1)
    batch = project.objective.collate([project.train_set[row] for row in range(10)])
    given = texts.pretrained.tokenizer([row["text"] for row in rows[:10]], padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], given["input_ids"])
    assert torch.equal(batch["attention_mask"], given["attention_mask"])
    assert [small_texts.LABELS[label] for label in batch["labels"].tolist()] == [row["label"] for row in rows[:10]]
    own = project.model(**given, labels=batch["labels"])
    assert torch.allclose(project.objective.mean_loss(project.model, batch, 10), own.loss)
    assert project.data.ids == [row["id"] for row in rows]
    assert len(project.data.forget_group("writer 3").forget_set) == 11
    assert project.test_set is not None
    assert len(project.test_set) == 60


def test_several_labels(place: Place) -> None:
    project = place.project("multi-label").project
    batch = project.objective.collate([project.train_set[row] for row in range(10)])
    own = project.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"].float()
    )
    assert project.objective.kind == "multi-label"
    bce = torch.nn.functional.binary_cross_entropy_with_logits(own.logits, batch["labels"].float())
    assert torch.allclose(project.objective.mean_loss(project.model, batch, 10), bce)
    with_deeds = [number for number, row in enumerate(small_texts.records(96, 1)) if "deed" in row["labels"]]
    assert project.data.forget_class(2).forget_set.positions.tolist() == with_deeds


def test_texts_are_cut_to_what_the_model_takes_or_less(place: Place, tmp_path: Path) -> None:
    long = small_texts.write_jsonl(
        tmp_path / "long.jsonl",
        [row | {"text": f"{row['text']} {'again ' * 40}"} for row in small_texts.records(96, 3)],
    )
    dataset = place.project(train=long).project.train_set
    assert {len(dataset[row]["input_ids"]) for row in range(96)} == {24}
    assert dataset[0]["input_ids"][-1] == 3
    assert len(place.project(train=long, most_tokens=7).project.train_set[0]["input_ids"]) == 7
    with pytest.raises(nablatau.NablatauError, match="--max-tokens must be 1 to 24"):
        place.project(most_tokens=25)


def test_positions_of_roberta_are_counted_from_behind_the_padding(tmp_path: Path) -> None:
    from nablatau.hf.pretrained import load

    config = transformers.RobertaConfig(
        vocab_size=26,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=22,
        pad_token_id=0,
    )
    folder = small_texts.save(tmp_path / "roberta", transformers.RobertaForSequenceClassification(config))
    assert load(str(folder), "AutoModelForSequenceClassification").most_tokens == 21


def test_an_end_token_that_is_the_class_s_own_says_nothing(tmp_path: Path) -> None:
    from nablatau.hf.pretrained import load

    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_attention_heads": 2}
    config = transformers.OPTConfig(vocab_size=32, num_hidden_layers=1, pad_token_id=0, **sizes)
    assert config.eos_token_id == 2
    words = small_texts.answering_tokenizer()
    folder = small_texts.save(tmp_path / "opt", transformers.OPTForCausalLM(config), words)
    assert load(str(folder), "AutoModelForCausalLM").tokenizer.eos_token_id == 28


def test_half_precision_is_read_in_float32(tmp_path: Path) -> None:
    from nablatau.hf.pretrained import load

    folder = small_texts.save(tmp_path / "half", small_texts.bert().half())
    model = load(str(folder), "AutoModelForSequenceClassification").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# ---------------------------------------------------------------------- what is written


@pytest.mark.usefixtures("no_plots")
def test_forget_by_ids_writes_a_folder_that_from_pretrained_loads(
    place: Place, ids_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = place.words(forget_ids=ids_file, test=place.holdout, out=out)
    assert main(["forget", *words, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    run = json.loads(printed.out)["run"]
    assert run["method"]["method"] == "nabla_tau"
    assert run["texts"]["task"] == "text-classification"
    assert run["versions"]["transformers"] == transformers.__version__
    assert run["request"]["forget"] == 12
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    assert weights_digest(model) == json.loads((out / "run.json").read_text())["model_after"] == run["model_after"]
    assert weights_digest(model) != run["model_before"]
    assert model.config.id2label == dict(enumerate(small_texts.LABELS))
    words_of = transformers.AutoTokenizer.from_pretrained(out)
    assert words_of("red cat").input_ids == small_texts.tokenizer()("red cat").input_ids
    card = (out / "README.md").read_text()
    assert card.startswith((place.model / "README.md").read_text().rstrip())
    assert "forgetting 12 of the 96 records" in card
    assert "`nabla_tau`" in card
    assert json.loads(printed.out)["verdict"] in card
    assert "s1-" not in card
    assert "s1-" not in (out / "run.json").read_text()
    assert "transformers" in (out / "report.html").read_text()

    code = main(["evaluate", *place.words(forget_ids=ids_file, test=place.holdout, weights=out), "--json"])
    assert code == nablatau_exit_code(again := json.loads(capsys.readouterr().out))
    assert again["rows"] == json.loads((out / "run.json").read_text())["evaluation"]["rows"]
    assert weights_digest(place.project().load_weights(out / "model.safetensors")) == run["model_after"]


def nablatau_exit_code(found: dict[str, Any]) -> int:
    from nablatau.evaluation import Word

    return Word(found["verdict"]).exit_code


@pytest.mark.usefixtures("no_plots")
def test_a_second_request_adds_to_the_card(place: Place, tmp_path: Path) -> None:
    first = place.project()
    one = nablatau.forget(
        first.project.model, first.project.data.forget_ids(["s1-1"]), first.project.objective, method=STEPS
    )
    again = place.project(model=first.save(tmp_path / "one", one))
    two = nablatau.forget(
        again.project.model, again.project.data.forget_ids(["s1-2"]), again.project.objective, method=STEPS
    )
    card = (again.save(tmp_path / "two", two) / "README.md").read_text()
    assert card.count("## Forgotten records") == 2
    assert "the model was not evaluated" in card


@pytest.mark.usefixtures("no_plots")
def test_multi_label_from_the_command_line(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = place.words(task="multi-label", forget_class="deed", method="finetune", out=tmp_path / "out")
    assert main(["forget", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"]["objective"] == {"kind": "multi-label"}
    assert found["run"]["request"]["classes"] == ["2"]


def test_the_same_seed_gives_the_same_bits_and_the_given_model_stays(place: Place) -> None:
    project, brief = place.project().project, nablatau.NablaTau(least_records=400)
    before, request = weights_digest(project.model), project.data.forget_fraction(0.1)
    runs = [nablatau.forget(project.model, request, project.objective, method=brief, seed=3) for _ in range(2)]
    assert runs[0].record["model_after"] == runs[1].record["model_after"] != before
    assert weights_digest(project.model) == before


def test_a_full_disk_leaves_no_folder(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = place.project()
    request = texts.project.data.forget_fraction(0.1)
    result = nablatau.forget(texts.project.model, request, texts.project.objective, method=STEPS)

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(texts.pretrained.tokenizer, "save_pretrained", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        texts.save(tmp_path / "out", result)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- what cannot be used


def changed(folder: Path, change: Callable[[Path], object]) -> Path:
    change(folder)
    return folder


def set_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def pickle_alone(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


def without_head(folder: Path) -> None:
    from nablatau.hf.pretrained import quiet

    with quiet():
        small_texts.bert().bert.save_pretrained(folder)


def without_padding(folder: Path) -> None:
    words = small_texts.tokenizer()
    words.pad_token = None
    words.save_pretrained(folder)


def with_end(folder: Path) -> None:
    words = small_texts.tokenizer()
    words.eos_token = "[SEP]"
    words.save_pretrained(folder)


MODELS = {
    "pickled": (
        pickle_alone,
        "holds a model with pickled weights alone (['pytorch_model.bin'], and no model.safetensors), and loading a pic",
    ),
    "pickled beside an adapter's": (
        lambda folder: [pickle_alone(folder), (folder / "adapter_model.safetensors").write_bytes(b"")],
        "holds a model with pickled weights alone",
    ),
    "pickled adapter beside an old model": (
        lambda folder: [
            (folder / "adapter_config.json").write_text("{}"),
            torch.save({}, folder / "adapter_model.bin"),
        ],
        "holds an adapter with pickled weights alone (['adapter_model.bin'], and no adapter_model.safetensors)",
    ),
    "adapter without weights beside an old model": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        "holds no weights of an adapter (adapter_model.safetensors)",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "holds no weights of a model (model.safetensors)",
    ),
    "damaged config": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert",'),
        "config.json in ",
    ),
    "config that is no object": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "is damaged (it holds a list, not an object), so it is not known what model or tokenizer this is. Fetch or",
    ),
    "config with a wrong value": (
        lambda folder: set_config(folder, hidden_size="wide"),
        "error for field 'hidden_size'.",
    ),
    "damaged adapter config": (
        lambda folder: [
            (folder / "adapter_config.json").write_bytes(b"\xff{"),
            (folder / "adapter_model.safetensors").write_bytes(b""),
        ],
        "adapter_config.json in ",
    ),
    "damaged config of the tokenizer": (
        lambda folder: (folder / "tokenizer_config.json").write_text("{,"),
        "tokenizer_config.json in ",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds weights and no config.json"),
    "damaged": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"),
        "cannot be loaded by",
    ),
    "own code": (lambda folder: set_config(folder, auto_map={"AutoModel": "m.M"}), "brings code of its own (auto_map"),
    "base model": (without_head, "lacks weights that AutoModelForSequenceClassification needs (['classifier.bias'"),
    "no tokenizer": (
        lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "holds no tokenizer. Texts must be cut into the tokens that the model was trained with",
    ),
    "damaged tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        "cannot be read: ",
    ),
    "larger tokenizer": (
        lambda folder: small_texts.tokenizer([f"w{number}" for number in range(40)]).save_pretrained(folder),
        "does not match the model: it numbers 44 tokens, and the model has 26",
    ),
    "smaller tokenizer": (
        lambda folder: small_texts.tokenizer(["a", "b"]).save_pretrained(folder),
        "does not match the model: it numbers 6 tokens, and the model has 26",
    ),
    "other padding": (
        lambda folder: set_config(folder, pad_token_id=5),
        "does not match the model: it pads with token 0, and the model's config names 5",
    ),
    "other end of texts": (
        lambda folder: [set_config(folder, eos_token_id=[2, 5]), with_end(folder)],
        "does not match the model: its eos_token_id is 3, and the model's config names 2, 5. Texts would begin or end",
    ),
    "no padding": (without_padding, "has no padding token, so texts of several lengths do not fit into a batch"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_cannot_be_used(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, message = MODELS[name]
    model = changed(shutil.copytree(place.model, tmp_path / "model"), change)
    assert main(["forget", *place.words(hf=model, fraction=0.1, out=tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_foreign_tokenizer_of_the_same_size_is_noted(place: Place, tmp_path: Path) -> None:
    model = shutil.copytree(place.model, tmp_path / "model")
    small_texts.tokenizer((*reversed(small_texts.WORDS), *small_texts.MORE)).save_pretrained(model)
    notes = {}
    for name, folder in (("own", place.model), ("foreign", model)):
        project = place.project(model=folder).project
        request = project.data.forget_fraction(0.2)
        found = nablatau.evaluate(project.model, project.model, request, project.objective, recovery=False)
        notes[name] = found.record.get("notes", [])
    assert notes["own"] == []
    assert "MODEL AND RECORDS DO NOT SEEM TO BELONG TOGETHER" in notes["foreign"][0]


def test_a_hub_name_without_network(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("someone/no-such-model", "../no/such/folder"):
        assert main(["forget", *place.words(hf=name, fraction=0.1, out=tmp_path / "out")]) == 1
        printed = capsys.readouterr().err
        assert f"{name} is no folder, and no model of this name could be fetched from the hub" in printed
        assert len(printed.strip().splitlines()) == 1


def rows_with(**changes: Any) -> list[dict[str, Any]]:
    """Records of which the fourth is changed."""
    rows = small_texts.records(96, 1)
    return [*rows[:3], rows[3] | changes, *rows[4:]]


FILES = {
    "empty text": ({"text": " \n"}, {}, "1 texts in column 'text' are empty (records [4], counted from 1)"),
    "no text": ({"text": 7}, {}, "column 'text' holds values that are no texts (records [4]"),
    "label out of range": ({"label": 3}, {}, "column 'label' holds [3], which the model does not have"),
    "unknown label": ({"label": "joy"}, {}, "holds ['joy'], which the model does not have: its config names ['colour'"),
    "ids repeat": ({"id": "s1-7"}, {}, "ids repeat: ['s1-7']"),
    "no such column": (
        {},
        {"text_column": "body"},
        "has no column 'body', so records cannot be read from it. Its columns",
    ),
    "no id column": ({}, {"id_column": "key"}, "name the right one with --id-column"),
    "no group column": ({}, {"fraction": None, "forget_group": "writer 3"}, "There is no group column"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_used(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    values, options, message = FILES[name]
    data = small_texts.write_jsonl(tmp_path / "data.jsonl", rows_with(**values))
    words = place.words(**({"data": data, "fraction": 0.1, "out": tmp_path / "out"} | options))
    assert main(["forget", *words]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["data.jsonl"]


def test_ids_that_are_not_in_the_id_column(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ids.txt").write_text("s1-3\ns9-1\n")
    assert main(["forget", *place.words(forget_ids=tmp_path / "ids.txt", out=tmp_path / "out")]) == 1
    assert "no training record has the id ['s9-1'] (ids are such as ['s1-0'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "exactly one of TARGET (FILE.py:FUNCTION, or a task's name) and --hf MODEL"),
        (["digits", "--hf", "model"], "exactly one of TARGET"),
        (["digits", "--text-column", "body"], "--text-column goes with --hf MODEL"),
        (["digits", "--merge"], "it goes with --hf MODEL"),
        (["--hf", "model", "--data", "x.jsonl"], "--task, --holdout must be given with --hf"),
    ],
)
def test_the_two_forms_of_the_command_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["forget", *words, "--fraction", "0.1", "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_not_installed(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["forget", *place.words(fraction=0.1, out=tmp_path / "out")]) == 1
    assert (
        "Text models need transformers, which is not installed: pip install 'nablatau[hf]'" in capsys.readouterr().err
    )
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_text("x")
    assert main(["forget", *place.words(data=tmp_path / "t.parquet", fraction=0.1, out=tmp_path / "out")]) == 1
    assert "Parquet files need pyarrow, which is not installed: pip install 'nablatau[data]'" in capsys.readouterr().err
