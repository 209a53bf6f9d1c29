"""Files of delimited columns: CSV, where quotes enclose fields, and TSV, where a quote is a character like any other.

Programs that write CSV with tabs do quote fields, though. So a field of a TSV file counts as quoted where it could be
nothing else: it is enclosed by quotes and has doubled ones, a tab or a line break within, or every field of its column
is enclosed, or the header is.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TextIO

from selfembed.data.ledger import Ledger, Place
from selfembed.data.words import MAX_ROW, count_words
from selfembed.errors import InputError

_HEAD = 1_000  # rows looked at together
_MAX_LINES = 10_000  # of a field
_MOST_WORDS, _LONGEST_WORD = 1_000, 30  # labels remembered, and their characters
_DIGITS = re.compile(r"\d+")
_COLUMN_WORD = re.compile(
    r"\b(abstract|answer|article|body|caption|column|comment|content|description|document|feedback|headline|message"
    r"|name|note|paragraph|passage|post|prompt|query|question|quote|response|review|sentence|subject|summary|text"
    r"|title|tweet|utterance)s?\b",
    re.I,
)


def delimited_rows(file: TextIO, delimiter: str, place: Place, ledger: Ledger) -> Iterator[list[str]]:
    """Reads the header and then row after row, each with as many fields.

    Args:
        file: The file, opened with `newline=""`.
        delimiter: Comma or tab.
        place: Counter of lines.
        ledger: Told of malformed rows.

    Yields:
        The cells of each row.

    Raises:
        InputError: The header has one column and other separators in it, or the ledger refuses a row.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW))  # from 128 KiB, which articles exceed
    lines = iter(lambda: file.readline(MAX_ROW), "")
    if delimiter == "\t":
        first = next((line for line in numbered_lines(lines, place) if line.strip("\r\n")), "")
        if not first:
            return
        if any(_enclosed(cell) for cell in _split(first)):
            rows = _quoted_rows(chain([first], lines), delimiter, place, ledger, place.number - 1)
        else:
            rows = _unquoted_rows(first, lines, place, ledger)
    else:
        rows = _quoted_rows(lines, delimiter, place, ledger, 0)
    header = next(rows, None)
    if header is None:
        return
    if len(header) == 1 and re.search(r"[;\t|]", header[0]):
        raise InputError(f"{place}: {header[0]!r} is a header of one column; expected columns parted by {delimiter!r}")
    yield header
    yield from rows


def numbered_lines(lines: Iterable[str], place: Place) -> Iterator[str]:
    """Yields the lines and counts them in the place."""
    for line in lines:
        place.number += 1
        yield line


def no_header(name: str) -> bool:
    """Says whether the only cell of a first line reads like a text instead of a column's name."""
    name = name.strip()
    if name.isdigit():
        return False  # what pandas calls a column without a name; no text is only a number
    if not name or name[-1] in ".!?。！？।" or len(name) > 40:
        return True
    words = count_words(name)
    return words > 1 and (words > 3 or not _COLUMN_WORD.search(name.replace("_", " ")))


def _quoted_rows(
    lines: Iterable[str], delimiter: str, place: Place, ledger: Ledger, before: int
) -> Iterator[list[str]]:
    """Rows by the rules of CSV; `before` lines were read already."""
    seen: deque[str] = deque(maxlen=_MAX_LINES)

    def watched() -> Iterator[str]:
        for line in lines:
            seen.append(line)
            yield line

    rows = csv.reader(watched(), delimiter=delimiter, strict=True)
    header: list[str] = []
    ends: tuple[set[str], set[str]] = set(), set()  # words that stand in the first and last column
    while True:
        seen.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            place.number = before + rows.line_num
            ledger.bad("malformed CSV", place, "correct or remove that row (a quote left open?)", error)
            continue
        place.number = before + rows.line_num
        if row is None:
            return
        if not row:
            continue  # a blank line
        if not header:
            header = row
            yield row
        elif len(row) != len(header):
            problem = f"{len(row)} fields under a header of {len(header)}"
            ledger.bad("malformed CSV", place, "correct or remove that row", problem)
        elif len(seen) > 1 and _glued(list(seen), delimiter, len(header), ends):
            problem = f"a quote opened {len(seen) - 1} lines before, and what it spans looks like rows of their own"
            ledger.bad("malformed CSV", place, "double that quote, or enclose its field in quotes", problem)
        else:
            for known, cell in zip(ends, (row[0], row[-1]), strict=True):
                if len(known) < _MOST_WORDS and 0 < len(cell) <= _LONGEST_WORD and " " not in cell:
                    known.add(cell)
            yield row


