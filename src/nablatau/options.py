"""What the command line's options mean: which records, which method, which device. From words to settings.

Nothing heavy is imported before it is needed, so that help is quick.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from nablatau.data import Request
    from nablatau.methods import Method
    from nablatau.projects import Project
    from nablatau.recipes import Recipe
    from nablatau.runtime import Runtime


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which records must go; exactly one of these."""

    forget_ids: Path | None = None
    "File with one id a line."
    forget_class: tuple[str, ...] = ()
    "Every record of this class; may be repeated."
    forget_group: tuple[str, ...] = ()
    "Every record of this group; may be repeated."
    fraction: float | None = None
    "A random share of the training set, such as 0.03."
    fraction_seed: int = 0
    "Seed of the draw of that share."
    forget_duplicates: bool = False
    "Also forget retained records with the same inputs as a forgotten one."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """Where to run, and what to print."""

    seed: int = 0
    "Of the run; the same seed gives the same bits."
    device: str | None = None
    "Such as cpu or cuda; unless given, the device the model lies on."
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    "Of the forward passes."
    clip_norm: float | None = None
    "Largest norm of the gradient; no clipping unless given."
    micro_batch_size: int | None = None
    "Examples of a step that go forward and backward at once, in each process; all unless given. Saves memory alone."
    recompute_activations: Annotated[bool, Parameter(negative="")] = False
    "Keep less of each forward pass, and compute it again for the backward pass (activation checkpointing)."
    sharded: Annotated[bool, Parameter(negative="")] = False
    "Under torchrun: cut the model, gradients and optimizer's state into one share a process (FSDP2)."
    workers: int = 0
    "Processes that read data beside the run."
    evaluation_batch_size: int | None = None
    "Examples in a forward pass without gradients; 1024, or of texts 64 (causal-lm 8), unless given."
    json: Annotated[bool, Parameter(negative="")] = False
    "Print one JSON object instead of text."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TextWords:
    """A Hugging Face model and the texts it was trained on, in place of TARGET."""

    hf: str | None = None
    "The model: a folder with weights (safetensors), config and tokenizer, or a name on the hub."
    task: Literal["text-classification", "multi-label", "causal-lm"] | None = None
    "What it is trained for."
    data: Path | None = None
    "Records it was trained on: .jsonl, .csv, .parquet, or a folder that datasets saved."
    holdout: Path | None = None
    "Records it was not trained on, from the same source."
    test: Path | None = None
    "Records for the evaluation alone."
    id_column: str | None = None
    "Column that names a record; positions unless given."
    text_column: str = "text"
    "Column of the texts, or of the answers to prompts."
    prompt_column: str | None = None
    "Of causal-lm, column of the prompts, whose own tokens do not count; texts stand alone unless given."
    alternative_column: str | None = None
    "Of causal-lm, column of answers to give instead, for methods that teach one, such as idk_dpo."
    label_column: tuple[str, ...] = ()
    "Column of the label (label) or labels (labels); for one column a label, repeat it."
    group_column: str | None = None
    "Column that says whom or what a record belongs to, for --forget-group."
    max_tokens: int | None = None
    "Tokens of a text that are read; as many as the model takes unless given."
    lora_rank: int | None = None
    "Put a LoRA adapter of this rank on the model, which alone is trained, with the head."
    packed: Annotated[bool, Parameter(negative="")] = False
    "Of causal-lm, lay a batch's texts behind one another instead of filling them up: quicker where lengths differ."


