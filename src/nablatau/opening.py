"""From the words of the command line to what a run needs: texts, project, request, weights, runtime."""

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from nablatau.options import Choice, How, TextWords, check_texts, recipe_of, request_of, runtime_of

if TYPE_CHECKING:
    from torch import nn

    from nablatau.data import Request
    from nablatau.hf import TextProject
    from nablatau.projects import Project
    from nablatau.recipes import Recipe
    from nablatau.runtime import Runtime


def texts_of(target: str | None, words: TextWords) -> "TextProject | None":
    """The Hugging Face model and the texts that the options name; None where a target is named instead."""
    check_texts(target, words)
    if words.hf is None:
        return None
    from nablatau.hf import Columns, text_project

    columns = Columns(
        id=words.id_column,
        text=words.text_column,
        prompt=words.prompt_column,
        alternative=words.alternative_column,
        label=words.label_column,
        group=words.group_column,
    )
    return text_project(
        words.hf,
        task=str(words.task),
        train=str(words.data),
        holdout=str(words.holdout),
        test=words.test,
        columns=columns,
        most_tokens=words.max_tokens,
        lora_rank=words.lora_rank,
        packed=words.packed,
    )


def runtime_for(how: How, opened: "TextProject | None") -> "Runtime":
    """Where to run; texts are read fewer at a time, and what lies below an adapter is held once."""
    if opened is None:
        return runtime_of(how)
    runtime = runtime_of(how, at_once=opened.task.texts_at_once)
    return dataclasses.replace(runtime, share_frozen=opened.is_adapted)


def recipe_for(project: "Project", runtime: "Runtime", tier: int) -> "Recipe | None":
    """The project's recipe; refused before any work where the evidence trains by it and cannot.

    Args:
        project: whose model is to forget.
        runtime: of the training.
        tier: of the evidence; above 1 it has a model that was retrained.
    """
    if tier == 1:
        return project.recipe
    recipe = recipe_of(project)
    recipe.check(project.model, runtime)
    return recipe


def check_merge(opened: "TextProject | None", merge: bool) -> None:
    """Refuse --merge before any work where it means nothing."""
    from nablatau.errors import SettingsError

    if opened:
        opened.check_merge(merge)
    elif merge:
        raise SettingsError("--merge is for adapters of Hugging Face models: it goes with --hf MODEL. Leave it out.")


def request_for(project: "Project", opened: "TextProject | None", choice: Choice) -> "Request":
    """The request that the options ask for; classes of texts by name or number."""
    if opened:
        choice = dataclasses.replace(choice, forget_class=opened.class_numbers(choice.forget_class))
    return request_of(project, choice)


def with_weights(project: "Project", opened: "TextProject | None", place: Path) -> "nn.Module":
    """The project's model with other weights."""
    from nablatau.checkpoints import load_weights

    return opened.load_weights(place) if opened else load_weights(copy.deepcopy(project.model), place)


def project_of(target: str | None, how: How) -> "Project":
    """The project of this name, its model trained where it is a task."""
    from nablatau.projects import load_project
    from nablatau.tasks import TASKS

    assert target is not None
    if target in TASKS:
        return TASKS[target]().trained(how.seed, runtime=runtime_of(how))
    return load_project(target, list(TASKS))
