"""Where texts come from: files, folders, data sets and iterables, read as a stream into one memory-mapped column.

A text is a list of whitespace-separated words joined by single spaces. Readers yield *pieces* (a list of words, or
None where a text ends), so that neither a file nor a single endless line is ever held in memory as a whole.
"""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import hashlib
import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from selfembed.data.python_docs import python_docs
from selfembed.errors import InputError
from selfembed.ground.files import cache_dir, writing

if TYPE_CHECKING:
    import datasets

PYTHON_DOCS = "python-docs"
"""The source name of the prose that every Python carries."""

_TEXT, _JSON_LINES = (".txt", ".md", ".rst"), (".jsonl", ".ndjson")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (*_TEXT, *_JSON_LINES, ".json", *_DELIMITERS, ".parquet")
_ZSTD = (".zst", ".zstd")
_COMPRESSED = (".gz", *_ZSTD)

_PIECE = 1 << 16  # characters of a line of plain text looked at together
_MAX_ROW = 64_000_000  # characters: a longer row, field or uncut text is refused, which bounds memory
_MAX_ASCII_RUN, _MAX_RUN = 1_000, 10_000  # characters without a space: nothing in ASCII is written without spaces
_BATCH_TEXTS, _BATCH_CHARS = 1_000, 8_000_000

_SURROGATE = re.compile("[\ud800-\udfff]")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w-]*|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_JSON_SPACE = re.compile(r"[ \t\r\n]*")

# What opening, decompressing or decoding a damaged or forbidden file may raise.
_UNREADABLE = (OSError, EOFError, UnicodeError, zlib.error, zstandard.ZstdError, pa.ArrowException)

_Pieces = Iterator["list[str] | None"]


@dataclass(kw_only=True)
class CorpusReport:
    """What reading found; filled while reading and complete once it ended.

    Attributes:
        sources: Sources read.
        files: Files read.
        texts: Texts kept, after cutting into passages.
        words: Whitespace-separated words in them.
        skipped: What was left out: reason -> how often.
    """

    sources: int = 0
    files: int = 0
    texts: int = 0
    words: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


