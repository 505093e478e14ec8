"""Plots of the report, as inline SVG: loss histograms of forgotten against unseen records, and the run's curves.

Figures are made without pyplot, so no global state of matplotlib is touched. Text stays text, so the page can be
searched and read aloud.
"""

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nablatau.evaluation import Row
from nablatau.evidence import Evidence
from nablatau.history import History
from nablatau.statistics import Interval

Array = npt.NDArray[np.float64]

FORGOTTEN, UNSEEN, RETAINED, HOLDOUT, PUSH = "#c8442d", "#3b6ea5", "#4d8f5b", "#3b6ea5", "#8a6fb0"
MODEL_COLOURS = ("#888888", FORGOTTEN, UNSEEN, RETAINED)
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nablatau",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plots_of(evidence: Evidence, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The plots that the evidence allows: title and SVG element of each.

    Args:
        evidence: of one or more models.
        rows: made from it.
    """
    plots = [("Losses of forgotten and of unseen records", loss_histograms(evidence))]
    if len(evidence.comparable) >= 2:
        plots.append(("Telling forgotten from unseen records", roc_curves(evidence)))
    if {"original", "unlearned"} <= set(evidence.models):
        plots.append(("Each forgotten record before and after", risk_before_and_after(evidence)))
    gaps = [row for row in rows if row.name.startswith(("Accuracy, ", "AUC", "Micro F1, ", "TPR"))]
    if "retrained" in evidence.models and gaps:
        plots.append(("Gaps to the retrained model", forest_of_gaps(gaps)))
    return plots


def roc_curves(evidence: Evidence) -> str:
    """ROC of the margin (or minus the loss) on logarithmic axes, one curve a model."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axis = figure.subplots()
        for model, colour in zip(evidence.models, MODEL_COLOURS, strict=False):
            forget, unseen = (-losses for losses in evidence.pair(model, "loss"))
            thresholds = np.sort(unseen)[::-1]
            shares = (np.arange(len(unseen)) + 1) / len(unseen)
            axis.step(shares, _rates(forget, thresholds), color=colour, lw=1.3, label=model, where="post")
        axis.plot([1e-3, 1], [1e-3, 1], color="#999999", lw=0.8, ls=":")
        axis.set(xscale="log", yscale="log", xlim=(1 / max(10, len(unseen)), 1), ylim=(1 / max(10, len(forget)), 1.05))
        axis.set_xlabel("unseen records taken for trained-on (FPR)")
        axis.set_ylabel("forgotten records found (TPR)")
        axis.legend(frameon=False)
        return svg_of(figure, "ROC curves on logarithmic axes, one for each model", width="60%")


