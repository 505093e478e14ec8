"""Optional libraries, imported when they are first needed; a missing one is an error that prints the install line."""

from importlib import import_module
from typing import Any

from nablatau.errors import SettingsError

EXTRA_OF = {"transformers": "hf", "peft": "hf", "pyarrow": "data", "datasets": "data"}
"""The extra of nablatau that brings a library."""


def library(name: str, wanted_by: str) -> Any:
    """The module of this name.

    Args:
        name: of a module of a library in `EXTRA_OF`, such as "pyarrow.parquet".
        wanted_by: what needs it, to begin the message with, such as "Text models".

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        top = name.split(".")[0]
        if error.name is None or error.name.split(".")[0] != top:  # installed, and something that it needs is not
            raise
        raise SettingsError(
            f"{wanted_by} need {top}, which is not installed: pip install 'nablatau[{EXTRA_OF[top]}]'."
        ) from error
