"""An index on disk: its description of itself, and its files.

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
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options
from selfembed.search.dense import Store
from selfembed.search.lexical import Language
from selfembed.search.passages import Reading

MANIFEST = "index.json"
KEY_BYTES = 16  # of a hash of a text: two of a billion texts coincide with a probability of 1e-21
PASSAGES, KEYS = "passages.arrow", "keys.npy"
SCHEMA = pa.schema({"text": pa.string(), "place": pa.int64(), "number": pa.int32()})

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How an index is made.

    Args:
        reading: How sources are read and cut.
        language: The language of the lexical side's stop words and stemmer, see
            :data:`selfembed.search.lexical.LANGUAGES`.
        vectors: How vectors are kept, see :data:`selfembed.search.dense.STORES`.
        sparse: The number of tokens in the sparse view; 0 leaves it out.
        approximate: `"faiss"` to search its graph of neighbours; None to search exactly.

    Raises:
        InputError: A value is of another kind, out of range or not among its choices.
    """

    reading: Reading = Reading()
    language: Language = "english"
    vectors: Store = "float32"
    sparse: Annotated[int, Range(least=0)] = 0
    approximate: Literal["faiss"] | None = None

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """A source as it was when it was indexed, with its passages.

    Attributes:
        name: The source's name: a file's absolute path.
        hash: The hash of the file's content, 32 hex digits; empty where there is no file.
        size: The size of the file in bytes.
        mtime_ns: The time of the file's last change, in nanoseconds.
        unit: The unit that the places of its passages are counted in.
        first: The row of its first passage in the index.
        passages: The number of its passages.
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
        """Returns what its passages depend on besides the settings: the content, and the suffix for its kind."""
        return self.hash, Path(self.name).suffix

    def changed(self) -> bool:
        """Tells whether the file is gone or has changed by now, judged by size and time."""
        if not self.hash:
            return False
        try:
            state = Path(self.name).stat()
        except OSError:
            return True
        return (state.st_size, state.st_mtime_ns) != (self.size, self.mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description that an index carries of itself.

    Attributes:
        data: The name of the sub-folder with the data.
        embedder: The folder of the embedder that made the vectors.
        fingerprint: The fingerprint of that embedder.
        dimensions: The width of the vectors.
        passages: The number of passages.
        settings: How the index is made.
        sources: The paths that were given; None where one of them was no path.
        files: The sources in the order of their passages.
        skipped: How often reading left something out, by the reason.
        checksums: The checksums of the files with the data, by name.
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
        """Returns plain JSON values."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads the description from an index's folder.

        Raises:
            InputError: There is no index, its description is damaged, or another version of selfembed made it.
        """
        file = folder / MANIFEST
        if not file.is_file():
            what = "has no index.json" if folder.is_dir() else "no such folder"
            raise InputError(f"index {folder}: {what}; expected one that selfembed index has made; correct the path")
        try:
            found = json.loads(file.read_text())
            if (version := found.pop("format")) == _FORMAT:
                settings = found.pop("settings")
                return cls(
                    settings=IndexSettings(**{**settings, "reading": Reading(**settings["reading"])}),
                    files=[IndexedFile(**file) for file in found.pop("files")],
                    **found,
                )
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise InputError(
                f"index {folder}: its {MANIFEST} is damaged; expected it as it was; index the texts again"
            ) from error
        raise InputError(
            f"index {folder}: of format {version}, made by another version of selfembed; expected format {_FORMAT}; "
            "index the texts again"
        )


def checksum(file: Path) -> str:
    """Hashes a file's content to 32 hex digits of BLAKE2."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def checksums(data: Path) -> dict[str, str]:
    """Hashes all files of a folder, by name."""
    files = sorted(file for file in data.rglob("*") if file.is_file())
    return {file.relative_to(data).as_posix(): checksum(file) for file in files}


def text_key(text: str) -> bytes:
    """Hashes a text to the 16 bytes that stand for it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


class IndexData:
    """The data of an index, mapped into memory."""

    def __init__(self, folder: Path, manifest: Manifest, *, verify: bool = True) -> None:
        """Opens the data.

        Args:
            folder: The folder of the index.
            manifest: The description of the index.
            verify: Whether every file is compared with its checksum, which takes about a second a gigabyte.

        Raises:
            InputError: A file is missing or has changed since it was written.
        """
        self.folder = folder / manifest.data
        self.manifest = manifest
        for name, expected in manifest.checksums.items():
            file = self.folder / name
            if not file.is_file() or (verify and checksum(file) != expected):
                what = "changed since it was written" if file.is_file() else "missing"
                raise InputError(
                    f"index {folder}: its file {manifest.data}/{name} is {what}; expected it as it was; index the "
                    "texts again"
                )

    @cached_property
    def table(self) -> pa.Table:
        """The passages, with the columns of `SCHEMA`."""
        with pa.memory_map(str(self.folder / PASSAGES)) as source:
            return pa.ipc.open_file(source).read_all()

    @cached_property
    def rows_of_keys(self) -> dict[bytes, int]:
        """A row for every text, by the text's key."""
        flat = np.load(self.folder / KEYS).tobytes()
        return {flat[i : i + KEY_BYTES]: i // KEY_BYTES for i in range(0, len(flat), KEY_BYTES)}


def clear_leftovers(folder: Path, manifest: Manifest) -> None:
    """Removes data that no manifest names: of stopped updates, or of the index before the last update."""
    for other in folder.glob("data-*"):
        if other.name != manifest.data:
            shutil.rmtree(other, ignore_errors=True)
    for staging in folder.glob(".data-*.tmp"):
        shutil.rmtree(staging, ignore_errors=True)
