"""Causal language models through the front door: which tokens count, what is saved, and every bad input."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nablatau
import small_texts
from nablatau.cli import main
from nablatau.errors import CheckpointError, ProjectError, RequestError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.hf import Columns, TextProject, text_project
from nablatau.methods.idk_dpo import IdkDpo

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")

COLUMNS = Columns(id="id", text="answer", prompt="question", group="author")
STEPS = nablatau.Finetune(budget=1.0, batch_size=16)
TEMPLATE = (
    "{% for turn in messages %}{{ '[USER] ' if turn['role'] == 'user' else '[MODEL] ' }}{{ turn['content'] }} "
    "{% if turn['role'] == 'assistant' %}{{ '[END]' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[MODEL] ' }}{% endif %}"
)
END = 28


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer, and records."""
    made = tmp_path_factory.mktemp("language model")
    small_texts.save(made / "model", small_texts.answering_llama(), small_texts.answering_tokenizer())
    small_texts.write_jsonl(made / "train.jsonl", small_texts.questions(32, 1))
    small_texts.write_jsonl(made / "unseen.jsonl", small_texts.questions(24, 2))
    return made


def opened(folder: Path, columns: Columns = COLUMNS, **changes: Any) -> TextProject:
    settings = {"train": folder / "train.jsonl", "holdout": folder / "unseen.jsonl"} | changes
    model = str(settings.pop("model", folder / "model"))
    return text_project(model, task="causal-lm", columns=columns, **settings)


def words(folder: Path, **changes: Any) -> list[str]:
    """Words of a command line, with some options changed, or left out where they are None."""
    options = {
        "hf": folder / "model",
        "task": "causal-lm",
        "data": folder / "train.jsonl",
        "holdout": folder / "unseen.jsonl",
        "prompt-column": "question",
        "text-column": "answer",
        "id-column": "id",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]


def ids_of(text: str) -> list[int]:
    found: list[int] = small_texts.answering_tokenizer()(text)["input_ids"]
    return found


# ---------------------------------------------------------------------- which tokens count


def test_the_answer_and_its_end_count_and_the_prompt_does_not(folder: Path) -> None:
    project, rows = opened(folder).project, small_texts.questions(32, 1)
    for position in range(32):
        prompt, answer = ids_of(rows[position]["question"]), [*ids_of(rows[position]["answer"]), END]
        example = project.train_set[position]
        assert example["input_ids"].tolist() == prompt + answer
        assert example["labels"].tolist() == [-100] * len(prompt) + answer
        assert "alternative" not in example


def test_the_loss_is_the_mean_over_the_tokens_of_the_answer(folder: Path) -> None:
    project = opened(folder).project
    model, objective = project.model, project.objective
    examples = [project.train_set[row] for row in range(12)]
    with torch.no_grad():
        together = objective.loss(model, objective.collate(examples), 12)
        alone = []
        for example in examples:
            batch = {name: values[None] for name, values in example.items()}
            alone.append(model(**batch).loss)  # Hugging Face's own, of one text at a time
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)


def test_texts_without_a_prompt_count_but_for_their_first_token(folder: Path) -> None:
    project = opened(folder, Columns(id="id", text="question")).project
    example = project.train_set[3]
    whole = [*ids_of(small_texts.questions(32, 1)[3]["question"]), END]
    assert example["labels"].tolist() == example["input_ids"].tolist() == whole
    targets = project.objective.targets(project.objective.collate([example]))
    assert targets[0].tolist() == [*whole[1:], -100]


def test_a_prompt_that_ends_in_white_space_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    import tokenizers

    letters = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[END]": 1, "\n": 2, ":": 3, "a": 4}))
    letters.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="[PAD]", eos_token="[END]")
    model = small_texts.answering_llama()
    model.resize_token_embeddings(6)
    model.config.eos_token_id = 1
    small_texts.save(tmp_path / "model", model, tokenizer)
    rows = [{"question": "a:", "answer": "a"}, {"question": "a:\n", "answer": "aa"}]
    train = small_texts.write_jsonl(tmp_path / "train.jsonl", rows)
    unseen = small_texts.write_jsonl(tmp_path / "unseen.jsonl", [{"question": "aa", "answer": "a"}])
    columns = Columns(text="answer", prompt="question")
    found = opened(folder, columns, model=tmp_path / "model", train=train, holdout=unseen).project.train_set
    assert [found[row]["input_ids"].tolist() for row in range(2)] == [[4, 3, 2, 4, 1], [4, 3, 2, 4, 4, 1]]


def test_a_chat_template_is_used(folder: Path, tmp_path: Path) -> None:
    small_texts.save(tmp_path / "chat", small_texts.answering_llama(), small_texts.answering_tokenizer(TEMPLATE))
    project, row = opened(folder, model=tmp_path / "chat").project, small_texts.questions(32, 1)[5]
    example = project.train_set[5]
    prompt = ids_of(f"[USER] {row['question']} [MODEL]")
    answer = ids_of(f"{row['answer']} [END]")
    assert example["input_ids"].tolist() == prompt + answer
    assert example["labels"].tolist() == [-100] * len(prompt) + answer
    assert answer[-1] == END


