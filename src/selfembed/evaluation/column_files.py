"""Files of rows for evaluation, each read whole as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfembed.data.files import COMPRESSED, ROWS, kind
from selfembed.data.ledger import Ledger
from selfembed.data.rows import read_rows
from selfembed.errors import InputError

SUFFIXES = (".parquet", *(suffix for suffix in ROWS if suffix != ".parquet"))

Columns = dict[str, list[Any]]


def read_columns(file: Path) -> Columns:
    """Reads a file as columns of equal length.

    Raises:
        InputError: There is no such file, or it is of no known kind, empty or damaged.
    """
    if not is_table(file):
        raise InputError(
            f"{file}: of a kind that is not read; expected a file of rows; give one of {', '.join(SUFFIXES)}, each "
            "also .gz or .zst"
        )
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; expected a file of rows; correct the path")
    names: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(read_rows(file, lambda columns: columns.names, Ledger()), 1):
        if not isinstance(row, Mapping):
            raise InputError(
                f"{file}: row {number} is a {type(row).__name__}; expected an object with named fields; correct or "
                "remove it"
            )
        names.update(dict.fromkeys(row))
        rows.append(dict(row))
    if not rows:
        raise InputError(f"{file}: has no rows; expected at least one; give another file")
    return {name: [row.get(name) for row in rows] for name in names}


def is_table(file: Path) -> bool:
    """Tells whether a file's name says that it is one of rows."""
    return bool(kind(file, SUFFIXES))


def find_file(folder: Path, stem: str) -> Path | None:
    """Finds `folder/stem` with any of the known suffixes, compressed or not; returns None where there is none."""
    names = (f"{stem}{suffix}{packed}" for packed in ("", *COMPRESSED) for suffix in SUFFIXES)
    return next((file for name in names if (file := folder / name).is_file()), None)


def choose_columns(columns: Columns, file: Path, wanted: Mapping[str, Sequence[str]]) -> Columns:
    """Chooses columns and gives them our names.

    Args:
        columns: All columns of a file.
        file: The file, for the error.
        wanted: For each of our names, the names that the file may use; the first one found is taken.

    Raises:
        InputError: A wanted column is missing.
    """
    chosen = {}
    for name, names in wanted.items():
        found = next((other for other in names if other in columns), None)
        if found is None:
            raise InputError(
                f"{file}: no column {' or '.join(map(repr, names))} among {', '.join(map(repr, columns))}; expected "
                f"{', '.join(repr(others[0]) for others in wanted.values())}; rename the columns"
            )
        chosen[name] = columns[found]
    return chosen


def require_texts(values: Sequence[Any], file: Path, column: str) -> list[str]:
    """Returns the values as a list, once each is known to be a text with at least one visible character.

    Raises:
        InputError: A value is no such text.
    """
    for row, value in enumerate(values, 1):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{file}: row {row} has {value!r} as {column!r}; expected a text; correct or remove it")
    return list(values)