class Corpus:
    """Texts from any mix of sources, as one memory-mapped column.

    A source is a file (.txt, .md, .rst, .jsonl, .ndjson, .json, .csv, .tsv, .parquet, each also with .gz, .zst or
    .zstd), a folder of them, a glob, a folder written by `Dataset.save_to_disk`, the id of a data set on the
    Hugging Face hub, "python-docs", a `datasets.Dataset`, or an iterable of strings, which are then the texts.
    A list or tuple is a list of *sources*: give texts that are in a list as `iter(texts)`, or as a list in the list.

    Nothing is read before `texts()`, `len()`, iteration or `fingerprint`; then everything is read once.
    """

    def __init__(
        self,
        sources: Any,
        *,
        column: str | None = None,
        split: str = "train",
        passage_words: int | None = 100,
        encoding: str = "utf-8",
        on_bad: Literal["raise", "skip"] = "raise",
        limit: int | None = None,
        progress: Callable[[int], None] | None = None,
        name: str | None = None,
    ) -> None:
        """Finds the sources.

        Args:
            sources: One source or a list of them.
            column: Column or key of the texts; None takes "text", or the only column of strings.
            split: Split to read where a data set has several.
            passage_words: Longer texts are cut into consecutive passages of that many words, a last rest of less
                than a fifth of it staying with the passage before; None leaves texts whole.
            encoding: Encoding of text, JSON and CSV files.
            on_bad: "raise" refuses the first bad text or unreadable file, "skip" leaves it out and counts it.
            limit: Stop after that many texts.
            progress: Called now and then with the number of texts so far.
            name: What records and reports call the corpus; None takes the sources.

        Raises:
            InputError: An argument is out of range, or a source does not exist or is of no known kind.
        """
        for option, value in (("passage_words", passage_words), ("limit", limit)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{option} is {value!r}: give a whole number from 1, or leave it out")
        if on_bad not in ("raise", "skip"):
            raise InputError(f"on_bad is {on_bad!r}: give 'raise' or 'skip'")
        try:
            codecs.lookup(encoding)
            io.TextIOWrapper(io.BytesIO(), encoding)  # refuses codecs like "hex", which are not of text
        except (LookupError, TypeError, ValueError):
            raise InputError(f"encoding is {encoding!r}, which Python does not know: give one like 'utf-8'") from None
        self.report = CorpusReport()
        self._name = name
        self._limit = limit
        self._progress = progress
        self._dataset: datasets.Dataset | None = None
        self._fingerprint = ""
        self._reader = _Reader(column, split, passage_words, encoding, on_bad, self.report)
        self._sources = list(sources) if isinstance(sources, list | tuple) else [sources]
        self._found = [self._reader.find(source) for source in self._sources]

    @property
    def name(self) -> str:
        """The name given, or the sources, as a reader would call them."""
        if self._name is not None:
            return self._name
        plain = (str, os.PathLike)
        return ", ".join(str(s) if isinstance(s, plain) else f"a {type(s).__name__}" for s in self._sources)

    def texts(self) -> datasets.Dataset:
        """The texts as a memory-mapped data set with the one column "text"; read on the first call.

        Raises:
            InputError: A text or file is bad (unless `on_bad="skip"`), a column is missing, the hub gives no data,
                there is no text at all, or the cache folder cannot be written.
        """
        if self._dataset is None:
            import datasets  # here, since it takes seconds

            self._dataset = datasets.Dataset.from_file(str(self._write()))
        return self._dataset

    def __iter__(self) -> Iterator[str]:
        for batch in self.texts().with_format("arrow").iter(_BATCH_TEXTS):
            yield from batch.column("text").to_pylist()

    def __len__(self) -> int:
        return len(self.texts())

    def stream(self) -> Iterator[str]:
        """Yields the texts one after the other as they are read, and keeps none; counts only what is skipped.

        Raises:
            InputError: As `texts()`, except where there is no text at all.
        """
        yield from self._read()

    @property
    def fingerprint(self) -> str:
        """The sha256 of the texts in their order: of content alone, not of paths or times.

        Raises:
            InputError: As `texts()`.
        """
        self.texts()
        return self._fingerprint

    def _write(self) -> Path:
        """Reads all sources into an Arrow file that is named by its content, and returns its path."""
        vars(self.report).update(vars(CorpusReport()))  # a second try, after a failure, counts from zero
        folder = cache_dir() / "texts"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
            os.close(handle)
        try:
            fingerprint = self._fill(name)
            if not self.report.texts:
                raise InputError(self._nothing())
            path = folder / f"{fingerprint}.arrow"
            with writing(folder):
                os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
        self._fingerprint = fingerprint
        return path

    def _fill(self, name: str) -> str:
        """Writes the texts to a file as an Arrow stream and returns their fingerprint."""
        folder = Path(name).parent
        schema = pa.schema({"text": pa.string()})
        digest = hashlib.sha256()
        batch: list[str] = []
        chars = 0
        with writing(folder):
            file = pa.OSFile(name, "wb")
            writer = pa.ipc.new_stream(file, schema)

        def flush() -> None:
            with writing(folder):
                writer.write_batch(pa.record_batch([pa.array(batch, pa.string())], schema))
            batch.clear()
            if self._progress:
                self._progress(self.report.texts)

        try:
            for text in self._read():
                content = text.encode()
                digest.update(len(content).to_bytes(8, "little") + content)  # with the length: "a b" is not "a", "b"
                self.report.texts += 1
                self.report.words += text.count(" ") + 1
                batch.append(text)
                chars += len(text)
                if len(batch) == _BATCH_TEXTS or chars >= _BATCH_CHARS:
                    flush()
                    chars = 0
                if self.report.texts == self._limit:
                    break
            if batch:
                flush()
            with writing(folder):
                writer.close()
        finally:
            file.close()
        return digest.hexdigest()

    def _read(self) -> Iterator[str]:
        for read in self._found:
            self.report.sources += 1
            yield from self._reader.cut(read())

    def _nothing(self) -> str:
        given = ", ".join(map(_name, self._sources[:5])) + (", ..." if len(self._sources) > 5 else "")
        skipped = ", ".join(f"{reason} ({count})" for reason, count in sorted(self.report.skipped.items()))
        return (
            f"no text in {given or 'an empty list of sources'}: looked for strings and for files of the types"
            f" {' '.join(_SUFFIXES)} (also .gz, .zst), read {self.report.files} files, skipped {skipped or 'nothing'};"
            " give a source that has text"
        )


@dataclass
class _Place:
    """Where reading stands, for messages."""

    name: str
    unit: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.name}, {self.unit} {self.number}" if self.number else self.name


