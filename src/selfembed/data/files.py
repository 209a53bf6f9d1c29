"""Which files are read, and opening them: compressed or not, refused where a pointer stands for the data."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

TEXT = (".txt", ".md", ".rst")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ROWS = (".jsonl", ".ndjson", ".json", *DELIMITERS, ".parquet")
SUFFIXES = (*TEXT, *ROWS)
_ZSTD = (".zst", ".zstd")
COMPRESSED = (".gz", *_ZSTD)
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": "Git LFS pointer",
    b"/annex/objects/": "git-annex pointer",
}
_FETCH = {"Git LFS pointer": "git lfs pull", "git-annex pointer": "git annex get"}
Opened = gzip.GzipFile | io.BufferedReader


class PointerError(Exception):
    """A file holds the address of the data instead of the data; the message names the kind of address."""

    @property
    def advice(self) -> str:
        return f"expected the data itself: fetch it ({_FETCH[str(self)]})"


UNREADABLE = (OSError, EOFError, UnicodeError, zlib.error, zstandard.ZstdError, pa.ArrowException)
"""What opening, decompressing or decoding a damaged or forbidden file may raise."""


def kind(path: Path, among: tuple[str, ...] = SUFFIXES) -> str:
    """Finds the suffix that says how a file is read; "" for a file that is not."""
    suffix = suffixes(path)[0]
    return suffix if suffix in among else ""


def suffixes(path: Path) -> tuple[str, str]:
    """Splits off the suffixes of content and compression, each "" where there is none."""
    suffix = path.suffix.lower()
    return (path.with_suffix("").suffix.lower(), suffix) if suffix in COMPRESSED else (suffix, "")


def stem(path: Path) -> str:
    """Gives a file's name without the suffixes of content and compression."""
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).stem


def open_file(path: Path) -> Opened:
    """Opens a file for reading, decompressed.

    Raises:
        PointerError: The file is a pointer to its content.
        OSError: The file cannot be opened.
    """
    with open(path, "rb") as file:
        beginning = file.read(64)
    for mark, name in _POINTERS.items():
        if beginning.startswith(mark):
            raise PointerError(name)
    compression = suffixes(path)[1]
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
