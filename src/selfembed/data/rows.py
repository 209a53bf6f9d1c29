"""Files of rows, read as a stream in bounded memory: JSON, JSON lines, CSV, TSV, Parquet, each compressed or not.

Corpora, labelled pairs and evaluation data are all read here.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from selfembed.data.delimited import delimited_rows
from selfembed.data.files import DELIMITERS, ROWS, UNREADABLE, Opened, PointerError, kind, open_file, suffixes
from selfembed.data.ledger import Ledger, Place
from selfembed.data.words import MAX_ROW, advice_on
from selfembed.errors import InputError
from selfembed.ground.files import cache_dir, writing

PIECE = 1 << 16
"""Characters of a JSON list decoded at once, at least."""

_HEAD_ROWS, _HEAD_CHARS = 1_000, 4_000_000  # looked at before columns are chosen
_ARRAY_ROWS = 256
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a table has.

    Attributes:
        names: All columns, or all keys that the first rows have.
        strings: The columns whose values are strings, half of them at least, or that have none in the first rows.
        place: Where they were found, for messages.
        from_first_line: Whether the names are a file's first line, which may be no header after all.
    """

    names: tuple[str, ...]
    strings: tuple[str, ...]
    place: Place
    from_first_line: bool = False


Choose = Callable[[Columns], Sequence[str]]
"""Says which columns to read; raises `InputError` where those it needs are not there."""

Row = dict[str, Any]


def file_place(path: Path) -> Place:
    """Gives the place where reading a file begins."""
    return Place(repr(str(path)), {".parquet": "row", ".json": "item"}.get(kind(path), "line"))


def read_rows(
    path: Path, choose: Choose, ledger: Ledger, place: Place | None = None, *, encoding: str = "utf-8"
) -> Iterator[Any]:
    """Reads a file of rows.

    Args:
        path: A file of one of the kinds in `files.ROWS`.
        choose: Asked once, when the columns are known.
        ledger: Told of malformed rows and unreadable files.
        place: Counter of rows; None makes one.
        encoding: Encoding of text files.

    Yields:
        Row after row, as a dictionary of the chosen columns that it has; an item of JSON that is no object as it is.

    Raises:
        InputError: `choose` or the ledger refuses the file.
    """
    place = place or file_place(path)
    found = kind(path, ROWS)
    ledger.files += 1
    try:
        with open_file(path) as file:
            if found == ".parquet":
                yield from _parquet_rows(file, bool(suffixes(path)[1]), choose, ledger, place)
            else:
                with decoded(file, encoding, newline="" if found in DELIMITERS else None) as text:
                    yield from _text_rows(text, found, choose, ledger, place, encoding)
    except PointerError as error:
        ledger.bad(str(error), place, error.advice)
    except UnicodeError as error:
        ledger.bad(f"invalid {encoding}", place, advice_on("invalid"), error)
    except UNREADABLE as error:
        ledger.bad("unreadable file", place, "it may be damaged, cut short or forbidden; replace it", error)


def column_names(path: Path) -> tuple[str, ...]:
    """Reads the names of a file's columns; none for what is no file of rows or cannot be read."""
    seen: list[tuple[str, ...]] = []

    def note(columns: Columns) -> Sequence[str]:
        seen.append(columns.names)
        return ()

    if kind(path, ROWS) and path.is_file():
        try:
            next(read_rows(path, note, Ledger()), None)
        except InputError:
            return ()
    return seen[0] if seen else ()


def decoded(file: Opened, encoding: str, *, newline: str | None = None) -> TextIO:
    """Decodes a file; bytes that are not in the encoding become lone surrogates, which `problem_of` finds.

    Raises:
        UnicodeError: The file begins as UTF-16 does and shall be read as UTF-8.
    """
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        if file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UnicodeError("begins as UTF-16 does")
        encoding = "utf-8-sig"  # drops a mark
    return io.TextIOWrapper(file, encoding, errors="surrogateescape", newline=newline)


def with_columns(rows: Iterable[Any], choose: Choose, place: Place) -> Iterator[Any]:
    """Yields rows that each name their columns, reduced to the columns chosen from the first thousand rows.

    Where all of them are chosen, later rows keep columns of their own too.

    Args:
        rows: Dictionaries; anything else is left as it is.
        choose: Asked once, when there is a dictionary.
        place: Counter of rows, which `rows` moves on.

    Raises:
        InputError: `choose` refuses the columns.
    """
    stream, failure = iter(rows), None
    head: list[tuple[int, Any]] = []
    chars = 0
    while len(head) < _HEAD_ROWS and chars < _HEAD_CHARS:
        try:
            row = next(stream)
        except StopIteration:
            break
        except Exception as error:  # what came before it is good
            failure = error
            break
        head.append((place.number, row))
        values = row.values() if isinstance(row, Mapping) else (row,)
        chars += sum(len(value) for value in values if isinstance(value, str))
    end = place.number
    chosen: Sequence[str] | None = None
    if objects := [row for _, row in head if isinstance(row, Mapping)]:
        place.number = next(number for number, row in head if isinstance(row, Mapping))
        chosen = _chosen(objects, choose, place)
    for number, row in head:
        place.number = number
        yield _reduced(row, chosen)
    place.number = end
    if failure is not None:
        raise failure
    for row in stream:
        if chosen is None and isinstance(row, Mapping):
            chosen = _chosen([row], choose, place)
        yield _reduced(row, chosen)


