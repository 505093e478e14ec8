"""Files of texts: the same records from each form, and every file that cannot be read with its message."""

import json
from pathlib import Path

import pytest

from nablatau.errors import NablatauError
from nablatau.hf.tables import read_table

ROWS = [{"id": "a", "text": "one, two", "label": 1}, {"id": "b", "text": 'a "word"\nand a line', "label": 0}]


def test_jsonl_and_csv_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in ROWS) + "\n")
    (tmp_path / "t.csv").write_bytes(b'id,text,label\r\na,"one, two",1\r\nb,"a ""word""\nand a line",0\r\n')
    jsonl, csv = read_table(tmp_path / "t.jsonl"), read_table(tmp_path / "t.csv")
    assert len(jsonl) == len(csv) == 2
    assert jsonl.columns["text"] == csv.columns["text"] == [row["text"] for row in ROWS]
    assert jsonl.columns["label"] == [1, 0]
    assert csv.columns["label"] == ["1", "0"]
    assert jsonl.ids("id") == csv.ids("id") == ["a", "b"]


def test_parquet_and_a_saved_data_set_hold_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    saved = datasets.Dataset.from_list(ROWS)
    saved.to_parquet(tmp_path / "t.parquet")
    saved.save_to_disk(tmp_path / "t")
    for name in ("t.parquet", "t"):
        assert read_table(tmp_path / name).columns == {key: [row[key] for row in ROWS] for key in ROWS[0]}
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path / "several")
    with pytest.raises(NablatauError, match="holds several data sets: train"):
        read_table(tmp_path / "several")
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(NablatauError, match="is no Parquet file that can be read"):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "other").mkdir()
    with pytest.raises(NablatauError, match="is no folder that datasets saved"):
        read_table(tmp_path / "other")


def test_a_long_text_in_csv_is_read_and_the_limit_is_as_before(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit()
    (tmp_path / "t.csv").write_text(f"text\n{'word ' * 40_000}\n")
    assert len(read_table(tmp_path / "t.csv").columns["text"][0]) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", None, "There is no file"),
        ("t.txt", "x", "must end in .jsonl, .csv, .parquet"),
        ("t.jsonl", "\n\n", "holds no records"),
        ("t.csv", "id,text\n", "holds no records"),
        ("t.jsonl", '{"id": 1}\n{"id": \n', "line 2 is no JSON"),
        ("t.jsonl", "[1, 2]\n", "line 1 holds a list"),
        ("t.csv", "id,text\n1,a,b\n", "the records [1] have another number of values"),
        ("t.csv", "id,id\n1,2\n", "a name stands twice"),
        ("t.csv", 'id,text\n1,"a\n', "is no CSV that can be read"),
        ("t.csv", b"id,text\n1,caf\xe9\n", "is no text in UTF-8"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NablatauError) as caught:
        read_table(tmp_path / name)
    assert message in str(caught.value)


def test_columns_that_are_not_there_or_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": "1", "text": null}\n')
    table = read_table(tmp_path / "t.jsonl")
    with pytest.raises(NablatauError, match=r"has no column 'key', .* Its columns are 'id', 'text'; .* --id-column"):
        table.ids("key")
    with pytest.raises(NablatauError, match=r"1 of 2 records have no value in column 'text' \(records \[2\]"):
        table.column("text", "--text-column")
    with pytest.raises(NablatauError, match="holds values of type int, str"):
        table.groups("id")
