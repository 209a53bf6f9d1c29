"""Finds what a source of texts is, and reads it as words: files, folders, data sets, the hub, iterables."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfembed.data import hub
from selfembed.data.delimited import no_header
from selfembed.data.files import SUFFIXES, TEXT, UNREADABLE, PointerError, kind, open_file, suffixes
from selfembed.data.ledger import Ledger, Place, numbered
from selfembed.data.passages import UNTITLED, Heading, Piece
from selfembed.data.plain_text import file_title, paragraphs
from selfembed.data.python_docs import python_docs
from selfembed.data.rows import Columns, decoded, file_place, read_rows
from selfembed.data.words import advice_on, heading_of, problem_of, split_words
from selfembed.errors import InputError

PYTHON_DOCS = "python-docs"
"""The source name of the prose that every Python carries."""

_TITLES = ("title", "heading", "headline")

Pieces = Iterator[Piece]


class Reader:
    """Turns sources into pieces.

    Args:
        column: Column or key of the texts; None takes "text", or the only column of strings.
        split: Split to read where a data set has several.
        encoding: Encoding of text, JSON and CSV files.
        ledger: Told of what is bad or left out.
    """

    def __init__(self, column: str | None, split: str, encoding: str, ledger: Ledger) -> None:
        self.column = column
        self.split = split
        self.encoding = encoding
        self.ledger = ledger
        self.hub_ids: list[str] = []  # of the data sets among the sources
        self._spent: list[object] = []  # iterators already read

    # ---- which source is what

    def find(self, source: Any) -> Callable[[], Pieces]:
        """Gives a function that reads a source; the source must exist, but the hub is only asked when it is read.

        Raises:
            InputError: There is no such source.
        """
        if isinstance(source, str | os.PathLike):
            return self._find_path(source)
        import datasets

        name = source_name(source)
        if isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
            source = hub.of_split(source, self.split, name)
        if isinstance(source, datasets.Dataset):
            return lambda: self._table(lambda choose, place: hub.dataset_rows(source, choose, place), name)
        if isinstance(source, datasets.IterableDataset):
            return lambda: self._table(lambda choose, place: hub.streamed_rows(source, choose, place), name)
        if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray):
            return lambda: self._iterable(source)
        raise InputError(f"source {name}: expected a path, a hub id, a data set or an iterable of strings")

    def _find_path(self, source: str | os.PathLike[str]) -> Callable[[], Pieces]:
        if source == PYTHON_DOCS:
            return lambda: self._iterable(python_docs())
        given = os.path.expanduser(os.fspath(source))
        path = Path(given)
        if os.path.isdir(given):
            return lambda: self._folder(path)
        if os.path.exists(given):
            if not kind(path):
                raise InputError(
                    f"source {given!r}: a file of a type that is not read; expected one of {' '.join(SUFFIXES)}, each "
                    "also with .gz, .zst or .zstd; convert it"
                )
            return lambda: self._file(path)
        if glob.has_magic(given) and (found := sorted(glob.glob(given, recursive=True))):
            return lambda: self._many(found)
        before, _, config = given.rpartition(":")
        if before and config and os.path.isdir(before):
            return lambda: self._folder(Path(before), config)
        if isinstance(source, str) and (named := hub.hub_id(source)):
            self.hub_ids.append(named[0])
            return lambda: self._table(
                lambda choose, place: hub.hub_rows(*named, self.split, choose, self.ledger, place), repr(source)
            )
        shown = given if len(given) <= 200 else given[:200] + "..."
        advice = "expected a path or a hub id; check the spelling"
        if len(given.split()) > 3:
            advice += ", or give texts themselves as an iterator: iter(texts)"
        raise InputError(f"source {shown!r}: no such file or folder; {advice}")

    # ---- folders and files

    def _folder(self, folder: Path, config: str | None = None) -> Pieces:
        if hub.is_saved(folder):
            yield from self._saved(folder)
            return
        if cloned := hub.cloned_files(folder, self.split, config):
            paths, left_out = cloned
            for reason, count in left_out.items():
                self.ledger.skip(reason, count)
            yield from self._many(map(str, paths))
            return
        if config is not None:
            raise InputError(
                f"{str(folder)!r}: is no data set with configurations; expected FOLDER; leave out {config!r}"
            )
        for root, names, files in os.walk(folder, onerror=self._unlistable):
            hidden = [name for name in names + files if name.startswith(".")]
            self.ledger.skip("hidden file or folder", len(hidden))
            for name in sorted(set(names) - set(hidden)):
                path = Path(root, name)
                if path.is_symlink():  # os.walk does not follow these: they may go round in circles
                    self.ledger.skip("linked folder")
                elif hub.is_saved(path) or (hub.has_card(path) and hub.cloned_files(path, self.split)):
                    yield from self._folder(path)
                    names.remove(name)
            names[:] = sorted(set(names) - set(hidden))
            yield from self._many(str(Path(root, name)) for name in sorted(set(files) - set(hidden)))

    def _many(self, paths: Iterable[str]) -> Pieces:
        for path in map(Path, paths):
            if path.is_dir():
                yield from self._folder(path)
            elif not path.is_file():
                self.ledger.skip("not a regular file")  # a broken link, or a pipe that would never end
            elif kind(path):
                yield from self._file(path)
            else:
                self.ledger.skip(f"file type not read: {''.join(suffixes(path)) or 'no suffix'}")

    def _file(self, path: Path) -> Pieces:
        place = file_place(path)
        if kind(path) not in TEXT:
            yield from self._table(
                lambda choose, place: read_rows(path, choose, self.ledger, place, encoding=self.encoding), place
            )
            return
        self.ledger.files += 1
        try:
            with open_file(path) as file, decoded(file, self.encoding) as text:
                yield from paragraphs(
                    text,
                    place,
                    self.ledger,
                    encoding=self.encoding,
                    title=file_title(path),
                    marked_up=kind(path) != ".txt",
                )
        except PointerError as error:
            self.ledger.bad(str(error), place, error.advice)
        except UnicodeError as error:
            self.ledger.bad(f"invalid {self.encoding}", place, advice_on("invalid"), error)
        except UNREADABLE as error:
            self.ledger.bad("unreadable file", place, "it may be damaged, cut short or forbidden; replace it", error)
        yield None

    def _saved(self, folder: Path) -> Pieces:
        return self._table(
            lambda choose, place: hub.saved_rows(folder, self.split, choose, self.ledger, place), repr(str(folder))
        )

    # ---- rows and values

    def _table(self, read: Callable[[Any, Place], Iterable[Any]], name: str | Place) -> Pieces:
        """Yields the pieces of texts: those of one column, or rows that are strings themselves."""
        place = name if isinstance(name, Place) else Place(name, "row")
        text = title = ""
        before = ""

        def choose(columns: Columns) -> Sequence[str]:
            nonlocal text, title
            text = self._text_column(columns)
            titles = (name for name in columns.names if name.lower() in _TITLES and name != text)
            title = next(titles, "")
            return [text, title] if title else [text]

        for row in read(choose, place):
            if not isinstance(row, Mapping):
                yield UNTITLED
                yield from self._value(row, place)
                continue
            if text not in row:
                self.ledger.skip(f"row without {text!r}")
                continue
            named = row.get(title)
            named = " ".join(named.split()) if isinstance(named, str) else ""
            if named:  # rows under one title are passages of one document
                yield Heading(named, "column", new_document=named != before)
            yield from self._value(row[text], place, titled=bool(named))
            before = named
        yield None

    def _text_column(self, columns: Columns) -> str:
        names, strings = columns.names, columns.strings
        shown = ", ".join(map(repr, names)) or "none"
        if self.column is not None:
            if self.column not in names:
                raise InputError(f"{columns.place}: no column {self.column!r}; expected one of {shown}")
            return self.column
        if "text" in names:
            return "text"
        if len(names) == 1 and columns.from_first_line and no_header(names[0]):
            raise InputError(
                f"{columns.place}: begins with {names[0][:80]!r}, which reads like a text; expected a header; write "
                "'text' as its first line, or, if this is the column's name, name it as `column`"
            )
        if len(strings) == 1:
            return strings[0]
        header = " of its first line" if columns.from_first_line else ""
        raise InputError(
            f"{columns.place}: no column 'text' and {'several columns' if strings else 'no column'} of strings; the "
            f"columns{header} are {shown}; expected one that holds the texts; name it as `column`"
        )

    def _iterable(self, source: Iterable[object]) -> Pieces:
        items = iter(source)
        if items is source:
            if any(items is other for other in self._spent):
                raise InputError(f"source {source_name(source)}: was read before; expected a new iterator, or a list")
            self._spent.append(items)
        place = Place(source_name(source), "item")
        for item in numbered(items, place):
            yield from self._value(item, place)

    def _value(self, value: object, place: Place, *, titled: bool = False) -> Pieces:
        if value is not None and not isinstance(value, str):
            self.ledger.bad("not a string", place, "give strings only, or another column", f"{type(value).__name__}")
        elif not value or not (words := split_words(value)):
            self.ledger.skip("empty")
        elif problem := problem_of(value, words, self.encoding):
            self.ledger.bad(problem, place, advice_on(problem))
        else:
            if not titled:
                line, _, below = value.strip().partition("\n")
                title = heading_of(line) if below and below.strip() else ""
                yield Heading(title, "first line") if title else UNTITLED
            yield words
            yield None

    # ---- what is left out

    def _unlistable(self, error: OSError) -> None:
        place = Place(repr(str(error.filename)), "")
        self.ledger.bad("unreadable folder", place, "check its permissions", error)


def source_name(source: object) -> str:
    """Gives the name of a source in messages."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source)[:200])
    return f"a {type(source).__name__}"
