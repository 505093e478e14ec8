"""The results page of a benchmark: records in, one self-contained HTML page and a Markdown summary out.

Made from records alone, without dates or times: the same set of records gives the same bytes, whatever their order, and
whether or not the benchmark was stopped and resumed on its way. Seconds and memory, which never repeat, have a file of
their own.
"""

from dataclasses import dataclass
from pathlib import Path

from nablatau.bench.collected import Candidate, Collected, mean_over_seeds
from nablatau.bench.findings import LIMITS, Comparison, answer, comparisons, heading, warnings
from nablatau.bench.markdown import escaped, markdown_of
from nablatau.bench.measures import (
    AUC,
    CLOCKED,
    GAP,
    JS_FORGET,
    LOWER_IS_BETTER,
    RMIA,
    ROLES,
    U_LIRA,
    WORK,
    Measure,
    membership_gap,
    score_on,
    utility_gap,
)
from nablatau.bench.plots import Panel, Point, scatters
from nablatau.bench.ranking import winners
from nablatau.bench.tables import Table, plural, request_name
from nablatau.bench.task_tables import measure_table, verdict_table
from nablatau.bench.whole_tables import conditions, failure_table, settings_lists
from nablatau.checkpoints import whole_file
from nablatau.evaluation import TASK_SCORES
from nablatau.objectives import Kind

PAGE_NAME, SUMMARY_NAME, SECONDS_NAME = "results.html", "results.md", "results_seconds.md"


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """What the page shows of one task.

    Attributes:
        name: of the task.
        size: requests, runs and seeds, in words.
        tables: the main ones.
        further: those folded away.
        plot: forgetting, utility and cost, as SVG; empty without a finished run.
    """

    name: str
    size: str
    tables: list[Table]
    further: list[Table]
    plot: str


def write_page(folder: Path) -> Path:
    """Write results.html, results.md and results_seconds.md from records.jsonl.

    Args:
        folder: of the benchmark.

    Returns:
        The page.

    Raises:
        BenchmarkError: there are no records, or a line that is none.
        CheckpointError: the page cannot be written.
    """
    runs = Collected.of(folder)
    sections = [task_section(runs, task) for task in runs.tasks]
    found = comparisons(runs)
    texts = {
        PAGE_NAME: html_of(runs, sections, found),
        SUMMARY_NAME: summary_of(runs, sections, found),
        SECONDS_NAME: seconds_of(runs),
    }
    for name, text in texts.items():
        with whole_file(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return folder / PAGE_NAME


def html_of(runs: Collected, sections: list[TaskSection], found: list[Comparison]) -> str:
    """The page, with styles and plots inside it and no reference to anything outside.

    Args:
        runs: of the benchmark.
        sections: of its tasks.
        found: comparisons over all blocks.
    """
    import jinja2

    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(f"nablatau.{part}", ".") for part in ("bench", "report")])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("results.html.jinja").render(
        heading=heading(runs),
        answer=answer(runs),
        warnings=warnings(runs),
        tasks=sections,
        comparisons=found,
        failures=failure_table(runs),
        limits=LIMITS,
        settings=settings_lists(runs),
        conditions=conditions(runs),
    )


def summary_of(runs: Collected, sections: list[TaskSection], found: list[Comparison]) -> str:
    """The tables of the page as Markdown, without plots, settings and versions.

    Args:
        runs: of the benchmark.
        sections: of its tasks.
        found: comparisons over all blocks.
    """
    parts = ["# Benchmark", heading(runs), answer(runs), *warnings(runs)]
    for section in sections:
        parts += [f"## {escaped(section.name)}", section.size, *(markdown_of(table) for table in section.tables)]
    if found:
        parts.append("## Over all blocks")
    for each in found:
        parts += [f"### {each.title}", *map(escaped, each.sentences)]
        parts += [markdown_of(each.table, depth=4)] if each.table else []
    failures = failure_table(runs)
    parts += [markdown_of(failures, depth=2)] if failures else []
    parts += ["## What this does not show", "\n".join(f"- {limit}" for limit in LIMITS)]
    return "\n\n".join(parts) + "\n"


