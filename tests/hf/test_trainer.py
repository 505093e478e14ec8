"""`NablaTauTrainer`: the weights of the front door, what a Trainer tells and keeps, and every refusal."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nablatau
import small_texts
from nablatau.batches import Padding
from nablatau.errors import NablatauError, RequestError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.hf.pretrained import quiet
from nablatau.methods import GradDiff, Npo
from nablatau.methods.nabla_tau_paper import paper_text

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")
pytest.importorskip("accelerate", reason="the extra `hf` is not installed")

STEPS = nablatau.Finetune(budget=1.0, batch_size=16)
FORGET = [f"s1-{number}" for number in range(0, 20, 2)]


class Rows:
    """A map-style data set of dicts, as a Trainer takes them: lists of numbers, a label, and what no model reads."""

    def __init__(self, rows: list[dict[str, Any]], label: str) -> None:
        self.rows = rows
        self.tokens = small_texts.tokenizer()([row["text"] for row in rows])["input_ids"]
        self.label = label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row, tokens = self.rows[position], self.tokens[position]
        names = small_texts.LABELS
        label = names.index(row["label"]) if self.label == "label" else [float(name in row["labels"]) for name in names]
        marks = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
        return {"id": row["id"], "text": row["text"], self.label: label} | marks


def rows(size: int, seed: int, label: str = "label") -> Rows:
    return Rows(small_texts.records(size, seed), label)


DATA = rows(96, 1), rows(60, 2)


def arguments(folder: Path, **changes: Any) -> Any:
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3}
    return transformers.TrainingArguments(str(folder), **(quiet | changes))


def trainer(folder: Path, **changes: Any) -> Any:
    from nablatau.hf import NablaTauTrainer

    settings: dict[str, Any] = {
        "model": small_texts.bert(),
        "args": arguments(folder),
        "train_dataset": DATA[0],
        "eval_dataset": DATA[1],
        "forget_ids": FORGET,
        "id_column": "id",
        "processing_class": small_texts.tokenizer(),
    }
    return NablaTauTrainer(**{name: value for name, value in (settings | changes).items() if value is not None})


def as_tensors(dataset: Rows) -> list[dict[str, torch.Tensor]]:
    kept = ("input_ids", "attention_mask", dataset.label)
    return [
        {"labels" if name == "label" else name: torch.tensor(each[name]) for name in kept}
        for each in (dataset[place] for place in range(len(dataset)))
    ]


@pytest.mark.parametrize("label", ["label", "labels"])
@pytest.mark.parametrize("method", [nablatau.NablaTau(least_records=300), paper_text(), STEPS, Npo()])
def test_the_weights_are_those_of_the_front_door(tmp_path: Path, label: str, method: nablatau.Method) -> None:
    """By another route: our own data sets and padding, and a collator of transformers' on the other side."""
    model = small_texts.bert()
    if label == "labels":
        model.config.problem_type = "multi_label_classification"
    train, unseen = rows(96, 1, label), rows(60, 2, label)
    made = trainer(tmp_path, model=model, train_dataset=train, eval_dataset=unseen, method=method, callbacks=[])
    made.train()
    objectives = {"label": nablatau.Objective.classification, "labels": nablatau.Objective.multi_label}
    objective = objectives[label](collate=Padding(0))
    data = nablatau.TrainingData(as_tensors(train), as_tensors(unseen), ids=[row["id"] for row in train.rows])
    runtime = nablatau.Runtime(evaluation_batch_size=8)
    by_hand = nablatau.forget(model, data.forget_ids(FORGET), objective, method=method, seed=3, runtime=runtime)
    assert weights_digest(made.model) == weights_digest(by_hand.model)
    assert made.result.record["method"] == by_hand.record["method"]
    assert weights_digest(made.original) == weights_digest(model) != weights_digest(made.model)


def test_the_library_is_not_imported_before_the_trainer_is() -> None:
    code = "import sys, nablatau.hf; assert 'transformers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_both_ways_to_say_what_goes_are_one_request(tmp_path: Path) -> None:
    whole = rows(96, 1)
    forget, retain = Rows(whole.rows[:9], "label"), Rows(whole.rows[9:], "label")
    by_parts = trainer(
        tmp_path, train_dataset=None, forget_ids=None, id_column=None, forget_dataset=forget, retain_dataset=retain
    )
    by_ids = trainer(tmp_path, forget_ids=range(9), id_column=None)
    assert len(by_parts.request.forget_set) == len(by_ids.request.forget_set) == 9
    for made in (by_parts, by_ids):
        assert sorted(made.request.forget_set[0]) == ["attention_mask", "input_ids", "label"]
    assert weights_digest(_trained(by_parts)) == weights_digest(_trained(by_ids))


def _trained(made: Any) -> torch.nn.Module:
    made.method = STEPS
    made.train()
    return made.model  # type: ignore[no-any-return]


