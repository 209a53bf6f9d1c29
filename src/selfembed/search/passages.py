"""Where the passages of an index come from: which files there are, and which passage begins where in each.

This is the one place that knows how a text is found again: by its file, a line or row, and the passage's number.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import zstandard

from selfembed.data.corpus import Corpus
from selfembed.errors import InputError

_PYTHON_DOCS = "python-docs"
_PLAIN = (".txt", ".md", ".rst")
_COMPRESSED = (".gz", ".zst", ".zstd")
_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How sources are read: the options of :class:`selfembed.data.corpus.Corpus` of the same names."""

    passage_words: int | None = 100
    column: str | None = None
    split: str = "train"
    encoding: str = "utf-8"
    on_bad: str = "raise"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of text and where it stands.

    Attributes:
        text: The text, its words joined by single spaces.
        unit: The unit that `place` is counted in: `line` of a plain text file, `row` of a table or data set, `text`
            where rows were left out or there are none, `passage` where lines cannot be told.
        place: The line on which the passage begins, or the number of its row, from 1.
        number: The number of the passage within its row, or within a plain text file, from 1.
    """

    text: str
    unit: str
    place: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, or something else that has texts.

    Attributes:
        name: The source's name: a file's absolute path.
        given: The source as a Corpus reads it.
        hash: The hash of the file's content, 32 hex digits; empty where there is no file, and then it is always read.
        size: The size of the file in bytes.
        mtime_ns: The time of the file's last change, in nanoseconds.
    """

    name: str
    given: Any
    hash: str = ""
    size: int = 0
    mtime_ns: int = 0


