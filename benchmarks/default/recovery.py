"""What comes back of the forgotten records, read from the evidence that a benchmark kept.

    nablatau bench benchmarks/default/study.py:per_record --folder default-per-record
    python benchmarks/default/recovery.py default-per-record

A run's model is fine-tuned on the retained records alone for 10, 30 and 100 steps, or its weights are rounded; what is
shown is by how much the AUC rose with which forgotten records are told from unseen ones, less the same of the retrained
reference, at the readout whose lower limit is highest. Limits hold for all readouts of a check at once (contrasts.py).
"""

import argparse
import json
from pathlib import Path

from runs import markdown

from nablatau.contrasts import unpacked
from nablatau.evidence import Evidence
from nablatau.statistics import clopper_pearson

CHECKS = {"recovery_finetuning": "steps of fine-tuning", "recovery_rounding": "bits a weight"}


def table(folder: Path) -> str:
    """Every run, then how many of each method's were recovered."""
    rows, recovered = [], {}
    for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        evidence = Evidence.load(folder / record["evidence"])
        back = False
        for name, unit in CHECKS.items():
            found = unpacked(evidence.arrays[name], evidence.goal)
            worst = max(found, key=lambda each: each.gain.low)
            back |= any(each.recovered for each in found)
            records = f"{worst.gain.n} and {worst.gain.m}"
            rows.append([record["method"], record["training_seed"], records, f"{worst.at} {unit}", worst.gain])
        recovered.setdefault(record["method"], []).append(back)
    head = ["method", "seed", "forgotten and unseen records", "after", "AUC gained, less the reference's"]
    shares = ([name, clopper_pearson(sum(found), len(found)), len(found)] for name, found in recovered.items())
    return f"{markdown(head, rows)}\n\n{markdown(['method', 'share of runs RECOVERABLE', 'runs'], shares)}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a benchmark with recovery checks")
    print(table(parser.parse_args().folder))


if __name__ == "__main__":
    main()