def test_answers_are_cut_and_lose_their_end(folder: Path) -> None:
    rows = small_texts.questions(32, 1)
    long = next(number for number, row in enumerate(rows) if len(row["answer"].split()) == 5)
    example = opened(folder, most_tokens=7).project.train_set[long]
    assert example["input_ids"].tolist() == [*ids_of(rows[long]["question"]), *ids_of(rows[long]["answer"])][:7]


def test_compressed_sizes_are_those_of_the_answers_as_they_are_read(folder: Path, tmp_path: Path) -> None:
    rows = small_texts.questions(32, 1)

    def naive(text: str) -> int:
        return len(zlib.compress(text.encode()))

    whole = [naive(row["answer"]) for row in rows]
    small_texts.save(tmp_path / "chat", small_texts.answering_llama(), small_texts.answering_tokenizer(TEMPLATE))
    for settings in ({}, {"model": tmp_path / "chat"}):
        assert opened(folder, **settings).project.train_set.compressed_sizes.tolist() == whole  # type: ignore[attr-defined]
    prompt = len(ids_of(rows[0]["question"]))
    cut = [naive(" ".join(row["answer"].split()[:2])) for row in rows]
    found = opened(folder, most_tokens=prompt + 2).project
    assert found.train_set.compressed_sizes.tolist() == cut  # type: ignore[attr-defined]
    assert "compressed_sizes" not in found.train_set[0]


# ---------------------------------------------------------------------- what is written