def seconds_of(runs: Collected) -> str:
    """Seconds and memory as Markdown: what differs from one run of the same benchmark to the next.

    Args:
        runs: of the benchmark.
    """
    parts = ["# Seconds and memory", "Of these runs on this hardware; results.html has the cost in samples."]
    for task in runs.tasks:
        tables = [table for measure in CLOCKED if (table := measure_table(runs, task, measure))]
        parts += [f"## {escaped(task)}", *map(markdown_of, tables)]
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------- one task


def task_section(runs: Collected, task: str) -> TaskSection:
    """Tables and plot of one task.

    Args:
        runs: of the benchmark.
        task: its name.
    """
    kind = _kind(runs, task)
    main = [AUC, RMIA, U_LIRA, *([score_on("test", kind)] if kind else []), WORK]
    further = [*(score_on(split, kind) for split in ("retain", "forget", "unseen") if kind), JS_FORGET]
    first = measure_table(runs, task, GAP, winners(runs, task, GAP))
    tables = [first, *(measure_table(runs, task, measure) for measure in main), verdict_table(runs, task)]
    return TaskSection(
        name=task,
        size=_size(runs, task),
        tables=[table for table in tables if table],
        further=[table for measure in further if (table := measure_table(runs, task, measure))],
        plot=_plot(runs, task, kind) if kind else "",
    )


def _kind(runs: Collected, task: str) -> Kind | None:
    """Of the task's objective; None where no run finished."""
    return next((run.record["kind"] for run in runs.of_task(task) if run.record.get("kind") in TASK_SCORES), None)


def _size(runs: Collected, task: str) -> str:
    own = runs.of_task(task)
    training, unlearning = {run.training_seed for run in own}, {run.unlearning_seed for run in own}
    return (
        f"{plural(len(own), 'run')} with {plural(len(training), 'training seed')} and "
        f"{plural(len(unlearning), 'unlearning seed')}. Numbers are means over training seeds with Student's 95 % "
        "interval, n being the number of training seeds; unlearning seeds of one training seed are averaged first. "
        "Settings are the methods' defaults unless said otherwise."
    )


def _plot(runs: Collected, task: str, kind: Kind) -> str:
    """Forgetting, utility and cost of each request."""
    attacked = any(membership_gap(run) is not None for run in runs.of_task(task))
    forgetting = Measure(title="|RMIA AUC − retrained's|", note="", of=membership_gap) if attacked else GAP
    name = TASK_SCORES[kind][0]
    name = name if name.isupper() else name[0].lower() + name[1:]
    utility = f"retrained's test {name} − its own" if kind in LOWER_IS_BETTER else f"test {name} − retrained's"
    panels = [_panel(runs, task, request, forgetting) for request in runs.requests(task)]
    return scatters(panels, forgetting.title, utility)


def _panel(runs: Collected, task: str, request: str, forgetting: Measure) -> Panel:
    utility = Measure(title="", note="", of=utility_gap, lowest=-float("inf"))
    every = runs.of_task(task, request)

    def point(label: str, role: str, candidate: Candidate | None) -> Point:
        chosen = runs.at(task, request, candidate) if candidate else every
        measures = (forgetting, utility, GAP, WORK)
        means = [mean_over_seeds(chosen, each, role) for each in measures]
        x, y, gap, cost = (None if mean is None else mean.value for mean in means)
        tuned = candidate is not None and candidate.settings_from == "tuned"
        own_cost = cost if candidate else None
        return Point(
            label=label, forgetting=x, utility=y, gap=gap, cost=own_cost, tuned=tuned, reference=candidate is None
        )

    floor = mean_over_seeds(every, GAP, "retrained_again")
    return Panel(
        title=request_name(request),
        points=[
            *(point(ROLES[role].partition(",")[0], role, None) for role in ("original", "retrained_again")),
            *(point(each.label, "unlearned", each) for each in runs.candidates(task)),
        ],
        floor=None if floor is None else floor.value,
    )
