"""Runs kept in a file, one JSON object a line: what is there is not run again, and tables are made of it alone."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Numbers = dict[str, float]
Run = tuple[str, int]
"""What was run, and the training seed."""


class Runs:
    """The runs of a file.

    Args:
        file: made with the first run.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self._done: dict[Run, Numbers] = {
            (each["run"], each["seed"]): each["numbers"] for each in map(json.loads, lines)
        }

    def make(self, name: str, seeds: Iterable[int], run: Callable[[int], Numbers]) -> None:
        """Run what the file does not hold, and append it."""
        for seed in seeds:
            if (name, seed) in self._done:
                continue
            self._done[name, seed] = run(seed)
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"run": name, "seed": seed, "numbers": self._done[name, seed]}) + "\n")

    @property
    def names(self) -> list[str]:
        """Of what was run, in the order of the file."""
        return list(dict.fromkeys(name for name, _ in self._done))

    def of(self, name: str) -> list[Numbers]:
        """The numbers of every seed."""
        return [numbers for (other, _), numbers in self._done.items() if other == name]


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
