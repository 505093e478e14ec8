"""A model and its tokenizer from a folder or a hub name, checked against each other before any work.

Only safetensors are read, and no code that comes with a model is run. A hub name is first turned into a folder (the
hub's own cache), of which no file that could hold a pickle is fetched.

A checkpoint in half precision is read in float32: steps of unlearning are small, and half precision rounds them away.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from nablatau.errors import CheckpointError, shortened
from nablatau.hf.extras import library

TEXT_MODELS = "Text models"
CONFIG_NAME, ADAPTER_NAME = "config.json", "adapter_config.json"
WEIGHTS = {
    CONFIG_NAME: ("model.safetensors", "model.safetensors.index.json"),
    ADAPTER_NAME: ("adapter_model.safetensors",),
}
"""The weights that are read of a model, one of these, and of an adapter; of others a pickle might be read instead."""
READ_JSON = (
    CONFIG_NAME,
    ADAPTER_NAME,
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
"""Files that hold one JSON object each, where they are there."""
FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md")
"""Files of a hub model that are fetched: none that could hold a pickle, or code."""
UNLIMITED = 10**9
"""Tokens from which on nothing limits a text: tokenizers without a limit of their own say 10^30."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """A model with its tokenizer.

    Attributes:
        model: in eval mode, in float32, on the CPU.
        tokenizer: its own.
        folder: they were read from, with the model card if there is one.
        source: folder or hub name as it was given.
    """

    model: nn.Module = field(repr=False)
    tokenizer: Any = field(repr=False)
    folder: Path
    source: str

    @property
    def config(self) -> Any:
        """The model's config."""
        return self.model.config

    @property
    def has_own_config(self) -> bool:
        """Whether an adapter came with a config beside it: transformers takes such a folder for a whole model's."""
        return all((self.folder / name).exists() for name in (ADAPTER_NAME, CONFIG_NAME))

    @property
    def label_numbers(self) -> dict[str, int]:
        """The number of each label's name, in the order of the model's logits."""
        return {str(name): int(number) for number, name in sorted(self.config.id2label.items())}

    @property
    def most_tokens(self) -> int | None:
        """How many tokens of a text the model takes; None where nothing limits them."""
        named = [*self.model.named_modules()]
        tables = [
            each for name, each in named if name.endswith("position_embeddings") and isinstance(each, nn.Embedding)
        ]
        if tables:  # in RoBERTa and its kin positions are counted from behind the padding's
            skipped = tables[0].padding_idx
            limits = [tables[0].num_embeddings - (0 if skipped is None else skipped + 1)]
        else:
            limits = [getattr(self.config.get_text_config(), "max_position_embeddings", None) or UNLIMITED]
        most = min(*limits, self.tokenizer.model_max_length)
        return None if most >= UNLIMITED else int(most)


def load(source: str, auto_class: str) -> Pretrained:
    """The model and the tokenizer of this name.

    Args:
        source: folder with weights, config and tokenizer, or with an adapter; or a name on the hub.
        auto_class: of transformers, such as "AutoModelForSequenceClassification".

    Raises:
        SettingsError: transformers is not installed.
        CheckpointError: nothing is there, or it is pickled, damaged, of another task, or its parts do not fit.
    """
    library("transformers", TEXT_MODELS)
    folder = located(source)
    check_folder(folder, source)
    with quiet():
        if (folder / ADAPTER_NAME).exists():
            model = _adapted(folder, source, auto_class)
        else:
            model = _whole(folder, source, auto_class)
        tokenizer = _tokenizer(folder, source)
    check_tokenizer(source, model, tokenizer)
    return Pretrained(model=model.eval(), tokenizer=tokenizer, folder=folder, source=source)


