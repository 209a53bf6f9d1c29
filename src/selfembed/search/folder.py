"""An index on disk: what it says of itself, and its files.

An index is a folder with `index.json` and one sub-folder of data that it names. An update writes another sub-folder
beside it and then the new `index.json` in one step, so that whoever opens an index finds all of the old or all of the
new.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from selfembed.errors import InputError
from selfembed.search.passages import Reading

MANIFEST = "index.json"
KEY_BYTES = 16  # of a hash of a text: two of a billion texts coincide with a probability of 1e-21
PASSAGES, KEYS = "passages.arrow", "keys.npy"
SCHEMA = pa.schema({"text": pa.string(), "place": pa.int64(), "number": pa.int32()})

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What an index is made like.

    Args:
        reading: how sources are read and cut.
        language: of the lexical side's stop words and stemmer.
        vectors: how vectors are kept, see :data:`selfembed.search.dense.STORES`.
        sparse: tokens of the sparse view; 0 leaves it out.
        approximate: "faiss" for its graph of neighbours instead of exact search; None for exact search.
    """

    reading: Reading = Reading()
    language: str = "english"
    vectors: str = "float32"
    sparse: int = 0
    approximate: str | None = None


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """A source as it was when it was indexed: as :class:`selfembed.search.passages.Source`, and its passages.

    Args:
        name: of the source.
        hash: of its content.
        size: in bytes.
        mtime_ns: of its last change.
        unit: what the places of its passages count.
        first: row of its first passage in the index.
        passages: how many it has.
    """

    name: str
    hash: str
    size: int
    mtime_ns: int
    unit: str
    first: int
    passages: int

    @property
    def kind(self) -> tuple[str, str]:
        """What its passages depend on beside the settings: the content, and the suffix that says how to read it."""
        return self.hash, Path(self.name).suffix

    def changed(self) -> bool:
        """Whether the file is gone or another by now, judged by size and time."""
        if not self.hash:
            return False
        try:
            state = Path(self.name).stat()
        except OSError:
            return True
        return (state.st_size, state.st_mtime_ns) != (self.size, self.mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an index says of itself.

    Args:
        data: name of the sub-folder of data.
        embedder: folder of the embedder that made the vectors.
        fingerprint: of the embedder.
        dimensions: of the vectors.
        passages: in all.
        settings: what it is made like.
        sources: the paths that were given; None where some were no paths.
        files: in the order of their passages.
        skipped: what reading left out: reason -> how often.
        checksums: of the files of data.
    """

    data: str
    embedder: str
    fingerprint: str
    dimensions: int
    passages: int
    settings: IndexSettings
    sources: list[str] | None
    files: list[IndexedFile]
    skipped: dict[str, int]
    checksums: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads it from an index's folder.

        Raises:
            InputError: there is no index, or its manifest cannot be read.
        """
        file = folder / MANIFEST
        if not file.is_file():
            what = "has no index.json" if folder.is_dir() else "no such folder"
            raise InputError(f"index {folder}: {what}; expected one that selfembed index has made")
        try:
            found = json.loads(file.read_text())
            if found.pop("format") != _FORMAT:
                raise InputError(f"index {folder}: made by another version of selfembed; index the texts again")
            settings = found.pop("settings")
            return cls(
                settings=IndexSettings(**{**settings, "reading": Reading(**settings["reading"])}),
                files=[IndexedFile(**file) for file in found.pop("files")],
                **found,
            )
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"index {folder}: its {MANIFEST} is damaged; index the texts again") from error


def checksum(file: Path) -> str:
    """32 hex digits of BLAKE2 over a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def checksums(data: Path) -> dict[str, str]:
    """Of all files of a folder."""
    files = sorted(file for file in data.rglob("*") if file.is_file())
    return {file.relative_to(data).as_posix(): checksum(file) for file in files}


def text_key(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


class IndexData:
    """The data of an index, mapped into memory."""

    def __init__(self, folder: Path, manifest: Manifest, *, verify: bool = True) -> None:
        """Opens the data.

        Args:
            folder: of the index.
            manifest: of the index.
            verify: read every file and hold it against its checksum, about a second a gigabyte.

        Raises:
            InputError: a file is missing or has changed since it was written.
        """
        self.folder = folder / manifest.data
        self.manifest = manifest
        for name, expected in manifest.checksums.items():
            file = self.folder / name
            if not file.is_file() or (verify and checksum(file) != expected):
                what = "changed since it was written" if file.is_file() else "missing"
                raise InputError(f"index {folder}: its file {manifest.data}/{name} is {what}; index the texts again")

    @cached_property
    def table(self) -> pa.Table:
        """The passages, with the columns of `SCHEMA`."""
        with pa.memory_map(str(self.folder / PASSAGES)) as source:
            return pa.ipc.open_file(source).read_all()

    @cached_property
    def rows_of_keys(self) -> dict[bytes, int]:
        """A row for every text, by its key."""
        flat = np.load(self.folder / KEYS).tobytes()
        return {flat[i : i + KEY_BYTES]: i // KEY_BYTES for i in range(0, len(flat), KEY_BYTES)}


def clear_leftovers(folder: Path, manifest: Manifest) -> None:
    """Removes data that no manifest names: of updates that were stopped, or of the index before the last update."""
    for other in folder.glob("data-*"):
        if other.name != manifest.data:
            shutil.rmtree(other, ignore_errors=True)
    for staging in folder.glob(".data-*.tmp"):
        shutil.rmtree(staging, ignore_errors=True)