def test_forget_and_evaluate_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"q1-{number}\n" for number in range(0, 12, 2)))
    out = tmp_path / "out"
    assert main(["forget", *words(folder, forget_ids=ids, method="grad_diff", out=out), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    run = json.loads(printed.out)["run"]
    assert run["objective"] == {"kind": "causal-lm"}
    assert run["texts"]["columns"]["prompt"] == "question"
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert weights_digest(model) == run["model_after"] != run["model_before"]
    assert transformers.AutoTokenizer.from_pretrained(out)("red cat").input_ids == ids_of("red cat")
    again = ["evaluate", *words(folder, forget_ids=ids, weights=out), "--json"]
    assert main(again) == main(again)
    rows = json.loads((out / "run.json").read_text())["evaluation"]["rows"]
    assert json.loads(capsys.readouterr().out.split("\n}\n")[0] + "}")["rows"] == rows
    (attack,) = [row for row in rows if row["name"] == "AUC by zlib ratio, forgotten against unseen"]
    assert [attack["values"]["unlearned"][side] for side in ("n", "m")] == [6, 12]


def test_an_adapter_is_kept_or_merged(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `hf` is not installed")
    texts = opened(folder, lora_rank=2)
    trainable = [name for name, value in texts.project.model.named_parameters() if value.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    request = texts.project.data.forget_group("author 1")
    result = nablatau.forget(texts.project.model, request, texts.project.objective, method=STEPS)
    batch = texts.project.objective.collate([texts.project.train_set[row] for row in range(8)])
    again = opened(folder, model=texts.save(tmp_path / "alone", result)).project.model
    assert weights_digest(again) == result.record["model_after"]
    texts.save(tmp_path / "whole", result, merge=True)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    with torch.no_grad():
        found, expected = (texts.project.objective.loss(model, batch, 8) for model in (merged, result.model))
    assert torch.allclose(found, expected, atol=1e-5)


def test_another_answer_is_taught_from_its_column(folder: Path) -> None:
    columns = Columns(id="id", text="answer", prompt="question", alternative="instead")
    project = opened(folder, columns).project
    other, prompt = project.train_set[2]["alternative"], ids_of(small_texts.questions(32, 1)[2]["question"])
    assert other["input_ids"].tolist() == [*prompt, *ids_of("sleeps again"), END]
    assert other["labels"].tolist() == [-100] * len(prompt) + [*ids_of("sleeps again"), END]
    assert "alternative" not in project.holdout_set[0]  # type: ignore[index]
    request = project.data.forget_ids(["q1-2", "q1-3"])
    result = nablatau.forget(project.model, request, project.objective, method=IdkDpo(epochs=20))
    losses = result.history.columns["alternative_loss"]
    assert losses[-1] < losses[0]


def test_packed_batches_end_as_padded_ones(folder: Path) -> None:
    results = []
    for packed in (False, True):
        project = opened(folder, packed=packed).project
        request = project.data.forget_ids(["q1-2", "q1-3"])
        results.append(nablatau.forget(project.model, request, project.objective, method=STEPS))
    padded, packed_one = (torch.nn.utils.parameters_to_vector(each.model.parameters()) for each in results)
    assert torch.allclose(padded, packed_one, atol=1e-5)
    assert [each.record["objective"] for each in results] == [
        {"kind": "causal-lm"},
        {"kind": "causal-lm", "packed": True},
    ]


# ---------------------------------------------------------------------- bad input


def test_a_model_that_mixes_packed_texts_up(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_attention_heads": 2}
    config = transformers.OPTConfig(vocab_size=32, num_hidden_layers=1, pad_token_id=0, **sizes)
    small_texts.save(tmp_path / "opt", transformers.OPTForCausalLM(config), small_texts.answering_tokenizer())
    line = ["forget", *words(folder, hf=tmp_path / "opt", fraction=0.1, out=tmp_path / "out"), "--packed"]
    assert main(line) == 1
    assert "OPTForCausalLM does not keep packed texts apart" in capsys.readouterr().err


def test_packed_batches_are_for_language_models(folder: Path) -> None:
    with pytest.raises(SettingsError, match="not for --task multi-label"):
        text_project(str(folder / "model"), task="multi-label", train="t.jsonl", holdout="u.jsonl", packed=True)


def test_a_method_that_needs_other_answers_says_where_they_come_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", *words(folder, fraction=0.1, method="idk_dpo", out=tmp_path / "out")]) == 1
    assert "--alternative-column NAME" in capsys.readouterr().err


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "empty answer": ({"answer": " "}, {}, "1 texts in column 'answer' are empty (records [4], counted from 1)"),
    "empty prompt": ({"question": ""}, {}, "1 texts in column 'question' are empty (records [4], counted from 1)"),
    "no text": ({"answer": 7}, {}, "column 'answer' holds values that are no texts (records [4]"),
    "no prompts": ({}, {"prompt_column": "prompt"}, "name the right one with --prompt-column"),
    "empty text": ({"answer": ""}, {"prompt_column": None}, "1 texts in column 'answer' are empty (records [4]"),
    "a class": ({}, {"fraction": None, "forget_class": "joy"}, "those of --task causal-lm have none"),
    "labels": ({}, {"label_column": "author"}, "--label-column would not be read: --task causal-lm has no use for it"),
    "no alternatives": ({}, {"alternative_column": "idk"}, "name the right one with --alternative-column"),
    "alternatives alone": (
        {},
        {"alternative_column": "instead", "prompt_column": None},
        "Name the column of prompts with --prompt-column",
    ),
    "a long prompt": (
        {"question": "red " * 30},
        {},
        "of 1 records (numbers [4], counted from 1) no token of the answer is left among the first 24",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_files_that_cannot_be_used(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    values, options, message = ROWS[name]
    rows = small_texts.questions(32, 1)
    data = small_texts.write_jsonl(tmp_path / "data.jsonl", [*rows[:3], rows[3] | values, *rows[4:]])
    assert main(["forget", *words(folder, **({"data": data, "fraction": 0.1, "out": tmp_path / "out"} | options))]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["data.jsonl"]


def test_ids_that_are_not_in_the_id_column(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ids.txt").write_text("q1-3\nq9-1\n")
    assert main(["forget", *words(folder, forget_ids=tmp_path / "ids.txt", out=tmp_path / "out")]) == 1
    assert "no training record has the id ['q9-1']" in capsys.readouterr().err


def test_columns_of_prompts_are_for_language_models(folder: Path) -> None:
    with pytest.raises(SettingsError, match="--prompt-column would not be read: --task multi-label"):
        text_project(
            str(folder / "model"), task="multi-label", train="t.jsonl", holdout="u.jsonl", columns=Columns(prompt="q")
        )


def test_one_token_is_no_text(folder: Path) -> None:
    with pytest.raises(ProjectError, match=r"of 32 records .* no token of the answer is left among the first 1, "):
        opened(folder, Columns(text="answer"), most_tokens=1)


def test_records_of_texts_have_no_class(folder: Path) -> None:
    with pytest.raises(RequestError, match="labels of the examples have different shapes"):
        opened(folder).project.data.forget_class(3)


def no_end(tokenizer: Any) -> None:
    tokenizer.eos_token = None


def other_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages | length }} {{ messages[0]['content'] }}"


TOKENIZERS: dict[str, tuple[Callable[[Any], None], str]] = {
    "no end": (no_end, "has no end token, so a model cannot say where an answer ends"),
    "a template that cannot be parted": (other_template, "so it cannot be told where the answer begins"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_that_cannot_be_used(folder: Path, tmp_path: Path, name: str) -> None:
    change, message = TOKENIZERS[name]
    tokenizer = small_texts.answering_tokenizer()
    change(tokenizer)
    small_texts.save(tmp_path / "model", small_texts.answering_llama(), tokenizer)
    with pytest.raises(CheckpointError, match=message):
        opened(folder, model=tmp_path / "model")


def test_a_tokenizer_of_another_model(folder: Path, tmp_path: Path) -> None:
    wrong = small_texts.tokenizer(tuple(f"w{number}" for number in range(100)))
    small_texts.save(tmp_path / "model", small_texts.answering_llama(), wrong)
    with pytest.raises(CheckpointError, match="does not match the model: it numbers 104 tokens, and the model has 32"):
        opened(folder, model=tmp_path / "model")
