"""The results page: from records alone, the same bytes for the same records, and nothing hidden."""

import html.parser
import json
import random
from pathlib import Path
from typing import Any

import pytest

from nablatau.bench.page import PAGE_NAME, SECONDS_NAME, SUMMARY_NAME, write_page
from synthetic_records import failed, record, whole_grid, write


class Reader(html.parser.HTMLParser):
    """Collects what a page refers to, its tables as rows of cells, what is bold, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.rows: list[list[str]] = []
        self.bold: list[str] = []
        self.text, self.tag = "", ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.tag = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1] and self.tag in ("td", "th", "b", "small"):
            self.rows[-1][-1] += data.strip() + " "
        if self.tag == "b":
            self.bold.append(data)


def read(folder: Path, records: list[dict[str, Any]]) -> Reader:
    reader = Reader()
    reader.feed(write_page(write(folder, records)).read_text(encoding="utf-8"))
    return reader


def pages_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (PAGE_NAME, SUMMARY_NAME)]


def test_the_page_is_self_contained_and_says_the_answer_first(tmp_path: Path) -> None:
    page = read(tmp_path, whole_grid())
    text = (tmp_path / PAGE_NAME).read_text(encoding="utf-8")
    assert all(reference.startswith("#") for reference in page.references), page.references
    assert "<script" not in text
    assert "@import" not in text
    said = "3 ways of making a trained model forget were compared on 1 task with 2 requests to forget, in 48 runs"
    assert page.text.index(said) < page.text.index("Average gap to retrain")
    for needed in ("What this does not show", "critical difference", "retrained again", "torch", "Nearest to a model"):
        assert needed in page.text
    assert len(text) < 600_000


def test_neither_order_nor_clock_nor_memory_nor_a_cut_off_line_changes_the_page(tmp_path: Path) -> None:
    records = [*whole_grid(), failed("unsir")]
    write_page(write(tmp_path / "once", records))
    resumed = [
        line | {"seconds": 9.9, "retrain_seconds": 77.0, "peak_memory_bytes": 1, "finished": "2027-01-01"}
        for line in random.Random(0).sample(records, len(records))
    ]
    folder = write(tmp_path / "resumed", resumed)
    with (folder / "records.jsonl").open("a") as stream:
        stream.write(json.dumps(record("scrub", training_seed=9))[:80])
    write_page(folder)
    assert pages_of(tmp_path / "once") == pages_of(folder)
    assert (tmp_path / "once" / SECONDS_NAME).read_text() != (folder / SECONDS_NAME).read_text()


@pytest.mark.usefixtures("no_plots")
def test_means_stand_with_their_interval_beside_the_floor(tmp_path: Path) -> None:
    gaps = {0: 0.01, 1: 0.02, 2: 0.03}
    records = [
        record("scrub", training_seed=seed, numbers={"average_gap": {"unlearned": {"value": gap}}})
        | {"tuning": {"configurations": 20, "score": 0.1}, "settings_from": "tuned"}
        for seed, gap in gaps.items()
    ]
    floor = record(
        "finetune", numbers={"average_gap": {"unlearned": {"value": 0.05}, "retrained_again": {"value": 0.004}}}
    )
    rows = read(tmp_path, [*records, floor]).rows
    assert ["scrub (tuned) 20 configurations tried ", "2.00 [0.00, 4.48] "] in rows
    assert ["finetune ", "5.00 n = 1, no interval "] in rows
    assert ["retrained again, another seed ", "0.40 "] in rows


@pytest.mark.usefixtures("no_plots")
def test_only_what_is_separated_is_bold(tmp_path: Path) -> None:
    methods = {"finetune": (2.0, 2.1, 1.9), "scrub": (4.0, 4.2, 3.9)}
    apart = [
        record(name, training_seed=seed, numbers={"average_gap": {"unlearned": {"value": gap / 100}}})
        for name, values in methods.items()
        for seed, gap in enumerate(values)
    ]
    page = read(tmp_path / "apart", apart)
    assert [text for text in page.bold if "[" in text] == ["2.00 [1.75, 2.25]"]
    assert any(cell.startswith("separated finetune before scrub, p") for row in page.rows for cell in row)
    near = [*apart[:3], *(line | {"method": "twin", "cell": f"twin {line['cell']}"} for line in apart[:3])]
    page = read(tmp_path / "near", near)
    assert not [text for text in page.bold if "[" in text]
    assert any("not separated finetune before twin, p = 1.000" in cell for row in page.rows for cell in row)
    one = read(tmp_path / "one", whole_grid(1))
    assert not [text for text in one.bold if "[" in text]
    assert "There is one training seed, so no number here has an interval" in one.text


@pytest.mark.usefixtures("no_plots")
def test_failures_are_shown_with_their_reasons(tmp_path: Path) -> None:
    lost = [failed("scrub", "CUDA out of memory", training_seed=2, unlearning_seed=seed) for seed in (0, 1)]
    kept = [
        line
        for line in whole_grid()
        if (line["method"], line["request"], line["training_seed"]) != ("scrub", "random:0.1", 2)
    ]
    page = read(tmp_path, [*kept, *lost, failed("unsir", "<b>no</b> class")])
    assert ["scrub ", "digits ", "random 10 % ", "2 ", "RequestError CUDA out of memory "] in page.rows
    assert any(row[0] == "scrub " and "n = 2 (4 runs), 2 of 6 failed" in row[1] for row in page.rows if len(row) > 1)
    assert ["unsir ", "failed 1 of 1 failed ", "– not run "] in page.rows
    assert "<b>no</b>" not in (tmp_path / PAGE_NAME).read_text(encoding="utf-8")
    assert "3 runs failed" in page.text
    assert "&lt;b&gt;no&lt;/b&gt; class" in (tmp_path / SUMMARY_NAME).read_text(encoding="utf-8")


def test_a_benchmark_in_which_all_failed_has_a_page(tmp_path: Path) -> None:
    page = read(tmp_path, [failed("scrub"), failed("finetune")])
    assert "none can be called nearest" in page.text
    assert "no class labels" in page.text


@pytest.mark.usefixtures("no_plots")
def test_few_blocks_say_what_a_comparison_of_ranks_needs(tmp_path: Path) -> None:
    page = read(tmp_path, whole_grid(2))
    assert "A comparison of mean ranks needs at least 5 blocks" in page.text
    assert "critical difference" not in page.text


@pytest.mark.usefixtures("no_plots")
def test_errors_in_other_units_are_kept_out_of_differences(tmp_path: Path) -> None:
    other = [line | {"task": "diabetes", "cell": f"{line['cell']} r", "kind": "regression"} for line in whole_grid()]
    page = read(tmp_path, [*whole_grid(), *other])
    assert "Differences leave out diabetes" in page.text
    assert "RMSE, test set" in page.text


def test_seconds_and_memory_have_a_file_of_their_own(tmp_path: Path) -> None:
    write_page(write(tmp_path, [line | {"seconds": 123.45} for line in whole_grid()]))
    for name in (PAGE_NAME, SUMMARY_NAME):
        assert "123.45" not in (tmp_path / name).read_text(encoding="utf-8")
    assert "123.45" in (tmp_path / SECONDS_NAME).read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_plots")
def test_settings_that_differ_say_where_they_were_used(tmp_path: Path) -> None:
    tuned = [
        record("scrub", request=request, settings_from="tuned", settings={"method": "scrub", "steps": steps})
        for request, steps in (("class:1", 10), ("class:2", 20))
    ]
    page = read(tmp_path, tuned)
    assert "digits, class 1, training seeds 0" in page.text
    assert "digits, class 2, training seeds 0" in page.text