class _Reader:
    """Turns sources into pieces; holds the options of a corpus and counts in its report."""

    def __init__(
        self,
        column: str | None,
        split: str,
        passage_words: int | None,
        encoding: str,
        on_bad: str,
        report: CorpusReport,
    ) -> None:
        self.column = column
        self.split = split
        self.passage_words = passage_words
        self.encoding = encoding
        self.on_bad = on_bad
        self.report = report
        self.spent: list[object] = []  # iterators already read

    # ---- which source is what

    def find(self, source: Any) -> Callable[[], _Pieces]:
        """What reads a source, which must exist (a hub id is only asked for when read).

        Raises:
            InputError: There is no such source.
        """
        if isinstance(source, str | os.PathLike):
            return self._find_path(source)
        import datasets

        if isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
            source = self._of_splits(source, _name(source))
        if isinstance(source, datasets.Dataset):
            return lambda: self._dataset(source, _Place(_name(source), "row"))
        if isinstance(source, datasets.IterableDataset):
            return lambda: self._rows(_numbered(source, place := _Place(_name(source), "row")), place)
        if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray):
            return lambda: self._iterable(source)
        raise InputError(f"a source is {_name(source)}: give a path, a hub id, a data set or an iterable of strings")

    def _find_path(self, source: str | os.PathLike[str]) -> Callable[[], _Pieces]:
        if source == PYTHON_DOCS:
            return lambda: self._iterable(python_docs())
        given = os.path.expanduser(os.fspath(source))
        path = Path(given)
        if os.path.isdir(given):
            return lambda: self._folder(path)
        if os.path.exists(given):
            if not _kind(path):
                raise InputError(
                    f"{given!r} is a file of a type that is not read: give one of {' '.join(_SUFFIXES)}, each also"
                    " with .gz, .zst or .zstd"
                )
            return lambda: self._file(path)
        if glob.has_magic(given) and (found := sorted(glob.glob(given, recursive=True))):
            return lambda: self._many(found)
        if isinstance(source, str) and _HUB_ID.fullmatch(source) and not _kind(path):
            return lambda: self._hub(source)
        shown = given if len(given) <= 200 else given[:200] + "..."
        advice = "check the spelling"
        if len(given.split()) > 3:
            advice += ", or give texts themselves as an iterator: iter(texts)"
        raise InputError(f"no such file or folder: {shown!r}; {advice}")

    # ---- folders and files

    def _folder(self, folder: Path) -> _Pieces:
        if _saved_dataset(folder):
            yield from self._saved(folder)
            return
        for root, names, files in os.walk(folder, onerror=self._unlistable):
            hidden = [name for name in names + files if name.startswith(".")]
            self._skip("hidden file or folder", len(hidden))
            for name in sorted(set(names) - set(hidden)):
                path = Path(root, name)
                if path.is_symlink():  # os.walk does not follow these: they may go round in circles
                    self._skip("linked folder")
                elif _saved_dataset(path):
                    yield from self._saved(path)
                    names.remove(name)
            names[:] = sorted(set(names) - set(hidden))
            yield from self._many(str(Path(root, name)) for name in sorted(set(files) - set(hidden)))

    def _many(self, paths: Iterable[str]) -> _Pieces:
        for path in map(Path, paths):
            if path.is_dir():
                yield from self._folder(path)
            elif not path.is_file():
                self._skip("not a regular file")  # a broken link, or a pipe that would never end
            elif _kind(path):
                yield from self._file(path)
            else:
                self._skip(f"file type not read: {''.join(_suffixes(path)) or 'no suffix'}")

    def _file(self, path: Path) -> _Pieces:
        kind = _kind(path)
        place = _Place(repr(str(path)), {".parquet": "row", ".json": "item"}.get(kind, "line"))
        self.report.files += 1
        try:
            with _open(path) as file:
                if kind == ".parquet":
                    yield from self._parquet(file, bool(_suffixes(path)[1]), place)
                else:
                    yield from self._decoded(file, kind, place)
        except UnicodeError as error:
            self._bad(f"invalid {self.encoding}", place, _advice("invalid"), error)
        except _UNREADABLE as error:
            self._bad("unreadable file", place, "it may be damaged, cut short or forbidden: replace it", error)
        yield None

    def _decoded(self, file: BinaryIO, kind: str, place: _Place) -> _Pieces:
        encoding = "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding  # drops a mark
        newline = "" if kind in _DELIMITERS else None
        # Bytes that are not in the encoding become lone surrogates, which the check of the text finds.
        with io.TextIOWrapper(file, encoding, errors="surrogateescape", newline=newline) as text:
            if kind in _TEXT:
                yield from self._plain(text, place)
            elif kind in _JSON_LINES:
                yield from self._rows(self._json_lines(text, place), place)
            elif kind == ".json":
                yield from self._rows(self._json_list(text, place), place)
            else:
                yield from self._csv(text, _DELIMITERS[kind], place)

    def _plain(self, file: TextIO, place: _Place) -> _Pieces:
        """Paragraphs between blank lines, by pieces of lines."""
        tail, starts = "", True
        while piece := file.readline(_PIECE):
            place.number += starts
            ends = piece.endswith("\n")
            piece = tail + piece
            words = piece.split()
            tail = ""
            if problem := _problem(piece, words, self.encoding):
                self._bad(problem, place, _advice(problem))
                while not ends and (piece := file.readline(_PIECE)):  # the rest of that line goes with it
                    ends = piece.endswith("\n")
            elif words:
                if not (ends or piece[-1].isspace()):
                    tail = words.pop()  # this word may go on
                yield words
            elif starts:
                yield None
            starts = ends
        if tail:
            yield [tail]

    def _json_lines(self, file: TextIO, place: _Place) -> Iterator[object]:
        while line := file.readline(_MAX_ROW):
            place.number += 1
            if len(line) == _MAX_ROW:
                while not line.endswith("\n") and (line := file.readline(_PIECE)):
                    pass
                self._bad(f"row of over {_MAX_ROW:,} characters", place, "put one row a line")
            elif _SURROGATE.search(line):
                self._bad(f"invalid {self.encoding}", place, _advice("invalid"))
            elif line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    self._bad("malformed JSON", place, "correct or remove that line", error)
                else:
                    yield row

    def _json_list(self, file: TextIO, place: _Place) -> Iterator[object]:
        """The items of a list, decoded one by one from a buffer that moves over the file."""
        decode = json.JSONDecoder().raw_decode
        buffer, at, before = "", 0, "["
        while True:
            start = _JSON_SPACE.match(buffer, at).end()
            mark = buffer[start : start + 1]
            first = _JSON_SPACE.match(buffer, start + 1).end()
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
                    if _JSON_SPACE.match(buffer, end).end() < len(buffer):  # else it may go on: 12|34
                        place.number += 1
                        yield item
                        at, before = end, ","
                        continue
                # At least doubling, so that a large item is not decoded from its start over and over.
                more = file.read(max(_PIECE, len(buffer) - at)) if len(buffer) - at < _MAX_ROW else ""
            if not more:
                place.number += 1
                self._bad("malformed JSON", place, "expected a list of strings or objects: correct it", problem)
                return
            buffer, at = buffer[at:] + more, 0

    def _csv(self, file: TextIO, delimiter: str, place: _Place) -> _Pieces:
        csv.field_size_limit(max(csv.field_size_limit(), _MAX_ROW))  # from 128 KiB, which articles exceed
        rows = csv.reader(iter(lambda: file.readline(_MAX_ROW), ""), delimiter=delimiter, strict=True)
        header: list[str] = []
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                place.number = rows.line_num
                self._bad("malformed CSV", place, "correct or remove that row (a quote left open?)", error)
                continue
            place.number = rows.line_num
            if row is None:
                return
            if not row:
                continue  # a blank line
            if not header:
                header, index = row, row.index(self._column(row, row, place))
                if len(header) == 1 and re.search(r"[;\t|]", header[0]):
                    raise InputError(
                        f"{place}: the header is {header[0]!r}, of one column: separate columns by {delimiter!r}"
                    )
            elif len(row) != len(header):
                problem = f"{len(row)} fields under a header of {len(header)}"
                self._bad("malformed CSV", place, "correct or remove that row", problem)
            else:
                yield from self._value(row[index], place)

    def _parquet(self, file: BinaryIO, compressed: bool, place: _Place) -> _Pieces:
        with tempfile.TemporaryFile(dir=cache_dir()) as unpacked:
            if compressed:  # Parquet is read from its end
                while block := file.read(1 << 20):
                    with writing(cache_dir()):
                        unpacked.write(block)
            table = pq.ParquetFile(unpacked if compressed else file, buffer_size=1 << 20)
            column = self._column(table.schema_arrow.names, _string_columns(table.schema_arrow), place)
            for batch in table.iter_batches(256, columns=[column]):
                yield from self._array(batch.column(0), place)

    # ---- data sets and iterables

    def _saved(self, folder: Path) -> _Pieces:
        import datasets

        place = _Place(repr(str(folder)), "row")
        self.report.files += 1
        try:
            with _no_progress_bars():
                saved = datasets.load_from_disk(str(folder))
            if isinstance(saved, datasets.DatasetDict):
                saved = self._of_splits(saved, place.name)
            yield from self._dataset(saved, place)
        except InputError:
            raise
        except (*_UNREADABLE, ValueError, KeyError, TypeError) as error:
            self._bad("unreadable file", place, "the saved data set may be damaged: write it again", error)
        yield None

    def _hub(self, name: str) -> _Pieces:
        import datasets

        place = _Place(repr(name), "row")
        try:
            with _no_progress_bars():
                rows = datasets.load_dataset(name, split=self.split, streaming=True)
        except Exception as error:  # whatever the network, the hub and the data set's files may raise
            raise InputError(
                f"{name!r} is no file or folder here, and no data set with split {self.split!r} could be had from the"
                f" Hugging Face hub ({_line(error)}): check the spelling and the network (HF_HUB_OFFLINE, if set,"
                " keeps the hub offline), or give a local file"
            ) from error
        try:
            with _no_progress_bars():
                yield from self._rows(_numbered(rows, place), place)
        except InputError:
            raise
        except Exception as error:
            self._bad("hub failed", place, "check the network, or download the data set and give its files", error)
        yield None

    def _of_splits(self, splits: Mapping[str, Any], name: str) -> Any:
        if self.split not in splits:
            raise InputError(f"{name}: no split {self.split!r}; give one of {', '.join(map(repr, splits))}")
        return splits[self.split]

    def _dataset(self, dataset: datasets.Dataset, place: _Place) -> _Pieces:
        schema = dataset.features.arrow_schema
        column = self._column(schema.names, _string_columns(schema), place)
        for batch in dataset.select_columns([column]).with_format("arrow").iter(256):
            yield from self._array(batch.column(0), place)

    def _iterable(self, source: Iterable[object]) -> _Pieces:
        items = iter(source)
        if items is source:
            if any(items is other for other in self.spent):
                raise InputError(f"a source is {_name(source)} that was read before: give a new one, or a list")
            self.spent.append(items)
        place = _Place(_name(source), "item")
        for item in _numbered(items, place):
            yield from self._value(item, place)

    # ---- rows and values

    def _rows(self, rows: Iterable[object], place: _Place) -> _Pieces:
        column = None
        for row in rows:
            if isinstance(row, Mapping):
                if column is None:  # a null may stand for a string
                    strings = [key for key, value in row.items() if value is None or isinstance(value, str)]
                    column = self._column(list(row), strings, place)
                row = row.get(column)
            yield from self._value(row, place)

    def _column(self, columns: Sequence[str], strings: Sequence[str], place: _Place) -> str:
        shown = ", ".join(map(repr, columns)) or "none"
        if self.column is not None:
            if self.column not in columns:
                raise InputError(f"{place}: no column {self.column!r}; the columns are {shown}: give one of them")
            return self.column
        if "text" in columns:
            return "text"
        if len(strings) == 1:
            return strings[0]
        raise InputError(
            f"{place}: no column 'text' and {'several columns' if strings else 'no column'} of strings; the columns"
            f" are {shown}: say which holds the texts (column=..., --column)"
        )

    def _array(self, array: pa.Array | pa.ChunkedArray, place: _Place) -> _Pieces:
        try:
            values = array.to_pylist()
        except UnicodeDecodeError:  # Arrow does not check strings: find the bad ones
            binary = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
            values = [v and v.decode("utf-8", "surrogateescape") for v in array.cast(binary).to_pylist()]
        for value in _numbered(values, place):
            yield from self._value(value, place)

    def _value(self, value: object, place: _Place) -> _Pieces:
        if value is not None and not isinstance(value, str):
            self._bad("not a string", place, "give strings only, or another column", f"{type(value).__name__}")
        elif not value or not (words := value.split()):
            self._skip("empty")
        elif problem := _problem(value, words, self.encoding):
            self._bad(problem, place, _advice(problem))
        else:
            yield words
            yield None

    def cut(self, pieces: _Pieces) -> Iterator[str]:
        """Texts from pieces, cut into passages.

        Raises:
            InputError: A text that is to stay whole does not fit in memory.
        """
        words: list[str] = []
        size = self.passage_words
        chars = 0
        for piece in pieces:
            if piece is None:
                if words:
                    yield " ".join(words)
                words, chars = [], 0
                continue
            words += piece
            if size:
                start = 0
                while 5 * (len(words) - start - size) >= size:  # what follows is long enough to stand alone
                    yield " ".join(words[start : start + size])
                    start += size
                del words[:start]
            elif (chars := chars + sum(map(len, piece)) + len(piece)) > _MAX_ROW:
                raise InputError(
                    f"a text of over {_MAX_ROW:,} characters, beginning {' '.join(words[:8])[:80]!r}, cannot be left"
                    " whole: give passage_words, or separate its paragraphs by blank lines"
                )
        if words:
            yield " ".join(words)

    # ---- what is left out

    def _skip(self, reason: str, count: int = 1) -> None:
        if count:
            self.report.skipped[reason] = self.report.skipped.get(reason, 0) + count

    def _bad(self, reason: str, place: _Place, advice: str, detail: object = None) -> None:
        if self.on_bad == "raise":
            detail = f" ({_line(detail)})" if detail else ""
            raise InputError(f"{place}: {reason}{detail}; {advice}, or leave it out (on_bad='skip', --on-bad skip)")
        self._skip(reason)

    def _unlistable(self, error: OSError) -> None:
        place = _Place(repr(str(error.filename)), "")
        self._bad("unreadable folder", place, "check its permissions", error)


