"""An embedder's folder: what selfembed leaves in it, and how it is opened."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer

from selfembed.errors import InputError
from selfembed.model.embedder import load_embedder

RECORD = "selfembed.json"
"""The record of the run that made the embedder."""


def open_embedder(
    embedder: str | Path, *, device: str | None = None, trust_remote_code: bool = False
) -> SentenceTransformer:
    """Loads a folder or hub id, and says in one line why that is not possible.

    Args:
        embedder: a folder that selfembed or sentence-transformers has saved, or a hub id.
        device: as SentenceTransformer takes it; None lets it choose.
        trust_remote_code: let the embedder's own Python code run.

    Raises:
        InputError: there is no embedder, or it cannot be loaded.
    """
    require_embedder(embedder)
    try:
        return load_embedder(embedder, device=device, trust_remote_code=trust_remote_code)
    except Exception as error:  # the hub's, a damaged file's and a missing device's errors have no common class
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        what = "cannot be loaded" if Path(embedder).is_dir() else "no such folder, and the hub did not give it"
        wanted = "a folder or hub id of sentence-transformers" + (f", and a device {device!r}" if device else "")
        raise InputError(f"embedder {embedder}: {what} ({reason}); expected {wanted}") from error


def require_embedder(embedder: str | Path) -> None:
    """Refuses a folder that is no embedder, without loading anything.

    Raises:
        InputError: it has no ``modules.json``.
    """
    folder = Path(embedder)
    if folder.is_dir() and not (folder / "modules.json").is_file():
        raise InputError(
            f"{folder}: has no modules.json, so it is no embedder; expected a folder that selfembed train or "
            "sentence-transformers has saved"
        )
