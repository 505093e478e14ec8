"""Settings from words, for every method there is."""

import dataclasses
import typing
from types import NoneType
from typing import Any, Literal

import pytest

from nablatau.errors import SettingsError
from nablatau.methods import METHODS, PRESETS, Method, Npo, Rmu
from nablatau.settings import value_of, with_settings


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("1e-3", float, 1e-3),
        ("3", float | None, 3.0),
        ("None", float | None, None),
        ("true", bool, True),
        ("False", bool, False),
        ("none", str | None, None),
        ("model.layers.3", str | None, "model.layers.3"),
        ("eval", Literal["train", "eval"], "eval"),
    ],
)
def test_words_are_read_by_type(text: str, kind: Any, value: Any) -> None:
    found = value_of(text, kind)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1.5", int),
        ("fast", float),
        ("yes", bool),
        ("1", bool),
        ("x", int | None),
        ("evl", Literal["eval"]),
        ("1", list),
    ],
)
def test_words_of_another_type_are_refused(text: str, kind: Any) -> None:
    with pytest.raises(ValueError, match=f"'{text}'"):
        value_of(text, kind)


@pytest.mark.parametrize("method", [*(each() for each in METHODS.values()), *(make() for make in PRESETS.values())])
def test_every_setting_of_every_method_can_be_given_in_words(method: Method) -> None:
    values = {each.name: getattr(method, each.name) for each in dataclasses.fields(method)}
    assert with_settings(method, [f"{name}={value}" for name, value in values.items()]) == method
    kinds = {kind for name, kind in typing.get_type_hints(type(method)).items() if name in values}
    parts = {part for kind in kinds for part in (typing.get_args(kind) or (kind,))}
    assert {each for each in parts if not isinstance(each, str)} <= {int, float, bool, str, NoneType}


def test_a_changed_method_is_checked_and_the_given_one_stays() -> None:
    method = Npo()
    assert with_settings(method, ["beta=0.5", "batch_size=4"]) == Npo(beta=0.5, batch_size=4)
    assert with_settings(Rmu(), ["layer=model.layers.1"]) == Rmu(layer="model.layers.1")
    assert method == Npo()
    for words, message in (
        (["beta=-1"], "beta must be above 0"),
        (["mode=fast"], "mode of npo must be train or eval, not 'fast'. It is eval unless given"),
        (["name=other"], "npo has no setting 'name'. It has epochs=10"),
        (["epochs="], "epochs of npo must be a whole number, not ''"),
    ):
        with pytest.raises(SettingsError, match=message):
            with_settings(method, words)
