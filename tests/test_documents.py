"""Python in README and guide: it compiles, and every name and keyword of nablatau in it exists. Nothing of it is run.

What a variable holds is told from what it is assigned: an object of the class that is called, or of the class that the
called function says it returns.
"""

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nablatau

ROOT = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(block.replace("…", "..."), id=f"{name} {number}")  # … stands for what is the reader's own
    for name in ("README.md", "docs/guide.md")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL), 1)
]


@dataclasses.dataclass(frozen=True)
class Instance:
    """An object of this class."""

    of: type


class Checked(ast.NodeVisitor):
    """Walks through a block in its order; `names` says what is known of each name: a value, or an `Instance`."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"nablatau": nablatau}

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            self.names[each.asname or each.name.split(".")[0]] = _ours(each.name) and importlib.import_module(each.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for each in node.names:
            module = str(node.module)
            held = importlib.import_module(module) if _ours(module) else None
            assert held is None or hasattr(held, each.name), f"{module} has no {each.name}"
            self.names[each.asname or each.name] = getattr(held, each.name, None)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.names[target.id] = self.told(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        public = node.id in nablatau.__all__ or node.id[0].isupper()
        assert not public or node.id in self.names or hasattr(builtins, node.id), f"{node.id} is not imported"

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        self.told(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called, spread = self.told(node.func), any(isinstance(each, ast.Starred) for each in node.args)
        if callable(called):
            keywords = {each.arg: None for each in node.keywords if each.arg is not None}
            whole = not spread and len(keywords) == len(node.keywords)
            bind = inspect.signature(called).bind if whole else inspect.signature(called).bind_partial
            bind(*([] if spread else [None] * len(node.args)), **keywords)

    def told(self, node: ast.AST) -> Any:
        """What is known of an expression; None where nothing is."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return _attribute(self.told(node.value), node.attr)
        if isinstance(node, ast.Call):
            called = self.told(node.func)
            if called is not None:
                return _instance(called if inspect.isclass(called) else _hints(called).get("return"))
        return None


def _ours(module: str) -> bool:
    return module.split(".")[0] == "nablatau"


def _hints(of: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(of)
    except NameError:  # a class that is imported for type checkers alone
        return {}


def _instance(of: Any) -> Instance | None:
    return Instance(of) if inspect.isclass(of) and _ours(of.__module__) else None


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, Instance):
        held = inspect.getattr_static(owner.of, name, None)
        if isinstance(held, property):
            return _instance(_hints(held.fget).get("return"))
        if inspect.isfunction(held):
            return held.__get__(object())
        assert held or name in _hints(owner.of) or not dataclasses.is_dataclass(owner.of), f"{owner.of} has no {name}"
        return _instance(_hints(owner.of).get(name))
    return getattr(owner, name) if isinstance(owner, ModuleType) or inspect.isclass(owner) else None


@pytest.mark.parametrize("block", BLOCKS)
def test_names_and_keywords_of_a_block_exist(block: str) -> None:
    if "NablaTauTrainer" in block:
        pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    Checked().visit(ast.parse(block))


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ("nablatau.forget(model, request, objective, method=NablaTau())", AssertionError, "NablaTau is not imported"),
        ("nablatau.NablaTau(batch_size=64, mode='train')", TypeError, "unexpected keyword argument 'mode'"),
        ("nablatau.forgets(model)", AttributeError, "no attribute 'forgets'"),
        ("from nablatau.hf import Column", AssertionError, "nablatau.hf has no Column"),
        ("nablatau.TrainingData(a, b).forget_idss([1])", AssertionError, "has no forget_idss"),
        ("r = nablatau.forget(a, b, c)\nr.save('x', folder='y')", TypeError, "multiple values for argument 'folder'"),
        ("p = nablatau.Project(model=m, train_set=t, objective=o)\np.dat", AssertionError, "has no dat"),
        ("nablatau.TrainingData(a, b).forget_fraction()", TypeError, "missing a required argument: 'fraction'"),
    ],
)
def test_what_is_wrong_is_found(block: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Checked().visit(ast.parse(block))
