"""What the results page measures: each number of a run, with how to read it, its unit and its limits."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nablatau.bench.reading import Run
from nablatau.evaluation import TASK_SCORES
from nablatau.objectives import Kind

ROLES = {
    "original": "original, nothing forgotten",
    "retrained": "retrained, the reference",
    "retrained_again": "retrained again, another seed",
}
"""Models beside the unlearned one, in the order of the tables."""
LOWER_IS_BETTER = ("regression", "causal-lm", "loss")
"""Kinds of task whose score is an error."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a run, as the tables show it.

    Attributes:
        title: what is measured.
        note: how to read it.
        of: the number of a run's model by role; None where it is missing.
        decimals: shown.
        lowest: that it can be: intervals end there.
        highest: likewise.
        roles: of the models shown beside the candidates.
    """

    title: str
    note: str
    of: Callable[[Run, str], float | None] = field(repr=False)
    decimals: int = 3
    lowest: float = 0.0
    highest: float = float("inf")
    roles: tuple[str, ...] = ("original", "retrained", "retrained_again")


def named(name: str) -> Callable[[Run, str], float | None]:
    """The number of this name in the records."""
    return lambda run, role: run.number(name, role)


def _hundredths(name: str) -> Callable[[Run, str], float | None]:
    """The number of this name, times 100."""
    return lambda run, role: None if (found := run.number(name, role)) is None else 100 * found


def membership_gap(run: Run, role: str = "unlearned") -> float | None:
    """|RMIA AUC − the retrained model's|; 0.5 stands for the latter where it was not attacked itself."""
    found, retrained = run.number("rmia_auc", role), run.number("rmia_auc", "retrained")
    return None if found is None else abs(found - (0.5 if retrained is None else retrained))


def utility_gap(run: Run, role: str = "unlearned") -> float | None:
    """Test score − the retrained model's, turned so that below zero is worse than retrained."""
    found, retrained = run.number("score_test", role), run.number("score_test", "retrained")
    sign = -1 if run.record.get("kind") in LOWER_IS_BETTER else 1
    return None if found is None or retrained is None else sign * (found - retrained)


GAP = Measure(
    title="Average gap to retrain",
    note="Points, a hundredth each; mean |difference| to the retrained model over the task's score on retain, forget "
    "and test set and the RMIA AUC. Lower is better. "
    "“Retrained again” is the floor, what two retrained models differ by; differences below it mean nothing.",
    of=_hundredths("average_gap"),
    decimals=2,
    roles=("original", "retrained_again"),
)
RMIA = Measure(
    title="RMIA AUC, forgotten against unseen",
    note="The same, each record calibrated by the retrained model: 0.5 also where the forget set is no random draw.",
    of=named("rmia_auc"),
    highest=1.0,
)
AUC = Measure(
    title="AUC, forgotten against unseen",
    note="How well forgotten records are told from unseen ones by their loss: 0.5 is chance, above it they are "
    "remembered, below it over-forgotten. Compare with the retrained model.",
    of=named("auc"),
    highest=1.0,
)
U_LIRA = Measure(
    title="U-LiRA AUC",
    note="The same, record by record, by shadow pipelines that train and unlearn: 0.5 is chance.",
    of=named("u_lira_auc"),
    highest=1.0,
)
WORK = Measure(
    title="Share of retraining's cost",
    note="%; samples trained on plus a third of those only scored, because a forward pass is about a third of a "
    "training step, over the samples of the retraining. Seconds are in results_seconds.md.",
    of=lambda run, _: None if run.work is None else 100 * run.work,
    decimals=1,
    roles=(),
)
MEMBERSHIP_GAP = Measure(
    title="RMIA AUC's distance from the retrained model's",
    note="0 is best.",
    of=membership_gap,
    roles=(),
)

JS_FORGET = Measure(
    title="JS divergence to the retrained model, forget set",
    note="Of the outputs; 0 is best, “retrained again” is the floor.",
    of=named("js_forget"),
    roles=("original", "retrained_again"),
)


def score_on(split: str, kind: Kind) -> Measure:
    """The task's score on a split.

    Args:
        split: "test", "retain", "forget" or "unseen".
        kind: of the task, which names its score.
    """
    note = "The retrained model's is what a perfect unlearning scores."
    if split == "test":
        note += " Where a class is forgotten it is worse than the original's, for the test set holds that class too."
    lowest = -float("inf") if kind == "loss" else 0.0
    highest = float("inf") if kind in LOWER_IS_BETTER else 1.0
    title = f"{TASK_SCORES[kind][0]}, {split} set"
    return Measure(title=title, note=note, of=named(f"score_{split}"), lowest=lowest, highest=highest)


# ---------------------------------------------------------------------- what differs from machine to machine


def _recorded(name: str, over: float = 1.0) -> Callable[[Run, str], float | None]:
    """An entry of the record in another unit."""
    return lambda run, _: None if not run.done or run.record.get(name) is None else run.record[name] / over


def _share_of_seconds(run: Run, _: str = "unlearned") -> float | None:
    ours, whole = run.record.get("seconds"), run.record.get("retrain_seconds")
    return 100 * ours / whole if run.done and whole and ours is not None else None


CLOCKED = (
    Measure(title="Seconds", note="Wall time of the method.", of=_recorded("seconds"), decimals=2, roles=()),
    Measure(
        title="Share of retraining's seconds",
        note="%; of the wall time of the reference's training.",
        of=_share_of_seconds,
        decimals=1,
        roles=(),
    ),
    Measure(
        title="Peak memory",
        note="Millions of bytes.",
        of=_recorded("peak_memory_bytes", 1e6),
        decimals=0,
        roles=(),
    ),
)
"""Kept off the page, so that the same runs make the same page whenever and wherever they ran."""