@dataclass(kw_only=True)
class Skipped:
    """How often something was left out, by the reason."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        """Counts what was left out."""
        self.counts[reason] = self.counts.get(reason, 0) + count


def find_sources(given: Any, reading: Reading, skipped: Skipped) -> Iterator[Source]:
    """Yields every file of the sources once, and what is no file as it is.

    Args:
        given: One source or a list of them, as :class:`~selfembed.data.corpus.Corpus` takes them.
        reading: How the sources are read.
        skipped: Is filled with what is left out.

    Raises:
        InputError: A setting is out of range, a source does not exist or is of no known kind, or a folder cannot be
            listed.
    """
    Corpus([], **vars(reading))  # refuses settings that no file can be read with
    seen: set[Path] = set()
    for number, source in enumerate(given if isinstance(given, list | tuple) else [given], 1):
        if not isinstance(source, str | os.PathLike):
            yield Source(name=f"{type(source).__name__} {number}", given=source)
            continue
        for path, named in _expand(source, skipped):
            if path is None:
                yield Source(name=str(source), given=source)
            elif path.resolve() not in seen:
                seen.add(path.resolve())
                try:
                    Corpus([path], **vars(reading))
                except InputError:
                    if named:
                        raise
                    skipped.add(f"file type not read: {path.suffix or 'no suffix'}")
                else:
                    yield _of_file(path)


def _expand(source: str | os.PathLike[str], skipped: Skipped) -> Iterator[tuple[Path | None, bool]]:
    """Yields the files of one source, and whether it names them itself; None stands for the source as it is."""
    given = os.path.expanduser(os.fspath(source))
    if source == _PYTHON_DOCS:
        yield None, True
    elif os.path.isdir(given):
        yield from ((path, False) for path in _walk(Path(given), skipped))
    elif os.path.exists(given):
        yield Path(given), True
    elif glob.has_magic(given) and (found := sorted(glob.glob(given, recursive=True))):
        for name in found:
            paths = _walk(Path(name), skipped) if os.path.isdir(name) else [Path(name)]
            yield from ((path, False) for path in paths)
    else:
        yield None, True  # a data set of the hub, or nothing: Corpus says which


def _walk(folder: Path, skipped: Skipped) -> Iterator[Path]:
    if _saved_dataset(folder):
        yield folder
        return

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be listed ({error.strerror}); expected a readable folder; check its permissions"
        )

    for root, names, files in os.walk(folder, onerror=refuse):
        for name in sorted(names + files):
            path = Path(root, name)
            if name.startswith("."):
                skipped.add("hidden file or folder")
            elif name in names and path.is_symlink():
                skipped.add("linked folder")
            elif _saved_dataset(path) if name in names else path.is_file():
                yield path
            elif name in files:
                skipped.add("not a regular file")
        names[:] = sorted(name for name in names if not name.startswith(".") and not _saved_dataset(Path(root, name)))


def _saved_dataset(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file()


def _of_file(path: Path) -> Source:
    if path.is_dir():  # a saved data set, which is read again each time; its texts are known by their content
        return Source(name=str(path.absolute()), given=path)
    try:
        state = path.stat()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return Source(name=str(path.absolute()), given=path)  # reading it says what is wrong, or counts it
    return Source(name=str(path.absolute()), given=path, hash=digest, size=state.st_size, mtime_ns=state.st_mtime_ns)


def read_passages(source: Source, reading: Reading, skipped: Skipped) -> list[Passage]:
    """Reads the passages of one source in order.

    Raises:
        InputError: A text or the file is bad (unless `on_bad` is `"skip"`), or a column is missing.
    """
    if isinstance(source.given, Path) and _suffix(source.given) in _PLAIN:
        return list(_plain_passages(source.given, reading, skipped))
    corpus = Corpus([source.given], **{**vars(reading), "passage_words": None})
    found = [
        (row, number, text)
        for row, whole in enumerate(corpus.stream(), 1)
        for number, text in enumerate(_cut(whole, reading), 1)
    ]
    left_out = corpus.report.skipped
    for reason, count in left_out.items():
        skipped.add(reason, count)
    unit = "text" if left_out or source.given == _PYTHON_DOCS else "row"
    return [Passage(text=text, unit=unit, place=row, number=number) for row, number, text in found]


def _cut(whole: str, reading: Reading) -> Iterable[str]:
    """Cuts one row into passages, as a Corpus does."""
    if reading.passage_words is None or len(whole) <= reading.passage_words:
        return [whole]
    return Corpus([[whole]], **vars(reading)).stream()


def _plain_passages(path: Path, reading: Reading, skipped: Skipped) -> Iterator[Passage]:
    """Yields the passages of a plain text file; a passage's line is where its first word begins."""
    corpus = Corpus([path], **vars(reading))
    texts = list(corpus.stream())
    for reason, count in corpus.report.skipped.items():
        skipped.add(reason, count)
    # Signs that are no white space are the same in the file and in its texts, however words are joined.
    begins = np.cumsum([0, *(len(text) - text.count(" ") for text in texts)])
    ends = np.array([-1]) if corpus.report.skipped else _signs_by_line(path, reading.encoding)
    if ends[-1] != begins[-1]:
        yield from (Passage(text=t, unit="passage", place=i, number=i) for i, t in enumerate(texts, 1))
        return
    for number, (text, line) in enumerate(zip(texts, np.searchsorted(ends, begins[:-1], "right"), strict=True), 1):
        yield Passage(text=text, unit="line", place=int(line) + 1, number=number)


def _signs_by_line(path: Path, encoding: str) -> np.ndarray:
    """Counts the characters that are no white space up to the end of each line."""
    counts: list[int] = []
    total = 0
    with _open_text(path, encoding) as stream:
        while piece := stream.readline(_PIECE):
            total += sum(map(len, piece.split()))
            if piece.endswith("\n"):
                counts.append(total)
    return np.array([*counts, total])


def _open_text(path: Path, encoding: str) -> TextIO:
    compression = path.suffix.lower()
    encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    if compression == ".gz":
        return gzip.open(path, "rt", encoding=encoding, errors="surrogateescape")
    if compression in _COMPRESSED:
        text: TextIO = zstandard.open(path, "rt", encoding=encoding, errors="surrogateescape")
        return text
    return path.open(encoding=encoding, errors="surrogateescape")


def _suffix(path: Path) -> str:
    """Returns the suffix of the content, under that of a compression."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in _COMPRESSED else suffix