def _problem(text: str, words: list[str], encoding: str) -> str:
    """Why a text cannot be used, or ""."""
    if "\0" in text:
        return "NUL character"
    if not text.isascii() and _SURROGATE.search(text):
        return f"invalid {encoding}"
    if len(text) > _MAX_ASCII_RUN:
        for word in words:
            if len(word) > (_MAX_ASCII_RUN if word.isascii() else _MAX_RUN):
                return f"over {_MAX_ASCII_RUN if word.isascii() else _MAX_RUN:,} characters without a space"
    return ""


def _advice(problem: str) -> str:
    if problem.startswith("invalid"):
        return "convert it to UTF-8, or give its encoding (--encoding)"
    if problem.startswith("NUL"):
        return "a binary or UTF-16 file? convert it to UTF-8, or give its encoding (--encoding)"
    return "this is no running text: remove it"


def _kind(path: Path) -> str:
    """The suffix that says how a file is read, or "" for one that is not."""
    suffix = _suffixes(path)[0]
    return suffix if suffix in _SUFFIXES else ""


def _suffixes(path: Path) -> tuple[str, str]:
    """The suffix of the content and that of the compression, each "" where there is none."""
    suffix = path.suffix.lower()
    return (path.with_suffix("").suffix.lower(), suffix) if suffix in _COMPRESSED else (suffix, "")


