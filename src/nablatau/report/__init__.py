"""The report: one self-contained HTML page, made from evidence and a run's record alone. It runs no model."""

import html
from dataclasses import dataclass, field
from typing import Any

from nablatau.evaluation import Row, Verdict, preflight, sentence
from nablatau.evidence import Evidence
from nablatau.history import History

LIMITS = (
    "An attack that fails does not prove that nothing is left: stronger attacks exist, and each has limited power.",
    "Unseen records stand for what was never learned. If they come from another source than the forgotten ones, "
    "the comparison measures that difference.",
    "Copies of the forgotten records elsewhere, in other models, backups or data sets, are outside this page.",
    "The numbers hold for these records and this model; intervals cover the chance of the draw of records, not "
    "the chance of the training.",
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report is made of.

    Attributes:
        record: the run's record as saved in run.json: request, settings, versions, hashes.
        evidence: of the models, where they were evaluated.
        rows: of the evidence.
        verdict: of the evidence.
        history: of the method, where nablatau ran it.
    """

    record: dict[str, Any]
    evidence: Evidence | None = None
    rows: list[Row] = field(default_factory=list)
    verdict: Verdict | None = None
    history: History | None = None


def render(page: Page) -> str:
    """The page as HTML, with styles and plots inside it and no reference to anything outside.

    Args:
        page: what to show.
    """
    import jinja2

    from nablatau.report import plots  # not above: a process that writes no page needs no matplotlib

    loader = jinja2.PackageLoader("nablatau.report", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["value"] = _value
    evidence = page.evidence
    return environment.get_template("page.html.jinja").render(
        word=str(page.verdict.word) if page.verdict else "",
        answer=page.verdict.sentence if page.verdict else "The model was not evaluated.",
        numbers=sentence(evidence, page.rows) if evidence else "",
        findings=page.verdict.findings if page.verdict else (),
        models=evidence.models if evidence else [],
        rows=page.rows,
        preflight=preflight(evidence) if evidence else None,
        costs=_costs(evidence) if evidence else [],
        plots=plots.plots_of(evidence, page.rows) if evidence else [],
        curves=plots.run_curves(page.history) if page.history else "",
        hinge=page.history.active_hinge_share if page.history else None,
        notes=page.record.get("notes", []),
        record=_flat({name: value for name, value in page.record.items() if name != "notes"}),
        duplicates=page.record.get("request", {}).get("duplicates_in_retain_set", 0),
        limits=LIMITS,
    )


def _costs(evidence: Evidence) -> list[dict[str, str]]:
    """What each model took, and its share of retraining."""
    whole = evidence.costs.get("retrained")
    lines = []
    for model, cost in evidence.costs.items():
        share = cost.trained_samples / whole.trained_samples if whole and whole.trained_samples else None
        lines.append(
            {
                "model": model,
                "seconds": f"{cost.seconds:.2f}",
                "trained": f"{cost.trained_samples:,}",
                "scored": f"{cost.scored_samples:,}",
                "share": "" if share is None else f"{100 * share:.1f} %",
            }
        )
    return lines


def _value(row: Row, model: str) -> str:
    """One cell of the table."""
    each = row.values[model]
    if each is None:
        return ""
    size = f"n = {each.n:,}" + (f" and {each.m:,}" if each.m is not None else "")
    return f"{html.escape(str(each))} <small>{size}</small>"


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as pairs of dotted name and value; long lists as their length."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs.extend(_flat(value, f"{prefix}{name}."))
        elif isinstance(value, list) and len(value) > 6:
            pairs.append((prefix + name, f"{len(value):,} entries"))
        else:
            pairs.append((prefix + name, str(value)))
    return pairs