def located(source: str) -> Path:
    """The folder itself, or the folder into which the hub's model of this name was fetched, now or before.

    Raises:
        CheckpointError: neither is there.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    hub = library("huggingface_hub", TEXT_MODELS)
    try:
        return Path(hub.snapshot_download(source, allow_patterns=list(FETCHED)))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{source} is no folder, and no model of this name could be fetched from the hub: {_first_line(error)} "
            "Name a folder that holds the model and its tokenizer, or fetch it once where there is a network: "
            f"hf download {source}."
        ) from error


def check_folder(folder: Path, source: str) -> None:
    """Refuse a folder without weights that are safe to read.

    Raises:
        CheckpointError: it holds no model, pickled weights alone, a damaged file, or a model that brings its own code.
    """
    files = sorted(each.name for each in folder.iterdir())
    configs = [name for name in (ADAPTER_NAME, CONFIG_NAME) if name in files]
    wanted = WEIGHTS[configs[0] if configs else CONFIG_NAME]
    pickled = [name for name in files if name.endswith(PICKLED)]
    if not any(name in files for name in wanted):
        what = "an adapter" if configs[:1] == [ADAPTER_NAME] else "a model"
        if pickled:
            raise CheckpointError(
                f"{source} holds {what} with pickled weights alone ({shortened(pickled, 3)}, and no {wanted[0]}), and "
                "loading a pickle runs code that is in it, so it is not read. If you trust it, load it once with "
                "from_pretrained(folder, use_safetensors=False) and save it with save_pretrained(folder), which writes "
                "safetensors."
            )
        raise CheckpointError(
            f"{source} holds no weights of {what} ({wanted[0]}). Name a folder that save_pretrained wrote, with the "
            "model and its tokenizer."
        )
    if not configs:
        raise CheckpointError(
            f"{source} holds weights and no {CONFIG_NAME}, so it is not known of which model they are. Name a folder "
            "that save_pretrained wrote; for weights of your own network use nablatau forget FILE.py:FUNCTION."
        )
    held = {name: _read_json(folder / name, source) for name in READ_JSON if name in files}
    foreign = [name for name in configs if "auto_map" in held[name]]
    if foreign:
        raise CheckpointError(
            f"{source} brings code of its own (auto_map in {foreign[0]}), which is not run. Load the model in a "
            "function of yours that returns a Project, and use nablatau forget FILE.py:FUNCTION."
        )


def _read_json(file: Path, source: str) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(_damaged(file, source, str(error))) from error
    if not isinstance(held, dict):
        raise CheckpointError(_damaged(file, source, f"it holds a {type(held).__name__}, not an object"))
    return held


def _damaged(file: Path, source: str, why: str) -> str:
    return (
        f"{file.name} in {source} is damaged ({why}), so it is not known what model or tokenizer this is. Fetch or "
        "save the folder again."
    )


def _whole(folder: Path, source: str, auto_class: str) -> nn.Module:
    """A model all of whose weights are in the folder."""
    try:
        model, missing = _from_folder(folder, auto_class)
    except _unloadable() as error:
        raise CheckpointError(f"{source} cannot be loaded by {auto_class}: {_first_line(error)}") from error
    _refuse_random(source, auto_class, missing)
    return model


def _adapted(folder: Path, source: str, auto_class: str) -> nn.Module:
    """The model that an adapter was trained on, with the adapter on it, whose weights alone can be trained."""
    peft = library("peft", "Folders with an adapter")
    base = _read_json(folder / ADAPTER_NAME, source).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(
            f"{source} holds an adapter, and its {ADAPTER_NAME} does not say of which model (base_model_name_or_path). "
            "Write the folder or hub name of that model there."
        )
    below = located(str(base))
    check_folder(below, str(base))
    transformers = library("transformers", TEXT_MODELS)
    try:
        # an adapter may bring a head with other labels than the model below it: then its own config says so
        config = transformers.AutoConfig.from_pretrained(
            folder if (folder / CONFIG_NAME).exists() else below, trust_remote_code=False
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(0)  # a head that the adapter replaces is random, and stays below it
            model, found = _from_folder(below, auto_class, config=config)
            warnings.filterwarnings("error", "Found missing adapter keys")
            adapted = peft.PeftModel.from_pretrained(model, folder, is_trainable=True)
    except _unloadable(UserWarning) as error:
        raise CheckpointError(
            f"The adapter in {source} cannot be put on {base}: {_first_line(error)} If it has labels of its own, save "
            "the config it was trained with beside it: model.config.save_pretrained(folder)."
        ) from error
    brought = set(adapted.active_peft_config.modules_to_save or ())
    _refuse_random(str(base), auto_class, [key for key in found if not brought & set(key.split("."))])
    return adapted  # type: ignore[no-any-return]


def _unloadable(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What the libraries raise at files that do not hold what they should, such as a word where a number is meant."""
    wrong_field: type[Exception] = library("huggingface_hub", TEXT_MODELS).errors.StrictDataclassError
    return (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, wrong_field, *more)