def _open(path: Path) -> BinaryIO:
    compression = _suffixes(path)[1]
    if compression in _ZSTD:
        return io.BufferedReader(_Zstd(path))
    return gzip.open(path, "rb") if compression else open(path, "rb")


class _Zstd(io.RawIOBase):
    """Decompressed bytes of a .zst file; unlike `zstandard.open`, it notices a file that was cut short."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 (closed in close)
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            block = self._frame.unused_data if self._frame and self._frame.eof else b""
            block = block or self._file.read(1 << 14)
            if not block:
                if self._frame and not self._frame.eof:
                    raise EOFError("compressed file ended before the end of its last frame")
                return 0
            if not self._frame or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(block))
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def _string_columns(schema: pa.Schema) -> list[str]:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    types = {one.name: one.type.value_type if pa.types.is_dictionary(one.type) else one.type for one in schema}
    return [name for name, kind in types.items() if any(test(kind) for test in tests)]


def _numbered(values: Iterable[Any], place: _Place) -> Iterator[Any]:
    for value in values:
        place.number += 1
        yield value


def _name(source: object) -> str:
    """A source, as it is called in messages."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source)[:200])
    return f"a {type(source).__name__}"


def _line(detail: object) -> str:
    """The first line of an error or note, short enough for a message of one line."""
    text = str(detail).strip() or type(detail).__name__
    return text.splitlines()[0][:300]
