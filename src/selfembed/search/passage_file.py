"""The passages of an index in the order of their rows, as an Arrow file that is written while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfembed.search.folder import KEY_BYTES, SCHEMA, IndexedFile, text_key
from selfembed.search.passages import Source

_BATCH = 4096  # passages written together


class PassageFile:
    """The passages of all sources, and the entry of each source in the manifest."""

    def __init__(self, file: Path) -> None:
        """Names the file; `open` begins to write it."""
        self.file = file
        self.files: list[IndexedFile] = []
        self.count = 0
        self._keys = bytearray()
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        self._writer: Any = None

    def open(self) -> None:
        """Begins an empty file."""
        self._writer = pa.ipc.new_file(str(self.file), SCHEMA)

    def add(self, source: Source, unit: str, rows: list[tuple[str, int, int]]) -> None:
        """Adds a source with its passages: text, place and number."""
        self.files.append(
            IndexedFile(
                name=source.name,
                hash=source.hash,
                size=source.size,
                mtime_ns=source.mtime_ns,
                unit=unit,
                first=self.count,
                passages=len(rows),
            )
        )
        self.count += len(rows)
        for row in rows:
            self._keys += text_key(row[0])
            for column, value in zip(self._columns.values(), row, strict=True):
                column.append(value)
            if len(self._columns["text"]) == _BATCH:
                self._flush()

    def _flush(self) -> None:
        if self._columns["text"]:
            self._writer.write_batch(pa.record_batch(list(self._columns.values()), schema=SCHEMA))
        for column in self._columns.values():
            column.clear()

    def close(self) -> None:
        """Completes the file."""
        self._flush()
        self._writer.close()

    def keys(self) -> list[bytes]:
        """Returns the key of every passage's text."""
        flat = bytes(self._keys)
        return [flat[i : i + KEY_BYTES] for i in range(0, len(flat), KEY_BYTES)]

    def texts(self) -> Iterator[str]:
        """Yields the text of every passage, from the complete file."""
        with pa.memory_map(str(self.file)) as source:
            stored = pa.ipc.open_file(source)
            for number in range(stored.num_record_batches):
                yield from stored.get_batch(number).column("text").to_pylist()
