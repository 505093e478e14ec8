"""LoRA adapters through the front door: what is trained, what stays, and what each way of saving gives back."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nablatau
import small_texts
from nablatau.errors import CheckpointError, SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.hf import Columns, TextProject, text_project
from nablatau.history import History
from nablatau.methods import GradDiff, Npo, Scrub, SelectiveSynapticDampening, TaskVector
from nablatau.methods.base import Job
from nablatau.methods.forget_passes import forget_passes
from nablatau.methods.steps import reference_of

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")
peft = pytest.importorskip("peft", reason="the extra `hf` is not installed")

STEPS = nablatau.Finetune(batch_size=16, learning_rate=0.02)
BUILDS = {"bert": small_texts.bert, "llama": small_texts.llama}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return {
        "task": "text-classification",
        "train": small_texts.write_jsonl(tmp_path / "train.jsonl", small_texts.records(48, 1)),
        "holdout": small_texts.write_jsonl(tmp_path / "unseen.jsonl", small_texts.records(20, 2)),
        "columns": Columns(id="id"),
    }


def forgotten(texts: TextProject) -> nablatau.Forgotten:
    request = texts.project.data.forget_ids(["s1-1", "s1-5"])
    return nablatau.forget(texts.project.model, request, texts.project.objective, method=STEPS)


def logits(model: nn.Module, texts: TextProject) -> torch.Tensor:
    dataset, objective = texts.project.train_set, texts.project.objective
    with torch.no_grad():
        return objective.outputs(model.eval(), objective.collate([dataset[row] for row in range(20)]))


@pytest.mark.parametrize("name", BUILDS)
def test_only_the_adapter_and_the_head_are_trained(name: str, tmp_path: Path, files: dict[str, Any]) -> None:
    folder = small_texts.save(tmp_path / "model", BUILDS[name]())
    texts = text_project(str(folder), lora_rank=2, **files)
    plain = text_project(str(folder), **files)
    assert torch.equal(logits(texts.project.model, texts), logits(plain.project.model, plain))
    before = {key: value.clone() for key, value in texts.project.model.state_dict().items()}
    model = forgotten(texts).model
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all("lora_" in key or "modules_to_save" in key for key in changed)
    assert all(torch.equal(value, before[key]) for key, value in texts.project.model.state_dict().items())


@pytest.mark.parametrize("name", BUILDS)
def test_saved_as_adapter_and_merged(name: str, tmp_path: Path, files: dict[str, Any]) -> None:
    folder = small_texts.save(tmp_path / "model", BUILDS[name]())
    texts = text_project(str(folder), lora_rank=2, **files)
    result = forgotten(texts)
    assert "peft" in texts.described(result).record["versions"]
    found = logits(result.model, texts)

    alone = texts.save(tmp_path / "alone", result)
    assert (alone / "adapter_model.safetensors").exists()
    assert not (alone / "model.safetensors").exists()
    again = text_project(str(alone), **files)
    assert weights_digest(again.project.model) == result.record["model_after"]
    by_transformers = transformers.AutoModelForSequenceClassification.from_pretrained(alone)
    by_transformers.config.pad_token_id = 0  # an adapter is saved without a config
    assert torch.allclose(logits(by_transformers, texts), found, atol=1e-6)

    whole = texts.save(tmp_path / "whole", result, merge=True)
    assert not (whole / "adapter_config.json").exists()
    merged = transformers.AutoModelForSequenceClassification.from_pretrained(whole)
    assert type(merged).__name__ == type(BUILDS[name]()).__name__
    assert torch.allclose(logits(merged, texts), found, atol=1e-5)
    assert weights_digest(result.model) == result.record["model_after"]
    with pytest.raises(SettingsError, match="has no adapter that could be merged"):
        text_project(str(whole), **files).save(tmp_path / "again", result, merge=True)


def test_a_model_that_was_itself_trained_by_an_adapter(tmp_path: Path, files: dict[str, Any]) -> None:
    folder = small_texts.save(tmp_path / "model", small_texts.bert())
    first = text_project(str(folder), lora_rank=2, **files)
    adapter = first.save(tmp_path / "adapter", forgotten(first))
    second = text_project(str(adapter), **files)
    trainable = {key for key, value in second.project.model.named_parameters() if value.requires_grad}
    assert trainable
    assert all("lora_" in key or "modules_to_save" in key for key in trainable)
    saved = second.save(tmp_path / "again", forgotten(second))
    assert weights_digest(text_project(str(saved), **files).project.model) != weights_digest(second.project.model)
    with pytest.raises(SettingsError, match="has an adapter already, which will be trained"):
        text_project(str(adapter), lora_rank=2, **files)


def test_an_adapter_whose_head_is_its_own(tmp_path: Path, files: dict[str, Any]) -> None:
    from nablatau.hf.pretrained import quiet

    below = small_texts.save(tmp_path / "below", small_texts.bert().bert)
    settings = json.loads((below / "config.json").read_text())
    two = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    (below / "config.json").write_text(json.dumps(settings | two))
    model = small_texts.bert()
    model.bert.load_state_dict(transformers.AutoModel.from_pretrained(below).state_dict())
    with quiet():
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear"))
    adapted.peft_config["default"].base_model_name_or_path = str(below)
    with quiet():
        adapted.save_pretrained(tmp_path / "adapter")
    small_texts.tokenizer().save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="save the config it was trained with beside it"):
        text_project(str(tmp_path / "adapter"), **files)
    model.config.save_pretrained(tmp_path / "adapter")
    texts = text_project(str(tmp_path / "adapter"), **files)
    assert torch.allclose(logits(texts.project.model, texts), logits(adapted, texts), atol=1e-6)
    result = forgotten(texts)
    saved = text_project(str(texts.save(tmp_path / "out", result)), **files)
    assert weights_digest(saved.project.model) == result.record["model_after"]


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_that_is_none(rank: int, tmp_path: Path, files: dict[str, Any]) -> None:
    folder = small_texts.save(tmp_path / "model", small_texts.bert())
    with pytest.raises(SettingsError, match=f"--lora-rank must be 1 or more, not {rank}"):
        text_project(str(folder), lora_rank=rank, **files)


# ---------------------------------------------------------------------- the original as reference


def job_of(texts: TextProject) -> Job:
    return Job(
        request=texts.project.data.forget_ids(["s1-1", "s1-5", "s1-7"]).for_methods(),
        objective=texts.project.objective,
        recipe=None,
        seed=0,
        runtime=nablatau.Runtime(),
        device=torch.device("cpu"),
        history=History(),
        on_step=None,
    )


def moved(model: nn.Module) -> set[int]:
    """Where the weights of adapter and head lie, each of them moved a little."""
    weights = [each for each in model.parameters() if each.requires_grad]
    with torch.no_grad():
        for each in weights:
            each += 0.1
    return {each.data_ptr() for each in weights}


@pytest.mark.parametrize("learned", [False, True])
def test_the_reference_is_the_original_without_a_second_base(
    learned: bool, tmp_path: Path, files: dict[str, Any]
) -> None:
    """A fresh adapter is switched off; of one that holds what the original learned there is a copy, and of it alone."""
    texts = text_project(str(small_texts.save(tmp_path / "model", small_texts.bert())), lora_rank=2, **files)
    model = texts.project.model
    if learned:
        moved(model)
    original, reference = logits(model, texts), reference_of(model, job_of(texts))
    places = moved(model)
    assert not torch.allclose(logits(model, texts), original, atol=1e-3)
    with reference.asked() as asked:
        assert torch.equal(logits(asked, texts), original)
    assert (asked is model) == (not learned)
    own = {each.data_ptr() for each in asked.parameters()} - {each.data_ptr() for each in model.parameters()}
    assert len(own) == (len(places) if learned else 0)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("method", [Npo(epochs=1, batch_size=3), GradDiff(epochs=1, batch_size=3), Scrub()])
def test_methods_compare_with_the_original(
    learned: bool, method: nablatau.Method, tmp_path: Path, files: dict[str, Any]
) -> None:
    """Before the first step no record is likelier or unlikelier than under the original, nor any output another."""
    texts = text_project(str(small_texts.save(tmp_path / "model", small_texts.bert())), lora_rank=2, **files)
    if learned:
        moved(texts.project.model)
    request = texts.project.data.forget_ids(["s1-1", "s1-5", "s1-7"])
    done = nablatau.forget(texts.project.model, request, texts.project.objective, method=method)
    first = {name: values[0] for name, values in done.history.columns.items()}
    if isinstance(method, Npo):
        assert first["forget_term"] == pytest.approx(2 / method.beta * math.log(2), rel=1e-5)
    before = texts.project.model.state_dict()
    changed = {name for name, value in done.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name or "modules_to_save" in name for name in changed)


# ---------------------------------------------------------------------- arithmetic on weights


def adapted(model: nn.Module, **form: Any) -> nn.Module:
    from nablatau.hf.pretrained import quiet

    torch.manual_seed(0)
    with quiet():
        return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2, **form)).eval()  # type: ignore[no-any-return]


def merged_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of the whole model, its adapter worked into them."""
    return copy.deepcopy(model).merge_and_unload().state_dict()  # type: ignore[operator]


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("kind", ["linear", "embedding", "with biases"])
def test_the_task_vector_is_taken_from_the_weights_and_not_from_the_factors(
    scale: float, kind: str, tmp_path: Path, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W₀ − λ · (W₁ − W₀), with W₁ what the same fine-tuning gives."""
    forms = {
        "linear": {"target_modules": "all-linear"},
        "embedding": {"target_modules": ["word_embeddings", "query"]},
        "with biases": {"target_modules": "all-linear", "bias": "all", "lora_bias": True},
    }
    texts = text_project(str(small_texts.save(tmp_path / "model", small_texts.bert())), **files)
    model = adapted(texts.project.model, **forms[kind])
    request, objective = texts.project.data.forget_ids(["s1-1", "s1-5", "s1-7"]), texts.project.objective
    tuned: list[nn.Module] = []

    def keep(model: nn.Module, *words: Any, **named: Any) -> None:
        forget_passes(model, *words, **named)
        tuned.append(copy.deepcopy(model))

    monkeypatch.setattr("nablatau.methods.task_vector.forget_passes", keep)
    method = TaskVector(epochs=2, batch_size=3, learning_rate=0.01, scale=scale)
    after = merged_weights(method.unlearn(model, request, objective).model)
    before, there = merged_weights(model), merged_weights(tuned[0])
    for name, weight in after.items():
        assert torch.allclose(weight, before[name] - scale * (there[name] - before[name]), atol=1e-6), name
    assert any(not torch.allclose(after[name], before[name], atol=1e-3) for name in after if "query.weight" in name)


def test_arithmetic_that_an_adapter_cannot_hold_is_refused_before_any_work(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    texts = text_project(str(small_texts.save(tmp_path / "model", small_texts.bert())), lora_rank=2, **files)
    project = texts.project
    request = project.data.forget_ids(["s1-1", "s1-5", "s1-7"])
    dampening = SelectiveSynapticDampening()
    assert TaskVector().why_not(project.model, request, project.objective, None) == ""
    assert "an adapter that adds nothing yet holds" in dampening.why_not(
        project.model, request, project.objective, None
    )
    moved(project.model)
    assert dampening.why_not(project.model, request, project.objective, None) == ""
    with pytest.raises(SettingsError, match=r"task_vector takes away .* Merge it first \(model\.merge_and_unload"):
        nablatau.forget(project.model, request, project.objective, method=TaskVector())
    with_magnitudes = adapted(small_texts.bert(), target_modules="all-linear", use_dora=True)
    assert "or is no LoRA" in TaskVector().why_not(with_magnitudes, request, project.objective, None)
