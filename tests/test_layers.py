"""The layering rule: a part imports only what stands to its left; importing nablatau does nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from shared_files import SHARED

SOURCE = Path(__file__).parents[1] / "src" / "nablatau"

LAYERS: list[set[str]] = [
    {"errors", "statistics", "lazy"},
    {"batches", "merging", "modes"},
    {"fingerprints", "tokens", "prompts", "quantisation"},
    {"records", "packing", "losses"},
    {"data", "objectives", "checkpoints"},
    {"runtime", "signals"},
    {"loading", "blocks"},
    {"pieces", "sharding", "processes", "history"},
    {"training"},
    {"recipes"},
    {"projects", "methods", "attacks", "metrics", "scoring", "near_copies"},
    {"answers", "settings", "belonging"},
    {"tasks", "evidence", "stacks", "published_scores"},
    {"perceptrons"},
    {"shadows", "recovery"},
    {"pipelines", "contrasts"},
    {"swapping"},
    {"evaluation"},
    {"report"},
    {"results"},
    {"api"},
    {"selftest", "options", "listing"},
    {"bench"},
    {"hf"},
    {"opening", "printing"},
    {"cli"},
]
"""From left to right; parts in one layer do not import each other."""

RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
ARRAYS_ALONE = {"statistics", "metrics", "attacks"}
"""Parts that never see a model."""
OPTIONAL = {
    "transformers",
    "peft",
    "datasets",
    "dask",
    "distributed",
    "mlflow",
    "optuna",
    "accelerate",
    "tokenizers",
    "pyarrow",
    "huggingface_hub",
}
FILES = sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            whole = node.module == "nablatau"
            names = [f"nablatau.{alias.name}" for alias in node.names] if whole else [node.module or ""]
            found += [(node.lineno, name) for name in names]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_part_imports_only_what_stands_to_its_left(file: Path) -> None:
    part = part_of(file)
    if part in ("__init__", "__main__"):
        return
    assert part in RANK, f"{part} has no place in LAYERS"
    for line, name in imports_of(ast.parse(file.read_text())):
        if name.split(".")[0] != "nablatau":
            continue
        assert name != "nablatau", f"{file.name}:{line}: name the part that is meant"
        other = name.split(".")[1]
        if other == part:
            allowed = part not in ("methods", "attacks", "tasks") or is_shared(file, name)
        elif part in ARRAYS_ALONE:
            allowed = other in ARRAYS_ALONE and RANK[other] <= RANK[part]
        else:
            allowed = RANK[other] < RANK[part]
        assert allowed, f"{file.name}:{line}: {part} must not import {name}"


def is_shared(file: Path, name: str) -> bool:
    """One method (attack, task) imports no other, only what its folder shares."""
    shared = set().union(*SHARED.values())
    return file.name == "__init__.py" or name.split(".")[-1] in shared


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_optional_libraries_are_imported_where_they_are_needed(file: Path) -> None:
    top_level = [node for node in ast.parse(file.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    for _, name in [pair for node in top_level for pair in imports_of(node)]:
        assert name.split(".")[0] not in OPTIONAL, f"{file.name} imports {name} at its head"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_file_opens_with_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))


def test_importing_changes_nothing() -> None:
    code = (
        "import os, random, sys, numpy, torch, logging, warnings, sklearn.linear_model\n"
        "before = (random.getstate()[1][:3], torch.initial_seed(), numpy.random.get_state()[1][:3].tolist(),\n"
        "          list(logging.root.handlers), list(warnings.filters), os.listdir(), dict(os.environ))\n"
        "import nablatau, nablatau.api, nablatau.tasks\n"
        "nablatau.forget, nablatau.evaluate, nablatau.TrainingData\n"
        "after = (random.getstate()[1][:3], torch.initial_seed(), numpy.random.get_state()[1][:3].tolist(),\n"
        "         list(logging.root.handlers), list(warnings.filters), os.listdir(), dict(os.environ))\n"
        "changed = [i for i, (a, b) in enumerate(zip(before, after)) if a != b and i != 4]\n"
        "assert not changed, changed\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