def _glued(lines: list[str], delimiter: str, width: int, ends: tuple[set[str], set[str]]) -> bool:
    """Whether lines that quotes hold together are each a row.

    They are where each has enough fields, and is numbered at its beginning or end, or has a word there that other rows
    have, as labels are; one new label is no contradiction.
    """
    cells = [line.rstrip("\r\n").split(delimiter) for line in lines]
    if width < 2 or any(len(row) < width for row in cells):
        return False
    shapes = ({_DIGITS.sub("9", row[end].strip()) for row in cells} for end in (0, -1))
    if any(len(shape) == 1 and "9" in next(iter(shape)) for shape in shapes):
        return True
    words = ({row[end] for row in cells} for end in (0, -1))
    return any(
        found & known and len(found - known) <= 1 and all(0 < len(word) <= _LONGEST_WORD for word in found)
        for found, known in zip(words, ends, strict=True)
    )


def _unquoted_rows(first: str, lines: Iterator[str], place: Place, ledger: Ledger) -> Iterator[list[str]]:
    """Rows of a TSV file whose header is not quoted, quotes taken off where they are no characters of the text."""
    header = _split(first)
    yield header
    rows = _lines_to_rows(lines, len(header), place, ledger)
    head = list(islice(rows, _HEAD))
    by_column = list(zip(*(row for _, row, parsed in head if not parsed), strict=True))
    enclosed = [any(cells) and all(_enclosed(cell) for cell in cells if cell) for cells in by_column]
    enclosed = enclosed or [False] * len(header)
    end = place.number
    for number, row, parsed in chain(head, rows):
        place.number = number
        if parsed:
            yield row
        else:
            yield [_unquoted(cell, always) for cell, always in zip(row, enclosed, strict=True)]
        place.number = max(number, end)


def _lines_to_rows(
    lines: Iterator[str], width: int, place: Place, ledger: Ledger
) -> Iterator[tuple[int, list[str], bool]]:
    """Rows with the number of their line, and whether quotes across lines or tabs made them; else a line is a row."""
    ahead: deque[str] = deque()

    def next_line() -> str:
        return ahead.popleft() if ahead else next(lines, "")

    while line := next_line():
        place.number += 1
        if not line.strip("\r\n"):
            continue
        row = _split(line)
        fits = len(row) == width
        opened = [cell for cell in row if cell.startswith('"') and cell.count('"') % 2]
        sure = any('""' in cell[1:] for cell in opened)  # doubled as only writers of CSV do
        joined = None
        if fits and opened and width > 1 and (following := next_line()):
            ahead.appendleft(following)
            if sure or len(_split(following)) != width:  # else it is a row by itself, and the quote a character
                joined = _across(line, next_line, ahead, width, sure)
        elif not fits and '"' in line:
            joined = _across(line, next_line, ahead, width, sure)
        if joined is not None:
            row, more = joined
            place.number += more
            yield place.number, row, True
        elif fits:
            yield place.number, row, False
        else:
            problem = f"{len(row)} fields under a header of {width}"
            ledger.bad("malformed TSV", place, "correct or remove that row", problem)


def _across(
    line: str, next_line: Callable[[], str], ahead: deque[str], width: int, sure: bool
) -> tuple[list[str], int] | None:
    """A row of quoted fields with tabs or line breaks within, and how many more lines it took; None if there is none.

    Lines that were looked at in vain are put back.
    """
    taken, size = [line], len(line)
    while True:
        try:
            found = list(csv.reader(taken, delimiter="\t", strict=True))
        except csv.Error as error:
            if "unexpected end of data" not in str(error):
                break
        else:
            if len(found) == 1 and len(found[0]) == width:
                return found[0], len(taken) - 1
            break
        if not sure and len(taken) > 1 and len(_split(taken[-1])) == width > 1:
            break  # what follows is a row by itself
        if len(taken) >= _MAX_LINES or size >= MAX_ROW or not (more := next_line()):
            break
        taken.append(more)
        size += len(more)
    ahead.extendleft(reversed(taken[1:]))
    return None


def _split(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _enclosed(cell: str) -> bool:
    """Whether a cell is one quoted field by the rules of CSV."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _unquoted(cell: str, always: bool) -> str:
    if '"' not in cell or not _enclosed(cell) or not (always or '""' in cell[1:-1]):
        return cell
    return cell[1:-1].replace('""', '"')
