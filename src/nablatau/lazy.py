"""Names of a package that are loaded when they are first used (PEP 562), so that importing it costs nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def loading(package: str, places: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """What a package has as its `__getattr__`.

    Args:
        package: its name.
        places: by module of the package, the names that it holds.

    Returns:
        A function from a name to what it stands for, which the package then holds. It raises AttributeError for others.
    """
    place_of = {name: place for place, names in places.items() for name in names}

    def load(name: str) -> Any:
        if name not in place_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{place_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
