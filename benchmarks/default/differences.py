"""Differences to the retrained model, paired by training seed, read from the records of benchmarks.

    python benchmarks/default/differences.py FOLDER … [--methods nabla_tau nabla_tau_paper]

The page of `nablatau bench` has means of each model; a difference of two means is less sure than the mean of
differences, for every training seed has its own original, forget set and reference. Points are hundredths, of RMSE
hundredths of a standard deviation; the AUC is that of forgotten against unseen records by their loss. Means over
training seeds with Student's 95 % interval, each unlearning seed by itself. Runs at settings that are not the method's
own are left out.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from runs import markdown

from nablatau.statistics import mean_interval

SCORES = {"score_retain": "retain", "score_forget": "forget", "score_test": "test", "auc": "AUC"}
KEYS = ("task", "request", "method", "unlearning_seed")
HEAD = ["folder", "task", "request", "method", "unlearning seed", "n", "gap", *SCORES.values(), "AUC, retrained"]


def table(folders: list[Path], methods: list[str]) -> str:
    """A row for each folder, task, request, method and unlearning seed."""
    cells = defaultdict(list)
    for folder in folders:
        for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["status"] == "done" and record["method"] in methods and record["settings_from"] != "tuned":
                cells[folder.name, *(record[key] for key in KEYS)].append(record["numbers"])
    return markdown(HEAD, ([*cell, len(found), *_means(found)] for cell, found in cells.items()))


def _means(found: list[dict]) -> list[str]:
    """Gap, differences of the scores, and the reference's AUC."""
    gaps = [each["average_gap"]["unlearned"]["value"] for each in found]
    differences = [[_value(each, name) - _value(each, name, "retrained") for each in found] for name in SCORES]
    return [points(values) for values in (gaps, *differences, [_value(each, "auc", "retrained") for each in found])]


def _value(numbers: dict, name: str, model: str = "unlearned") -> float:
    return numbers[name][model]["value"]


def points(values: list[float]) -> str:
    """The mean in hundredths, with half of the interval."""
    found = mean_interval([100 * each for each in values])
    return f"{found.value:.1f} ± {found.high - found.value:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--methods", nargs="+", default=["nabla_tau"])
    asked = parser.parse_args()
    print(table(asked.folders, asked.methods))


if __name__ == "__main__":
    main()