def risk_before_and_after(evidence: Evidence) -> str:
    """Each forgotten record's loss before and after, with the unseen records' median."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axis = figure.subplots()
        before, after = (np.maximum(evidence.pair(model, "loss")[0], 1e-6) for model in ("original", "unlearned"))
        axis.plot([1e-6, 1e3], [1e-6, 1e3], color="#999999", lw=0.8, ls=":")
        axis.scatter(before, after, s=9, alpha=0.5, color=FORGOTTEN, linewidths=0, rasterized=len(before) > 3000)
        unseen = float(np.median(np.maximum(evidence.pair("unlearned", "loss")[1], 1e-6)))
        axis.axhline(unseen, color=UNSEEN, lw=1, label="median loss of unseen records, after")
        low, high = float(min(before.min(), after.min(), unseen)), float(max(before.max(), after.max(), unseen))
        axis.set(xscale="log", yscale="log", xlim=(low / 2, high * 2), ylim=(low / 2, high * 2))
        axis.set_xlabel("loss under the original model")
        axis.set_ylabel("loss under the unlearned model")
        axis.legend(frameon=False)
        return svg_of(figure, "Scatter plot of each forgotten record's loss before and after", width="60%")


def forest_of_gaps(rows: Sequence[Row]) -> str:
    """Differences to the retrained model with their joined intervals, a line a row."""
    with matplotlib.rc_context(STYLE):
        usable = [row for row in rows if row.values.get("retrained") and row.values.get("unlearned")]
        figure = Figure(figsize=(8.2, 0.8 + 0.42 * len(usable)), layout="constrained")
        axis = figure.subplots()
        for offset, model, colour in ((0.14, "original", "#888888"), (-0.14, "unlearned", FORGOTTEN)):
            for place, row in enumerate(reversed(usable)):
                ours, theirs = row.values.get(model), row.values["retrained"]
                if ours is None or theirs is None:
                    continue
                low, high = _joined(ours, theirs)
                axis.plot([low, high], [place + offset] * 2, color=colour, lw=1.4)
                axis.plot(
                    [ours.value - theirs.value],
                    [place + offset],
                    "o",
                    ms=4,
                    color=colour,
                    label=model if not place else None,
                )
        axis.axvline(0, color="#999999", lw=0.8)
        axis.set_yticks(range(len(usable)), [row.name for row in reversed(usable)])
        axis.set_xlabel("difference to the retrained model")
        axis.legend(frameon=False, loc="best")
        return svg_of(figure, "Forest plot of the differences to the retrained model")


def _joined(first: Interval, second: Interval) -> tuple[float, float]:
    """Limits of a difference from those of its terms, by squares (Zou and Donner 2008)."""
    value = first.value - second.value
    low = value - ((first.value - first.low) ** 2 + (second.high - second.value) ** 2) ** 0.5
    high = value + ((first.high - first.value) ** 2 + (second.value - second.low) ** 2) ** 0.5
    return low, high


def _rates(scores: Array, thresholds: Array) -> Array:
    """Share of scores above each threshold."""
    ordered = np.sort(scores)
    return 1 - np.searchsorted(ordered, thresholds, side="right") / len(ordered)


def loss_histograms(evidence: Evidence) -> str:
    """Loss histograms of forgotten and unseen records, one panel a model, on one scale.

    Args:
        evidence: with the splits "forget" and "unseen".

    Returns:
        An SVG element.
    """
    with matplotlib.rc_context(STYLE):
        panels = evidence.models
        figure = Figure(figsize=(3.1 * len(panels), 2.6), layout="constrained")
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        pairs = []
        for model in panels:
            pairs.append(evidence.pair(model, "loss"))
        edges = np.linspace(-4, _upper_end([loss for pair in pairs for loss in pair]), 31)
        for axis, model, (forget, unseen_losses) in zip(axes, panels, pairs, strict=True):
            _histogram(axis, forget, edges, FORGOTTEN, f"forgotten (n = {len(forget):,})")
            _histogram(axis, unseen_losses, edges, UNSEEN, f"unseen (n = {len(unseen_losses):,})")
            axis.set_title(model, fontsize=10)
            axis.set_xlabel("log₁₀ loss")
        axes[0].set_ylabel("share of records")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        return svg_of(figure, "Histograms of the loss of forgotten and of unseen records, for each model")


def run_curves(history: History) -> str:
    """Loss on forget and retain batches, τ, what forgotten records lack to their targets, and α or the rate, by step.

    Args:
        history: of a method.

    Returns:
        An SVG element; empty if the history has no steps.
    """
    if not len(history):
        return ""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.3, 2.8), layout="constrained")
        axis = figure.subplots()
        columns = history.columns
        curves = [("forget_loss", "forget loss", FORGOTTEN), ("retain_loss", "retain loss", RETAINED)]
        if not any(name in columns for name, _, _ in curves):
            curves = [("loss", "loss", RETAINED)]
        targets = [
            ("tau", "τ (unseen loss)", HOLDOUT),
            ("shortfall", "forgotten records below their targets", FORGOTTEN),
        ]
        for name, label, colour in [*curves, *targets]:
            if name in columns:
                axis.plot(columns["step"], columns[name], color=colour, label=label, lw=1.2)
        axis.set_xlabel("step")
        axis.set_ylabel("mean loss of the batch")
        right = {"alpha": "α", "heat": "learning rate"}
        for name, label in right.items():
            if name not in columns:
                continue
            twin = axis.twinx()
            shown = columns["learning_rate" if name == "heat" else name]
            twin.plot(columns["step"], shown, color=PUSH, label=f"{label} (right)", lw=1, ls="--")
            twin.set_ylim(0, None)
            twin.spines["right"].set_visible(True)
            twin.set_ylabel(label)
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        return svg_of(figure, "Curves of the losses, their targets, and alpha or the learning rate over the steps")


def _histogram(axis: Axes, losses: Array, edges: Array, colour: str, label: str) -> None:
    """Shares of records by the logarithm of their loss; what lies below the first edge counts in the first bin."""
    values = np.clip(np.log10(np.maximum(losses, 1e-12)), edges[0], edges[-1])
    weights = np.full(len(values), 1 / max(1, len(values)))
    axis.hist(values, edges.tolist(), weights=weights, color=colour, alpha=0.35)
    axis.hist(
        values, edges.tolist(), weights=weights, color=colour, histtype="step", lw=1.2, label=label.split(" (")[0]
    )


def _upper_end(losses: list[Array]) -> float:
    highest = max((float(each.max()) for each in losses if len(each)), default=1.0)
    return max(1.0, float(np.ceil(np.log10(max(highest, 1e-12)) * 2) / 2))


def svg_of(figure: Figure, description: str, width: str = "100%") -> str:
    """The figure as an SVG element that scales with the page, with its description for readers who cannot see.

    Args:
        figure: drawn within `matplotlib.rc_context(STYLE)`, so that the same figure is the same text.
        description: in words.
        width: the widest it may be shown.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'height="[^"]*pt" (viewBox)', r"\1", text, count=1)
    text = re.sub(r'width="[^"]*pt" ', "", text, count=1)
    label = html.escape(description)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" style="max-width: {width}" ', 1)