def test_it_tells_logs_and_saves_as_a_trainer_does(tmp_path: Path) -> None:
    class Told(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.heard.append("begin")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.heard.append("step")

        def on_log(self, *_: Any, **__: Any) -> None:
            self.heard.append("log")

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.heard.append("end")

    told = Told()
    args = arguments(tmp_path / "out", logging_steps=2, logging_first_step=True)
    made = trainer(tmp_path, args=args, callbacks=[told], method=STEPS)
    before = weights_digest(made.model)
    output = made.train()
    steps = len(made.result.history)
    assert output.global_step == made.state.global_step == steps
    assert output.training_loss == pytest.approx(sum(made.result.history.columns["loss"]) / steps)
    assert told.heard.count("step") == steps
    assert told.heard.count("log") == 1 + steps // 2 + 1
    assert (told.heard[0], told.heard[-1]) == ("begin", "end")
    first = made.state.log_history[0]
    assert first["step"] == 1
    assert first["loss"] == made.result.history.columns["loss"][0]
    assert made.state.log_history[-1]["forgotten"] == len(FORGET)
    assert {"eval_loss"} <= set(made.evaluate())
    made.save_model()
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert weights_digest(again.eval()) == weights_digest(made.model)
    assert weights_digest(made.original) == before
    digest = weights_digest(made.model)
    made.train()
    assert weights_digest(made.model) == digest


def test_a_data_set_of_the_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    train, unseen = (datasets.Dataset.from_list(list(map(each.__getitem__, range(len(each))))) for each in DATA)
    by_library = trainer(tmp_path, train_dataset=train, eval_dataset=unseen)
    assert weights_digest(_trained(by_library)) == weights_digest(_trained(trainer(tmp_path)))


def test_an_adapter_is_saved_alone(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the extra `hf` is not installed")
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear")
    with quiet():
        model = peft.get_peft_model(small_texts.bert(), settings)
    made = trainer(tmp_path, model=model, method=STEPS)
    assert made.objective.kind == "single-label"
    made.train()
    made.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "saved" / "model.safetensors").exists()


def test_a_causal_model_with_the_collator_of_transformers(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=26,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        pad_token_id=0,
    )
    made = trainer(
        tmp_path,
        model=transformers.LlamaForCausalLM(config),
        data_collator=transformers.DataCollatorForLanguageModeling(small_texts.tokenizer(), mlm=False),
        train_dataset=Texts(rows(96, 1)),
        eval_dataset=Texts(rows(60, 2)),
        forget_ids=[1, 2, 3],
        id_column=None,
        method=GradDiff(epochs=2, batch_size=3),
    )
    assert made.objective.kind == "causal-lm"
    made.train()
    assert len(made.result.history) == 2


class Texts(Rows):
    """Without a label of their own."""

    def __init__(self, whole: Rows) -> None:
        super().__init__(whole.rows, whole.label)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[position]}


def test_the_guide_s_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    (lines,) = (block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "NablaTauTrainer(" in block)
    records = [row | {"id": f"c-{place}"} for place, row in enumerate(small_texts.records(60, 1))]
    names = {
        "nablatau": nablatau,
        "model": small_texts.bert(),
        "tokenizer": small_texts.tokenizer(),
        "train_dataset": Rows(records, "label"),
        "unseen_dataset": DATA[1],
    }
    monkeypatch.chdir(tmp_path)
    exec(lines, names)
    assert (tmp_path / "forgotten" / "model.safetensors").exists()
    assert names["trainer"].result.forgotten == 2
    assert names["evaluation"].verdict.word


# ---------------------------------------------------------------------- refusals


def test_usual_arguments_are_accepted_and_apply(tmp_path: Path) -> None:
    from nablatau.hf.trainer import check_arguments, runtime_of

    args = arguments(tmp_path, bf16=True, per_device_eval_batch_size=5, save_strategy="no", logging_strategy="no")
    check_arguments(args)
    check_arguments(transformers.TrainingArguments(str(tmp_path), use_cpu=True))
    runtime = runtime_of(args)
    assert (runtime.device, runtime.precision, runtime.evaluation_batch_size) == ("cpu", "bf16", 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learning_rate": 1e-3, "num_train_epochs": 1, "warmup_steps": 5},
            "num_train_epochs, learning_rate, warmup_s",
        ),
        ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type of the TrainingArguments would have no effect"),
        ({"per_device_train_batch_size": 4}, "such as NablaTau\\(batch_size=64\\)"),
        ({"eval_strategy": "epoch"}, "evaluates and saves nothing on the way"),
        ({"save_strategy": "epoch"}, "save_strategy of the TrainingArguments"),
        ({"logging_steps": 0.1}, "logging_steps of the TrainingArguments"),
    ],
)
def test_arguments_that_would_have_no_effect(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        trainer(tmp_path, args=arguments(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"forget_ids": None}, SettingsError, "one of two ways"),
        ({"forget_dataset": rows(4, 1)}, SettingsError, "one of two ways"),
        ({"train_dataset": None, "forget_dataset": rows(4, 1)}, SettingsError, "one of two ways"),
        ({"eval_dataset": None}, SettingsError, "eval_dataset is missing: records that the model was not trained on"),
        ({"preset": "paper", "method": STEPS}, SettingsError, "Pass one of them"),
        ({"preset": "papper"}, SettingsError, "Did you mean paper"),
        ({"id_column": "key"}, RequestError, r"no entry 'key'.* They have \['id', 'text', 'label'"),
        ({"forget_ids": ["s9-1"]}, RequestError, r"no training record has the id \['s9-1'\]"),
        ({"eval_dataset": rows(60, 1)}, NablatauError, "60 of 60 holdout records are also training records"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    settings = {name: value for name, value in changes.items() if value is not None}
    missing = {name: None for name, value in changes.items() if value is None}
    with pytest.raises(error, match=message):
        trainer(tmp_path, **settings, **missing)


def test_a_run_is_not_resumed_and_a_strange_model_needs_an_objective(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be resumed"):
        trainer(tmp_path, method=STEPS).train(resume_from_checkpoint=True)
    from nablatau.hf.trainer import objective_of

    with pytest.raises(SettingsError, match="cannot be told from BertModel what a loss is"):
        objective_of(small_texts.bert().bert, list)
