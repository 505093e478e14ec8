"""Settings from words: NAME=VALUE, read by the types that a method's fields have."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from nablatau.errors import SettingsError

if TYPE_CHECKING:
    from nablatau.methods import Method

NAMES = {types.NoneType: "none", bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
"""What is said of a type that can be given in words."""


def with_settings(method: "Method", words: Sequence[str]) -> "Method":
    """The method with some settings changed, and checked as all are.

    Args:
        method: with its defaults, or a preset's settings.
        words: such as "learning_rate=1e-3"; "none" for a setting that is left to the method.

    Raises:
        SettingsError: a word of another form, a name that the method has not or that is given twice, or a value of
            another type or outside its rule.
    """
    hints = typing.get_type_hints(type(method))
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SettingsError(f"A setting is a name with a value, --set NAME=VALUE, not {word!r}.")
        known = {each.name: getattr(method, each.name) for each in dataclasses.fields(method)}
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            listed = ", ".join(f"{each}={_written(value)}" for each, value in known.items())
            raise SettingsError(f"{method.name} has no setting {name!r}.{hint} It has {listed or 'none'}.")
        if name in given:
            raise SettingsError(f"{name} is given twice. Leave one of them out.")
        try:
            given[name] = value_of(text, hints[name])
        except ValueError as error:
            raise SettingsError(
                f"{name} of {method.name} must be {_told(hints[name])}, not {text!r}. It is {_written(known[name])} "
                "unless given."
            ) from error
    return dataclasses.replace(method, **given)


def value_of(text: str, kind: Any) -> Any:
    """What a word says as a value of a type.

    Args:
        text: the word.
        kind: None's type, bool, int, float or str; a Literal; or a union of these.

    Raises:
        ValueError: it says no such value.
    """
    if typing.get_origin(kind) is Literal:
        found = [each for each in typing.get_args(kind) if str(each) == text]
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        found = []
        for each in sorted(typing.get_args(kind), key=lambda each: each is str):  # any word is a str
            try:
                found.append(value_of(text, each))
            except ValueError:
                continue
    elif kind in (bool, types.NoneType):
        known = {"none": None} if kind is types.NoneType else {"true": True, "false": False}
        found = [value for word, value in known.items() if word == text.lower()]
    else:
        found = [kind(text)] if kind in NAMES else []
    if not found:
        raise ValueError(f"{text!r} is not {_told(kind)}")
    return found[0]


def _told(kind: Any) -> str:
    """A type in words."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(map(_told, typing.get_args(kind)))
    return NAMES.get(kind, "set from Python, since no word says such a value")


def _written(value: Any) -> str:
    """A value as it is given in words."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
