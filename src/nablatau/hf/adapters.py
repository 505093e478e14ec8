"""Adapters: a model with few weights of its own beside frozen ones, which alone are trained. The library is peft."""

from pathlib import Path
from typing import Any

from torch import nn

from nablatau.errors import SettingsError
from nablatau.hf.extras import library
from nablatau.hf.pretrained import Pretrained, quiet
from nablatau.methods.low_rank import is_adapted

ADAPTERS = "Adapters"


def with_adapter(pretrained: Pretrained, adapter_type: str, rank: int) -> Pretrained:
    """The model, changed in place, with a fresh LoRA adapter on its linear layers; its head can be trained too.

    Args:
        pretrained: without an adapter.
        adapter_type: what peft calls the task.
        rank: of the adapter, 1 or more.

    Raises:
        SettingsError: a rank below 1, a model that has an adapter already, or peft is not installed.
    """
    if rank < 1:
        raise SettingsError(f"--lora-rank must be 1 or more, not {rank}.")
    if is_adapted(pretrained.model):
        raise SettingsError(
            f"{pretrained.source} has an adapter already, which will be trained. Leave --lora-rank out."
        )
    peft = library("peft", ADAPTERS)
    config = peft.LoraConfig(task_type=adapter_type, r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with quiet():
        model = peft.get_peft_model(pretrained.model, config)
    folder = Path(pretrained.source)
    config.base_model_name_or_path = str(folder.resolve()) if folder.is_dir() else pretrained.source
    return Pretrained(
        model=model.eval(), tokenizer=pretrained.tokenizer, folder=pretrained.folder, source=pretrained.source
    )


def merged(model: Any) -> nn.Module:
    """The model with its adapter worked into its weights, as `from_pretrained` loads it; the given one is used up."""
    whole: nn.Module = model.merge_and_unload()
    return whole
