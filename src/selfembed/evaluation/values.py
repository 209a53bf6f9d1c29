"""Values of columns that must be texts or numbers, and files that must be there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from selfembed.errors import InputError
from selfembed.evaluation.column_files import Columns, find_file, require_texts


def needed_file(folder: Path, name: str) -> Path:
    """Finds `folder/name` with any suffix of a file of rows.

    Raises:
        InputError: There is no such file.
    """
    file = find_file(folder, name)
    if file is None:
        raise InputError(f"{folder}: has no file {name!r}; expected {name}.parquet, .jsonl, .csv or .tsv; add it")
    return file


def require_text_columns(columns: Columns, file: Path, *names: str) -> None:
    """Refuses columns that hold anything but texts with at least one visible character.

    Raises:
        InputError: A value is no such text.
    """
    for name in names:
        require_texts(columns[name], file, name)


def whole_numbers(values: list[Any], file: Path) -> list[int]:
    """Reads the values of a column as whole numbers.

    Raises:
        InputError: A value is no whole number.
    """
    numbers = numbers_in(values, file)
    for row, number in enumerate(numbers, 1):
        if number != int(number):
            raise InputError(f"{file}: row {row} has {number:g}; expected a whole number; correct or remove it")
    return [int(number) for number in numbers]


def numbers_in(values: list[Any], file: Path) -> list[float]:
    """Reads the values of a column as finite numbers.

    Raises:
        InputError: A value is no finite number.
    """
    numbers = []
    for row, value in enumerate(values, 1):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{file}: row {row} has {value!r}; expected a number; correct or remove it")
        numbers.append(number)
    return numbers
