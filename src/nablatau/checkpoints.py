"""Weights on disk: safetensors only, and folders that are there whole or not at all.

Nothing pickled is read or written: a pickle runs code when it is loaded. A folder is written beside its
final place and renamed, so a run that is killed leaves no half-written folder under the name it was given.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from nablatau.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"


def save_weights(model: nn.Module, file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a model's parameters and buffers, tensors that are shared stored once.

    Args:
        model: on any device.
        file: to write.
        metadata: strings that travel in the file's head.
    """
    save_model(model, str(file), metadata)


def load_weights(model: nn.Module, file: Path) -> nn.Module:
    """Read weights into a model, in place.

    Args:
        model: of the architecture the weights were saved from.
        file: a .safetensors file.

    Raises:
        CheckpointError: no such file, not safetensors, or names and shapes that do not fit the model.
    """
    if not file.is_file():
        raise CheckpointError(f"There is no file {file}. Pass the .safetensors file of the weights.")
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file} is not a .safetensors file. Other formats may hold a pickle, which runs code when it is loaded. "
            "Load it yourself with torch.load(…, weights_only=True) and save it with safetensors.torch.save_model."
        )
    try:
        load_model(model, str(file))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} does not fit the model, or is damaged: {error}") from error
    return model


def check_free(folder: Path) -> None:
    """Refuse a folder that is there already, before any work goes into filling it.

    Raises:
        CheckpointError: it exists.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists already, and nothing is overwritten. Name another folder, or move it.")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` at the end, or is removed if an error ends the block.

    Args:
        folder: must not exist yet.

    Raises:
        CheckpointError: it exists, or cannot be made.
    """
    check_free(folder)
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}.", suffix=".part"))
        part.chmod(0o755)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be made: {error}. Name a folder that can be written.") from error
    try:
        yield part
        check_free(folder)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part)
        raise


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `file` at the end, or is removed if an error ends the block.

    Raises:
        CheckpointError: nothing can be written there.
    """
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        part.chmod(0o644)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be written: {error}. Name a file that can.") from error
    try:
        yield part
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