def string_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Names the columns of an Arrow schema that hold strings."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    types = {one.name: one.type.value_type if pa.types.is_dictionary(one.type) else one.type for one in schema}
    return tuple(name for name, found in types.items() if any(test(found) for test in tests))


def batch_rows(batch: pa.RecordBatch | pa.Table, place: Place) -> Iterator[Row]:
    """Yields the rows of an Arrow batch and counts them in the place."""
    names = batch.schema.names
    for values in zip(*map(_values, batch.columns), strict=True):
        place.number += 1
        yield dict(zip(names, values, strict=True))


def _text_rows(text: TextIO, found: str, choose: Choose, ledger: Ledger, place: Place, encoding: str) -> Iterator[Any]:
    if found in DELIMITERS:
        rows = delimited_rows(text, DELIMITERS[found], place, ledger)
        header = next(rows, None)
        if header is None:
            return
        names = tuple(header)
        chosen = choose(Columns(names=names, strings=names, place=place, from_first_line=True))
        wanted = [(name, header.index(name)) for name in chosen]
        for row in rows:
            yield {name: row[index] for name, index in wanted}
    elif found == ".json":
        yield from with_columns(_json_list(text, place, ledger), choose, place)
    else:
        yield from with_columns(_json_lines(text, place, ledger, encoding), choose, place)


def _columns_of(rows: Sequence[Mapping[str, Any]], place: Place) -> Columns:
    names: dict[str, int] = {}  # how many more strings than other values
    for row in rows:
        for key, value in row.items():  # a null may stand for a string
            names[key] = names.get(key, 0) + (0 if value is None else 1 if isinstance(value, str) else -1)
    strings = tuple(name for name, more in names.items() if more >= 0)
    return Columns(names=tuple(names), strings=strings, place=place)


_EVERY: list[str] = []  # this very object: no column of a row is left out


def _chosen(rows: Sequence[Mapping[str, Any]], choose: Choose, place: Place) -> Sequence[str]:
    columns = _columns_of(rows, place)
    chosen = choose(columns)
    return _EVERY if chosen and tuple(chosen) == columns.names else chosen


def _reduced(row: Any, chosen: Sequence[str] | None) -> Any:
    if chosen is None or chosen is _EVERY or not isinstance(row, Mapping):
        return row
    return {name: row[name] for name in chosen if name in row}


def _json_lines(file: TextIO, place: Place, ledger: Ledger, encoding: str) -> Iterator[Any]:
    while line := file.readline(MAX_ROW):
        place.number += 1
        if len(line) == MAX_ROW:
            while not line.endswith("\n") and (line := file.readline(PIECE)):
                pass
            ledger.bad(f"row of over {MAX_ROW:,} characters", place, "put one row a line")
        elif _SURROGATE.search(line):
            ledger.bad(f"invalid {encoding}", place, advice_on("invalid"))
        elif line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                ledger.bad("malformed JSON", place, "correct or remove that line", error)
            else:
                yield row


def _json_list(file: TextIO, place: Place, ledger: Ledger) -> Iterator[Any]:
    """Yields the items of a list, decoded one by one from a buffer that moves over the file."""
    decode = json.JSONDecoder().raw_decode
    buffer, at, before = "", 0, "["
    while True:
        start = _space_end(buffer, at)
        mark = buffer[start : start + 1]
        first = _space_end(buffer, start + 1)
        if (mark == "]" and before == ",") or (mark == before == "[" and buffer[first : first + 1] == "]"):
            return
        problem: Exception | str = "there is no end to the list"
        if mark not in ("", before):
            problem = f"{mark!r} where {before!r} should be; a file with one object a line is named .jsonl"
            more = ""
        else:
            try:
                item, end = decode(buffer, first)
            except (ValueError, RecursionError) as error:
                problem = error
            else:
                if _space_end(buffer, end) < len(buffer):  # else it may go on: 12|34
                    place.number += 1
                    yield item
                    at, before = end, ","
                    continue
            # At least doubling, so that a large item is not decoded from its start over and over.
            more = file.read(max(PIECE, len(buffer) - at)) if len(buffer) - at < MAX_ROW else ""
        if not more:
            place.number += 1
            ledger.bad("malformed JSON", place, "expected a list of strings or objects; correct it", problem)
            return
        buffer, at = buffer[at:] + more, 0


def _space_end(text: str, start: int) -> int:
    found = _JSON_SPACE.match(text, start)
    assert found is not None  # it matches nothing, too
    return found.end()


def _parquet_rows(file: Opened, compressed: bool, choose: Choose, ledger: Ledger, place: Place) -> Iterator[Row]:
    with writing(cache_dir()):
        cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_dir()) as unpacked:
        if compressed:  # Parquet is read from its end
            while block := file.read(1 << 20):
                with writing(cache_dir()):
                    unpacked.write(block)
        table = pq.ParquetFile(unpacked if compressed else file, buffer_size=1 << 20)
        schema = table.schema_arrow
        chosen = list(choose(Columns(names=tuple(schema.names), strings=string_columns(schema), place=place)))
        for batch in table.iter_batches(_ARRAY_ROWS, columns=chosen):
            yield from batch_rows(batch.select(chosen), place)


def _values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        values: list[Any] = array.to_pylist()
        return values
    except UnicodeDecodeError:  # Arrow does not check strings: bad bytes become lone surrogates
        binary = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
        return [value and value.decode("utf-8", "surrogateescape") for value in array.cast(binary).to_pylist()]