SEVERAL = Parameter(consume_multiple=True, negative="", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GridWords:
    """What a benchmark compares."""

    tasks: Annotated[tuple[str, ...], SEVERAL] = ()
    "Names of tasks (see list), or FILE.py:FUNCTION."
    requests: Annotated[tuple[str, ...], SEVERAL] = ()
    "random:0.1, class:3, group:NAME, ids:FILE; one or more."
    methods: Annotated[tuple[str, ...], SEVERAL] = ()
    "Names of methods (see list); all that apply unless given."
    training_seeds: int = 3
    "Number of original models, each with forget sets of its own."
    unlearning_seeds: int = 1
    "Number of runs of a method on each."
    shadows: int = 0
    "Shadow pipelines for each request and training seed, 16 for a start; none unless given."
    tune: int = 0
    "Configurations to try on a proxy forget set for each method, beside its defaults."
    threads: int = 1
    "Of each process; numbers differ a little with it."

    def for_grid(self) -> dict[str, Any]:
        """The fields of a grid; numbers of seeds as seeds from 0."""
        seeds = {name: tuple(range(getattr(self, name))) for name in ("training_seeds", "unlearning_seeds")}
        return dataclasses.asdict(self) | seeds


def check_texts(target: str | None, words: TextWords) -> None:
    """Refuse a command that names no model, two, or texts without what they need.

    Raises:
        SettingsError: with what to type.
    """
    from nablatau.errors import SettingsError

    if (target is None) == (words.hf is None):
        raise SettingsError(
            "Say what is to be worked on by exactly one of TARGET (FILE.py:FUNCTION, or a task's name) and --hf MODEL."
        )
    given = [each.name for each in dataclasses.fields(words) if getattr(words, each.name) != each.default]
    if words.hf is None and given:
        raise SettingsError(
            f"--{given[0].replace('_', '-')} goes with --hf MODEL. A project says these things itself: leave it out."
        )
    missing = [f"--{name}" for name in ("task", "data", "holdout") if name not in given]
    if words.hf is not None and missing:
        raise SettingsError(
            f"{', '.join(missing)} must be given with --hf: the task is text-classification, multi-label or "
            "causal-lm, --data names the file of records that the model was trained on, and --holdout one of records "
            "that it was not."
        )


def request_of(project: "Project", choice: Choice) -> "Request":
    """The request that the options ask for."""
    from nablatau.errors import RequestError

    ways = [choice.forget_ids, choice.forget_class or None, choice.forget_group or None, choice.fraction]
    if sum(way is not None for way in ways) != 1:
        raise RequestError(
            "Say which records must go by exactly one of --forget-ids FILE, --forget-class CLASS, "
            "--forget-group GROUP, --fraction SHARE."
        )
    data, copies = project.data, choice.forget_duplicates
    if choice.forget_ids is not None:
        return data.forget_ids(_read_ids(choice.forget_ids, data.ids), forget_duplicates=copies)
    if choice.forget_class:
        labels = data.class_labels
        return data.forget_class(
            *_as_type_of(labels.ravel()[:1].tolist(), choice.forget_class), forget_duplicates=copies
        )
    if choice.forget_group:
        groups = _as_type_of(list(data.groups or ())[:1], choice.forget_group)
        return data.forget_group(*groups, forget_duplicates=copies)
    assert choice.fraction is not None
    return data.forget_fraction(choice.fraction, seed=choice.fraction_seed, forget_duplicates=copies)


def _read_ids(file: Path, known: Sequence[Hashable] | None) -> list[Hashable]:
    """The ids in a file, one a line, of the type that the data set's ids have."""
    from nablatau.errors import RequestError

    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The file of ids cannot be read: {error}. It is a text file with one id a line.") from error
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise RequestError(f"{file} holds no id, so there is nothing to forget. Write one id a line.")
    return _as_type_of([0] if known is None else list(known)[:1], words)


def _as_type_of(examples: Sequence[Any], words: Sequence[str]) -> list[Hashable]:
    """The words as numbers where the examples are numbers."""
    from nablatau.errors import RequestError

    if not examples or not isinstance(examples[0], int):
        return list(words)
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise RequestError(f"Whole numbers are needed here (ids, classes or groups are): {error}.") from error


def method_of(name: str | None, preset: str | None, batch_size: int | None, settings: Sequence[str] = ()) -> "Method":
    from nablatau.errors import SettingsError
    from nablatau.methods import find_method, find_preset
    from nablatau.settings import with_settings

    if preset is not None and name not in (None, "nabla_tau"):
        raise SettingsError(f"Presets are forms of nabla_tau; {name} has none. Leave --preset out.")
    method = find_preset(preset or "default") if name in (None, "nabla_tau") else find_method(str(name))()
    if batch_size is None:
        return with_settings(method, settings)
    if not hasattr(method, "batch_size"):
        raise SettingsError(f"{name} has no batch size of its own. Leave --batch-size out.")
    return with_settings(method, [f"batch_size={batch_size}", *settings])


def pipelines_method(
    tier: int, name: str | None, preset: str | None, batch_size: int | None, settings: Sequence[str]
) -> "Method | None":
    """The method that shadow pipelines unlearn with; below tier 3 there are none.

    Raises:
        SettingsError: settings of a method that nothing would be unlearned with.
    """
    from nablatau.errors import SettingsError

    if tier == 3:
        return method_of(name, preset, batch_size, settings)
    if settings or batch_size is not None:
        raise SettingsError(
            "--set and --batch-size say how the shadow pipelines of --tier 3 unlearn; below it nothing is unlearned. "
            "Leave them out, or add --tier 3."
        )
    return None


def recipe_of(project: "Project") -> "Recipe":
    from nablatau.errors import SettingsError

    if project.recipe is None:
        raise SettingsError(
            "A reference is retrained by the project's recipe, and it has none. Return Project(recipe=Recipe(…), …), "
            "or leave --tier at 1."
        )
    return project.recipe


def runtime_of(how: How, *, at_once: int = 1024) -> "Runtime":
    from nablatau.runtime import Runtime

    size = how.evaluation_batch_size
    return Runtime(
        device=how.device,
        precision=how.precision,
        clip_norm=how.clip_norm,
        micro_batch_size=how.micro_batch_size,
        recompute_activations=how.recompute_activations,
        sharded=how.sharded,
        workers=how.workers,
        evaluation_batch_size=at_once if size is None else size,
    )
