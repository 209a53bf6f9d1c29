"""Stores of vectors by the content of their texts, on disk or in the process.

Shapes: N texts, D dimensions.

A store on disk is a folder of safetensors files, each with the keys of some texts and their vectors. A file appears
under its name only when complete and is never changed, so several processes may read and add at the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from selfembed.ground.files import arriving_file

_KEY_BYTES = 16  # of a SHA-256: two of a billion texts coincide with a probability of 1e-21


def text_key(*parts: str) -> bytes:
    """Hashes a text and whatever else (prompt, route) goes into its vector to 16 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()[:_KEY_BYTES]


class Vectors(Protocol):
    """Vectors by key, to look up and to add to."""

    def __contains__(self, key: bytes) -> bool: ...

    def __len__(self) -> int: ...

    def add(self, keys: Sequence[bytes], vectors_ND: np.ndarray) -> None:
        """Adds vectors, one row a key."""

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """Gives `vectors_ND` in float32, one row a key; raises KeyError where a key is not there."""


class TemporaryStore:
    """Vectors by key that last as long as the process."""

    def __init__(self) -> None:
        self._vectors: dict[bytes, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._vectors)

    def __contains__(self, key: bytes) -> bool:
        return key in self._vectors

    def add(self, keys: Sequence[bytes], vectors_ND: np.ndarray) -> None:
        self._vectors.update(zip(keys, np.asarray(vectors_ND, dtype=np.float32), strict=True))

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """Gives `vectors_ND` in float32, one row a key; raises KeyError where a key is not there."""
        return np.stack([self._vectors[key] for key in keys]) if keys else np.empty((0, 0), dtype=np.float32)


class VectorStore:
    """Vectors by key that last on disk, in one folder."""

    def __init__(self, folder: Path) -> None:
        """Reads the keys of the store; files that cannot be read count as missing.

        Args:
            folder: Folder of the store; made when something is added.
        """
        self.folder = folder
        self._files: list[Path] = []
        self._place: dict[bytes, tuple[int, int]] = {}  # key -> file, row
        for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            try:
                with safe_open(file, framework="numpy") as tensors:
                    self._index(file, tensors.get_tensor("keys"))
            except (SafetensorError, OSError):
                continue  # damaged from outside: its texts are encoded again, and the file is then replaced

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def add(self, keys: Sequence[bytes], vectors_ND: np.ndarray) -> None:
        """Writes vectors into one new file.

        Args:
            keys: Keys, see :func:`text_key`.
            vectors_ND: Vectors, one row a key.

        Raises:
            InputError: The disk is full or not writable.
        """
        if not keys:
            return
        file = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.safetensors"
        keys_NK = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), _KEY_BYTES)
        with arriving_file(file) as staging:
            save_file({"keys": keys_NK, "vectors": np.ascontiguousarray(vectors_ND, dtype=np.float32)}, staging)
        self._index(file, keys_NK)

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """Gives `vectors_ND` in float32, one row a key; raises KeyError where a key is not in the store."""
        wanted: dict[int, list[tuple[int, int]]] = {}
        for position, key in enumerate(keys):
            number, row = self._place[key]
            wanted.setdefault(number, []).append((position, row))
        vectors_ND: np.ndarray | None = None
        for number, pairs in sorted(wanted.items()):
            with safe_open(self._files[number], framework="numpy") as tensors:
                stored_MD = tensors.get_tensor("vectors")
            if vectors_ND is None:
                vectors_ND = np.empty((len(keys), stored_MD.shape[1]), dtype=np.float32)
            positions, rows = (list(column) for column in zip(*pairs, strict=True))
            vectors_ND[positions] = stored_MD[rows]
        return np.empty((0, 0), dtype=np.float32) if vectors_ND is None else vectors_ND

    def _index(self, file: Path, keys_NK: np.ndarray) -> None:
        self._files.append(file)
        number = len(self._files) - 1
        self._place.update((key, (number, row)) for row, key in enumerate(_rows(keys_NK)))


def _rows(keys_NK: np.ndarray) -> Iterable[bytes]:
    flat = keys_NK.tobytes()
    return (flat[i : i + _KEY_BYTES] for i in range(0, len(flat), _KEY_BYTES))
