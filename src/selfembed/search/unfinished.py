"""Vectors that an index has encoded but not yet taken in, so that a stopped index goes on where it was.

Shapes: B texts, D dimensions, N texts so far.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from selfembed.errors import InputError
from selfembed.ground.files import write_json, writing
from selfembed.search.folder import KEY_BYTES

_ABOUT, _KEYS, _VECTORS, _LOCK = "unfinished.json", "keys", "vectors", "lock"


class Unfinished:
    """Two growing files beside an index, of keys and of float32 vectors; what only one of them has is dropped."""

    def __init__(self, index: Path, fingerprint: str) -> None:
        """Opens what an earlier run has left, if it was of the same embedder.

        Args:
            index: The folder of the index.
            fingerprint: The fingerprint of the embedder.

        Raises:
            InputError: Another process writes the same index, or the folder beside it holds something else.
        """
        self.folder = index.with_name(f".{index.name}.unfinished")
        with writing(self.folder):
            if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / _LOCK).is_file():
                raise InputError(f"{self.folder}: is not of an index, yet has its place; expected none; move it away")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / _LOCK).open("a")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"index {index}: another process is writing it; expected only one; wait until it is done"
                ) from None
            about = self.folder / _ABOUT
            known = json.loads(about.read_text()) if about.is_file() else {}
            if known.get("fingerprint") != fingerprint:
                for name in (_ABOUT, _KEYS, _VECTORS):
                    (self.folder / name).unlink(missing_ok=True)
                known = {"fingerprint": fingerprint}
            self._known = known
            self._keys = (self.folder / _KEYS).open("a+b")
            self._vectors = (self.folder / _VECTORS).open("a+b")
            self._trim()
            self._keys.seek(0)
            flat = self._keys.read()
        self._rows = {flat[i : i + KEY_BYTES]: i // KEY_BYTES for i in range(0, len(flat), KEY_BYTES)}

    @property
    def dimensions(self) -> int | None:
        """The width of the vectors; None while there is none."""
        return self._known.get("dimensions")

    def _trim(self) -> None:
        width = 4 * (self.dimensions or 0)
        sizes = [file.seek(0, 2) for file in (self._keys, self._vectors)]
        rows = min(sizes[0] // KEY_BYTES, sizes[1] // width) if width else 0
        self._keys.truncate(rows * KEY_BYTES)
        self._vectors.truncate(rows * width)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def add(self, keys: Sequence[bytes], vectors_BD: np.ndarray) -> None:
        """Adds texts that are not there yet; they are on disk when this returns.

        Raises:
            InputError: The disk is full or not writable.
        """
        with writing(self.folder):
            if self.dimensions is None:
                self._known["dimensions"] = vectors_BD.shape[1]
                write_json(self.folder / _ABOUT, self._known)
            # The vectors first: a key without its vector would be believed.
            for file, data in ((self._vectors, vectors_BD.astype("<f4").tobytes()), (self._keys, b"".join(keys))):
                file.write(data)
                file.flush()
        first = len(self._rows)
        self._rows.update((key, first + i) for i, key in enumerate(keys))

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """Returns the vectors of keys that are all there, shape (B, D)."""
        stored_ND = np.memmap(self.folder / _VECTORS, "<f4", "r").reshape(-1, self.dimensions or 1)
        return np.asarray(stored_ND[[self._rows[key] for key in keys]])

    def close(self, *, done: bool) -> None:
        """Closes the files; when all is done, nothing is left behind."""
        for file in (self._keys, self._vectors):
            file.close()
        if done or not self._rows:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
