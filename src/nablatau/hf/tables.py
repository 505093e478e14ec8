"""Tables of texts on disk, column by column: JSONL, CSV, Parquet, or a folder that `datasets` saved.

Whatever cannot be read, and every column that is not there, is one error that names the file and what it does hold.
"""

import csv
import json
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nablatau.errors import ProjectError, shortened
from nablatau.hf.extras import library


@dataclass(frozen=True)
class Table:
    """The columns of a file, each with one value a record; None where a record has none.

    Attributes:
        file: where they come from, for messages.
        columns: by name, N values.
    """

    file: Path
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str, option: str) -> list[Any]:
        """The values of a column.

        Args:
            name: of the column.
            option: of the command line that names it, for the message.

        Raises:
            ProjectError: there is none of this name, or some records have no value in it.
        """
        if name not in self.columns:
            raise ProjectError(
                f"{self.file} has no column {name!r}, so records cannot be read from it. Its columns are "
                f"{', '.join(map(repr, self.columns))}; name the right one with {option}."
            )
        values = self.columns[name]
        missing = [number for number, value in enumerate(values, 1) if value is None]
        if missing:
            raise ProjectError(
                f"{self.file}: {len(missing)} of {len(values)} records have no value in column {name!r} (records "
                f"{shortened(missing)}, counted from 1). Leave these records out, if the model was not trained on "
                f"them, or name another column with {option}."
            )
        return values

    def ids(self, name: str) -> list[Hashable]:
        """The values of a column that names records: all texts, or all whole numbers.

        Args:
            name: of the column.

        Raises:
            ProjectError: no such column, values of other types, or of both.
        """
        return self._names(name, "--id-column")

    def groups(self, name: str) -> list[Hashable]:
        """The values of a column that names whom or what records belong to, under the rules of `ids`."""
        return self._names(name, "--group-column")

    def _names(self, name: str, option: str) -> list[Hashable]:
        values = self.column(name, option)
        types = {type(value) for value in values}
        if types not in ({str}, {int}):
            found = ", ".join(sorted(each.__name__ for each in types))
            raise ProjectError(
                f"{self.file}: column {name!r} holds values of type {found}. Names of records must be all texts or all "
                "whole numbers: else 7 and '7' would be two. Write them as texts."
            )
        return values


def read_table(file: Path) -> Table:
    """The columns of a file of texts.

    Args:
        file: .jsonl (one JSON object a line), .csv (with a line of names), .parquet, or a folder that
            `datasets.Dataset.save_to_disk` wrote.

    Raises:
        ProjectError: no such file, another ending, a damaged file, or one without records.
        SettingsError: the library that reads it is not installed.
    """
    if not file.exists():
        raise ProjectError(f"There is no file {file}. Name a .jsonl, .csv or .parquet file of records.")
    if file.is_dir():
        columns = _read_saved(file)
    elif file.suffix in READERS:
        columns = READERS[file.suffix](file)
    else:
        raise ProjectError(
            f"{file} must end in {', '.join(READERS)}, which say how to read it; {file.suffix!r} does not."
        )
    if not columns or not next(iter(columns.values())):
        raise ProjectError(f"{file} holds no records.")
    return Table(file, columns)


def _read_jsonl(file: Path) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_json_object(file, number, line))
    except UnicodeDecodeError as error:
        raise _not_utf8(file, error) from error
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _json_object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProjectError(
            f"{file}, line {number} is no JSON: {error}. Write one JSON object a line, such as {EXAMPLE}"
        ) from error
    if not isinstance(row, dict):
        raise ProjectError(
            f"{file}, line {number} holds a {type(row).__name__}. Write one JSON object a line, such as {EXAMPLE}"
        )
    return row


def _read_csv(file: Path) -> dict[str, list[Any]]:
    before = csv.field_size_limit(sys.maxsize)  # a text may be longer than the 128 KB that are allowed otherwise
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            names = next(rows, [])
            kept = [row for row in rows if row]
    except UnicodeDecodeError as error:
        raise _not_utf8(file, error) from error
    except csv.Error as error:
        raise ProjectError(
            f"{file} is no CSV that can be read: {error}. Quote texts that hold quotes or lines."
        ) from error
    finally:
        csv.field_size_limit(before)
    uneven = [number for number, row in enumerate(kept, 1) if len(row) != len(names)]
    if uneven or len(set(names)) != len(names):
        raise ProjectError(
            f"{file}: its first line names {len(names)} columns, and the records {shortened(uneven)} have another "
            "number of values, or a name stands twice. Quote texts that hold commas, and name each column once."
        )
    return {name: [row[place] for row in kept] for place, name in enumerate(names)}


def _read_parquet(file: Path) -> dict[str, list[Any]]:
    parquet = library("pyarrow.parquet", "Parquet files")
    errors = library("pyarrow", "Parquet files").ArrowException
    try:
        columns: dict[str, list[Any]] = parquet.read_table(file).to_pydict()
    except (errors, OSError) as error:
        raise ProjectError(f"{file} is no Parquet file that can be read: {error}") from error
    return columns


def _read_saved(folder: Path) -> dict[str, list[Any]]:
    datasets = library("datasets", "Folders of records")
    try:
        saved = datasets.load_from_disk(str(folder))
    except FileNotFoundError as error:
        raise ProjectError(
            f"{folder} is no folder that datasets saved: {error} Name one that Dataset.save_to_disk wrote, or a file."
        ) from error
    if not hasattr(saved, "column_names") or isinstance(saved.column_names, dict):
        raise ProjectError(
            f"{folder} holds several data sets: {', '.join(saved)}. Name one, such as {folder / next(iter(saved))}."
        )
    return {name: list(saved[name]) for name in saved.column_names}


def _not_utf8(file: Path, error: UnicodeDecodeError) -> ProjectError:
    return ProjectError(f"{file} is no text in UTF-8: {error}. Save it in UTF-8.")


READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
"""From a file to its columns, by the file's ending."""
EXAMPLE = '{"id": "c-17", "text": "…", "label": "joy"}.'


def distinct(values: Sequence[Any]) -> list[Any]:
    """Each value once, in the order in which they first stand."""
    return list(dict.fromkeys(values))
