"""Plots of the report, as inline SVG: loss histograms of forgotten against unseen records, and the run's curves.

Figures are made without pyplot, so no global state of matplotlib is touched. Text stays text, so the page can be
searched and read aloud.
"""

import io
import re
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nablatau.evaluation import Evidence
from nablatau.training import History

Array = npt.NDArray[np.float64]

FORGOTTEN, UNSEEN, RETAINED, HOLDOUT, PUSH = "#c8442d", "#3b6ea5", "#4d8f5b", "#3b6ea5", "#8a6fb0"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nablatau",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


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
            unseen, like = evidence.unseen_like_forgotten(model)
            pairs.append((evidence.scores[model]["forget"]["loss"], unseen["loss"][like]))
        edges = np.linspace(-4, _upper_end([loss for pair in pairs for loss in pair]), 31)
        for axis, model, (forget, unseen_losses) in zip(axes, panels, pairs, strict=True):
            _histogram(axis, forget, edges, FORGOTTEN, f"forgotten (n = {len(forget):,})")
            _histogram(axis, unseen_losses, edges, UNSEEN, f"unseen (n = {len(unseen_losses):,})")
            axis.set_title(model, fontsize=10)
            axis.set_xlabel("log₁₀ loss")
        axes[0].set_ylabel("share of records")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        return _svg(figure, "Histograms of the loss of forgotten and of unseen records, for each model")


def run_curves(history: History) -> str:
    """Loss on forget and retain batches, τ, and α of each step.

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
        for name, label, colour in [*curves, ("tau", "τ (unseen loss)", HOLDOUT)]:
            if name in columns:
                axis.plot(columns["step"], columns[name], color=colour, label=label, lw=1.2)
        axis.set_xlabel("step")
        axis.set_ylabel("mean loss of the batch")
        if "alpha" in columns:
            twin = axis.twinx()
            twin.plot(columns["step"], columns["alpha"], color=PUSH, label="α (right)", lw=1, ls="--")
            twin.set_ylim(0, None)
            twin.spines["right"].set_visible(True)
            twin.set_ylabel("α")
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        return _svg(figure, "Curves of forget loss, retain loss, tau and alpha over the steps")


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


def _svg(figure: Figure, description: str) -> str:
    """The figure as an SVG element that scales with the page, with its description for readers who cannot see."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'height="[^"]*pt" (viewBox)', r"\1", text, count=1)
    text = re.sub(r'width="[^"]*pt" ', "", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