def _from_folder(folder: Path, auto_class: str, **settings: Any) -> tuple[nn.Module, list[str]]:
    """The model in a folder, and the names of its weights that were not there."""
    auto = getattr(library("transformers", TEXT_MODELS), auto_class)
    model, found = auto.from_pretrained(
        folder,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
        **settings,
    )
    return model, sorted(found["missing_keys"])


def _refuse_random(source: str, auto_class: str, missing: list[str]) -> None:
    if missing:
        raise CheckpointError(
            f"{source} lacks weights that {auto_class} needs ({shortened(missing, 4)}); they would be random, and "
            "there would be nothing to forget in them. Name the model that was trained for this task, not the one it "
            "was made from."
        )


# ---------------------------------------------------------------------- tokenizer


def _tokenizer(folder: Path, source: str) -> Any:
    """The tokenizer in a folder."""
    unread = (
        "Texts must be cut into the tokens that the model was trained with: save its tokenizer beside it, "
        "tokenizer.save_pretrained(folder)."
    )
    names = [each.name for each in folder.iterdir()]
    if not any(name.startswith(("tokenizer.", "vocab.")) or name.endswith(".model") for name in names):
        raise CheckpointError(f"{source} holds no tokenizer. {unread}")  # transformers would make an empty one
    try:
        return library("transformers", TEXT_MODELS).AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"The tokenizer in {source} cannot be read: {_first_line(error)} {unread}") from error


def check_tokenizer(source: str, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that is not the model's.

    Args:
        source: for messages.
        model: whose config gets the tokenizer's padding token, where it names none.
        tokenizer: to check.

    Raises:
        CheckpointError: it makes tokens that the model does not know, knows less than half of the model's, begins, ends
            or pads texts with another token than the model's config names, or has none to pad with.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    known = max(tokenizer.get_vocab().values()) + 1
    if known > rows or 2 * known < rows:  # tables are often filled up to a round number, never to twice their size
        raise CheckpointError(
            f"The tokenizer in {source} does not match the model: it numbers {known:,} tokens, and the model has "
            f"{rows:,}. The texts would not be those the model was trained on. Put the model's own tokenizer into the "
            "folder."
        )
    if tokenizer.pad_token_id is None:
        raise CheckpointError(
            f"The tokenizer in {source} has no padding token, so texts of several lengths do not fit into a batch. Set "
            "the one used in training, such as tokenizer.pad_token = tokenizer.eos_token, and save the tokenizer again."
        )
    config = model.config.get_text_config()
    _check_ends(source, model, config, tokenizer)
    padding = getattr(config, "pad_token_id", None)
    if padding is None:
        config.pad_token_id = tokenizer.pad_token_id
    elif padding != tokenizer.pad_token_id:
        raise CheckpointError(
            f"The tokenizer in {source} does not match the model: it pads with token {tokenizer.pad_token_id}, and the "
            f"model's config names {padding}. The model would read padding as text. Put the model's own tokenizer into "
            "the folder, or correct pad_token_id in config.json."
        )


def _check_ends(source: str, model: Any, config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer whose first or last token of a text is none of those that the model's own configs name.

    A config that names what its class does says nothing: models trained from scratch often keep that by mistake.
    """
    for name in ("bos_token_id", "eos_token_id"):
        ours, named = getattr(tokenizer, name), getattr(config, name, None)
        if ours is None or named in (None, getattr(type(config)(), name, None)):
            continue
        told = [named, getattr(getattr(model, "generation_config", None), name, None)]
        theirs = sorted({number for each in told for number in ([each] if isinstance(each, int) else each or ())})
        if ours not in theirs:
            raise CheckpointError(
                f"The tokenizer in {source} does not match the model: its {name} is {ours}, and the model's config "
                f"names {', '.join(map(str, theirs))}. Texts would begin or end with a token that means something else "
                f"to the model. Put the model's own tokenizer into the folder, or correct {name} in config.json."
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports, which are as they were afterwards.

    Nor with what peft's releases up to 0.21 ask of transformers under a name that is going to be another.
    """
    talk = library("transformers", TEXT_MODELS).utils.logging
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    """What went wrong, without the advice that follows it, ended by a full stop."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" :")
    return line if line.endswith(".") else f"{line}."
