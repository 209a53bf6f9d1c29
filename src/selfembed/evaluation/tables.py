"""Small files of rows (jsonl, json, csv, tsv, parquet), read whole as columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from selfembed.errors import InputError

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_MAX_FIELD = 64_000_000  # characters

Columns = dict[str, list[Any]]


def read_columns(file: Path) -> Columns:
    """The columns of a file, each of the same length.

    Raises:
        InputError: there is no such file, it is of no known kind, empty or damaged.
    """
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file}: expected a file of rows; give one of {', '.join(SUFFIXES)}")
    try:
        if file.suffix == ".parquet":
            columns = pq.read_table(file).to_pydict()
        elif file.suffix in (".csv", ".tsv"):
            columns = _transposed(_delimited(file), file)
        else:
            columns = _transposed(_json_rows(file), file)
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file; give the path of one") from None
    except (OSError, UnicodeError, csv.Error, json.JSONDecodeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{file}: cannot be read as {file.suffix[1:]} ({reason}); it may be damaged or cut short: get it again"
        ) from error
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"{file}: has no rows; expected at least one")
    return columns


def column_names(file: Path) -> list[str]:
    """The columns that a file's beginning names; none for what is no file of rows, is damaged, or is .json."""
    try:
        if file.suffix == ".parquet":
            return list(pq.read_schema(file).names)
        if file.suffix in (".csv", ".tsv", ".jsonl", ".ndjson"):
            with file.open(encoding="utf-8-sig", newline="") as stream:
                if file.suffix in (".csv", ".tsv"):
                    return next(csv.reader(stream, delimiter=_delimiter(file)), [])
                row = json.loads(next(filter(str.strip, stream), "null"))
                return list(row) if isinstance(row, dict) else []
    except (OSError, ValueError, csv.Error, pa.ArrowException):
        return []
    return []


def find_file(folder: Path, stem: str) -> Path | None:
    """``folder/stem`` with any of the known suffixes."""
    return next((file for suffix in SUFFIXES if (file := folder / f"{stem}{suffix}").is_file()), None)


def choose_columns(columns: Columns, file: Path, wanted: Mapping[str, Sequence[str]]) -> Columns:
    """Columns under our names.

    Args:
        columns: as read.
        file: for the message.
        wanted: our name -> names it may have, the first found is taken.

    Raises:
        InputError: one is missing.
    """
    chosen = {}
    for name, names in wanted.items():
        found = next((other for other in names if other in columns), None)
        if found is None:
            raise InputError(
                f"{file}: no column {' or '.join(map(repr, names))} among {', '.join(map(repr, columns))}; expected "
                f"{', '.join(repr(others[0]) for others in wanted.values())}: rename the columns"
            )
        chosen[name] = columns[found]
    return chosen


def require_texts(values: Sequence[Any], file: Path, column: str) -> list[str]:
    """The values, which must be texts with at least one visible character.

    Raises:
        InputError: one is not.
    """
    for row, value in enumerate(values, 1):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{file}: row {row} has {value!r} as {column!r}; expected a text: correct or remove it")
    return list(values)


def _json_rows(file: Path) -> list[Any]:
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix == ".json":
        rows = json.loads(text)
        return rows if isinstance(rows, list) else [rows]
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _delimited(file: Path) -> list[Any]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))  # from 128 KiB, which documents exceed
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=_delimiter(file)))


def _delimiter(file: Path) -> str:
    return "\t" if file.suffix == ".tsv" else ","


def _transposed(rows: list[Any], file: Path) -> Columns:
    names: dict[str, None] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{file}: row {number} is a {type(row).__name__}; expected an object with named fields")
        if None in row or None in row.values() and file.suffix in (".csv", ".tsv"):
            raise InputError(f"{file}: row {number} has not as many fields as the header; quote fields with commas")
        names.update(dict.fromkeys(row))
    return {name: [row.get(name) for row in rows] for name in names}
