"""A corpus: texts from any mix of sources, read as a stream into one memory-mapped column."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa

from selfembed.data.files import SUFFIXES
from selfembed.data.ledger import Ledger
from selfembed.data.passages import UNTITLED, PassageRow, Piece, cut
from selfembed.data.sources import Reader, source_name
from selfembed.errors import InputError
from selfembed.ground.files import cache_dir, writing
from selfembed.ground.options import Range, check_value, require_choice

if TYPE_CHECKING:
    import datasets

_BATCH_TEXTS, _BATCH_CHARS = 1_000, 8_000_000
_TEXTS = pa.schema({"text": pa.string()})
_TITLES = pa.schema({"title": pa.string(), "title_from": pa.string(), "document": pa.int64()})


@dataclass(kw_only=True)
class CorpusReport:
    """What reading found; filled while reading, complete when reading has ended.

    Attributes:
        sources: Number of sources read.
        files: Number of files read.
        texts: Number of texts kept, after cutting into passages.
        words: Number of words in them (:func:`selfembed.data.words.split_words`).
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
    .zstd), a folder of them, a glob, a folder written by `Dataset.save_to_disk` or cloned from the Hugging Face hub,
    the `ID` or `ID:CONFIG` of a data set there, "python-docs", a `datasets.Dataset`, or an iterable of strings, which
    are then the texts.
    A list or tuple is a list of *sources*: give texts that are in a list as `iter(texts)`, or as a list in the list.

    A text is its words joined by single spaces. Nothing is read before `texts()`, `passages()`, `len()`, iteration or
    `fingerprint`; then everything is read once.
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
            passage_words: Number of words of a passage. Longer texts are cut into consecutive passages; a rest of less
                than a fifth stays with the passage before. None leaves texts whole. In scripts without spaces a letter
                counts as a word.
            encoding: Encoding of text, JSON and CSV files.
            on_bad: "raise" refuses the first bad text or unreadable file, "skip" leaves it out and counts it.
            limit: Number of texts to stop after; None reads all.
            progress: Called now and then with the number of texts read so far.
            name: What records and reports call the corpus; None takes the names of the sources.

        Raises:
            InputError: An argument is out of range, or a source does not exist or is of no known kind.
        """
        for option, value in (("passage_words", passage_words), ("limit", limit)):
            check_value(option, value, Annotated[int, Range(least=1)] | None)
        require_choice("on_bad", on_bad, ("raise", "skip"))
        try:
            codecs.lookup(encoding)
            io.TextIOWrapper(io.BytesIO(), encoding)  # refuses codecs like "hex", which are not of text
        except (LookupError, TypeError, ValueError):
            raise InputError(f"encoding {encoding!r}: expected one that Python knows, e.g. 'utf-8'") from None
        self.report = CorpusReport()
        self._name = name
        self._limit = limit
        self._progress = progress
        self._passage_words = passage_words
        self._dataset: datasets.Dataset | None = None
        self._titles: datasets.Dataset | None = None
        self._fingerprint = ""
        self._ledger = Ledger(on_bad=on_bad, optional=True, skipped=self.report.skipped)
        self._reader = Reader(column, split, encoding, self._ledger)
        self._sources = list(sources) if isinstance(sources, list | tuple) else [sources]
        self._found = [self._reader.find(source) for source in self._sources]

    @property
    def name(self) -> str:
        """The name that was given, or those of the sources."""
        if self._name is not None:
            return self._name
        plain = (str, os.PathLike)
        return ", ".join(str(s) if isinstance(s, plain) else f"a {type(s).__name__}" for s in self._sources)

    @property
    def hub_ids(self) -> list[str]:
        """The ids of the sources that are data sets on the hub, each once."""
        return list(dict.fromkeys(self._reader.hub_ids))

    def texts(self) -> datasets.Dataset:
        """Gives the texts as a memory-mapped data set with the one column "text"; reads them on the first call.

        Raises:
            InputError: A text or file is bad (unless `on_bad="skip"`), a column is missing, the hub gives no data,
                there is no text at all, or the cache folder cannot be written.
        """
        if self._dataset is None:
            import datasets  # here, since it takes seconds

            texts, titles = self._write()
            self._titles = datasets.Dataset.from_file(str(titles))
            self._dataset = datasets.Dataset.from_file(str(texts))
        return self._dataset

    def passages(self) -> datasets.Dataset:
        """Gives the texts with their titles and documents, row by row as in `texts()`, memory-mapped.

        The columns are "text"; "title", or "" where a text has none; "title_from", which says where the title was
        found: "column", "heading", "first line", "file name" or ""; and "document", the number of the document, from
        0. The passages of one document follow one another. A document is a file of plain text, a row of other files
        and data sets (rows one after the other under one title are one), or an item of an iterable.

        Raises:
            InputError: See `texts()`.
        """
        import datasets

        texts = self.texts()
        assert self._titles is not None
        return datasets.concatenate_datasets([texts, self._titles], axis=1)

    def __iter__(self) -> Iterator[str]:
        for batch in self.texts().with_format("arrow").iter(_BATCH_TEXTS):
            yield from batch.column("text").to_pylist()

    def __len__(self) -> int:
        return len(self.texts())

    def stream(self) -> Iterator[str]:
        """Yields the texts one after the other as they are read, and keeps none; counts only what is skipped.

        Raises:
            InputError: See `texts()`; no text at all is no error here.
        """
        yield from (passage.text for passage in self._read())

    @property
    def fingerprint(self) -> str:
        """The sha256 of the texts in their order: of content alone, not of paths or times.

        Raises:
            InputError: See `texts()`.
        """
        self.texts()
        return self._fingerprint

    def _write(self) -> tuple[Path, Path]:
        """Reads all sources into two Arrow files, texts and titles, each named by its content."""
        vars(self.report).update(vars(CorpusReport()))  # a second try, after a failure, counts from zero
        self._ledger.skipped, self._ledger.files = self.report.skipped, 0
        folders = cache_dir() / "texts", cache_dir() / "titles"
        texts, titles = _ArrowFile(folders[0], _TEXTS), _ArrowFile(folders[1], _TITLES)
        try:
            self._fill(texts, titles)
            self.report.files = self._ledger.files
            if not self.report.texts:
                raise InputError(self._nothing())
            self._fingerprint = texts.digest.hexdigest()
            return texts.arrive(), titles.arrive()
        finally:
            texts.remove()
            titles.remove()

    def _fill(self, texts: _ArrowFile, titles: _ArrowFile) -> None:
        """Writes the texts and their titles, and counts."""
        report, chars = self.report, 0
        for passage in self._read():
            texts.add(passage.text)
            titles.add(passage.title, passage.title_from, passage.document)
            report.texts += 1
            report.words += passage.words
            chars += len(passage.text)
            if report.texts % _BATCH_TEXTS == 0 or chars >= _BATCH_CHARS:
                texts.flush()
                titles.flush()
                chars = 0
                if self._progress:
                    self._progress(report.texts)
            if report.texts == self._limit:
                break
        if texts.close() + titles.close() and self._progress:
            self._progress(report.texts)

    def _read(self) -> Iterator[PassageRow]:
        def pieces() -> Iterator[Piece]:
            for read in self._found:
                self.report.sources += 1
                yield UNTITLED
                yield from read()
                yield None

        return cut(pieces(), self._passage_words)

    def _nothing(self) -> str:
        given = ", ".join(map(source_name, self._sources[:5])) + (", ..." if len(self._sources) > 5 else "")
        skipped = ", ".join(f"{reason} ({count})" for reason, count in sorted(self.report.skipped.items()))
        return (
            f"no text in {given or 'an empty list of sources'}: expected strings, or files of the types"
            f" {' '.join(SUFFIXES)} (also .gz, .zst); read {self.report.files} files, skipped {skipped or 'nothing'};"
            " give a source that has text"
        )


class _ArrowFile:
    """A file of rows that is named by the hash of its content, and appears only when it is complete."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema
        self.digest = hashlib.sha256()
        self._rows: list[tuple[Any, ...]] = []
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
            os.close(handle)
            self._path = Path(name)
            self._file = pa.OSFile(name, "wb")
            self._writer = pa.ipc.new_stream(self._file, schema)

    def add(self, *row: Any) -> None:
        """Takes a row of strings and numbers, in the order of the schema."""
        for value in row:
            content = str(value).encode()
            # with the length: "a b" is not "a", "b"
            self.digest.update(len(content).to_bytes(8, "little") + content)
        self._rows.append(row)

    def flush(self) -> bool:
        """Writes the rows taken since; says whether there were any."""
        if not self._rows:
            return False
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, self.schema, strict=True)]
        with writing(self.folder):
            self._writer.write_batch(pa.record_batch(arrays, self.schema))
        self._rows.clear()
        return True

    def close(self) -> bool:
        """Ends the file; says whether there were rows left to write."""
        wrote = self.flush()
        with writing(self.folder):
            self._writer.close()
            self._file.close()
        return wrote

    def arrive(self) -> Path:
        """Gives the file its name."""
        path = self.folder / f"{self.digest.hexdigest()}.arrow"
        with writing(self.folder):
            os.replace(self._path, path)
        return path

    def remove(self) -> None:
        """Takes away a file that did not arrive."""
        self._file.close()
        self._path.unlink(missing_ok=True)
