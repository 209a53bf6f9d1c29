"""Texts, and an encoder that needs no model: every text has a random vector of its own, always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfembed.search.encoder import Encoder
from selfembed.search.folder import MANIFEST, Manifest

WIDTH = 32


def vector(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


class HashEncoder:
    """Counts what it encodes; a question in angle brackets means the passage inside them."""

    def __init__(self, *, fails_after: int | None = None) -> None:
        self.encoded: list[str] = []
        self.fails_after = fails_after

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        if self.fails_after is not None and len(self.encoded) >= self.fails_after:
            raise KeyboardInterrupt
        self.encoded += texts
        return np.stack([vector(text) for text in texts])

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        noise = [0.3 * vector(f"noise of {text}") for text in texts]
        return np.stack([vector(text.strip("<>")) + other for text, other in zip(texts, noise, strict=True)])

    def encoder(self, **changes: Any) -> Encoder:
        given = {"name": "hash", "fingerprint": "of hash", "passages": self.passages, "queries": self.queries}
        return Encoder(**{**given, **changes})


def hash_encoder(**changes: Any) -> Encoder:
    return HashEncoder().encoder(**changes)


def data_files(index: Path) -> dict[str, bytes]:
    """The data of an index: name -> content."""
    data = index / Manifest.read(index).data
    return {file.relative_to(data).as_posix(): file.read_bytes() for file in data.rglob("*") if file.is_file()}


def left_in(folder: Path) -> list[str]:
    """All names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


__all__ = ["MANIFEST", "WIDTH", "HashEncoder", "data_files", "hash_encoder", "left_in", "vector"]
