"""What turns texts into vectors for an index, and how an index recognises it.

Shapes: B texts, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from selfembed.errors import InputError
from selfembed.ground.hashing import files_hash
from selfembed.ground.page import shorten

Encode = Callable[[Sequence[str]], np.ndarray]
"""Encodes texts: returns their vectors as the model gives them, float32, shape (B, D)."""

# What lies in an embedder's folder and says nothing of its vectors.
_BESIDE = (".md", ".html", ".partial")
_RECORD = "selfembed.json"


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns texts into vectors, under a fingerprint that an index checks.

    Args:
        name: The name of the embedder: its folder.
        fingerprint: A hash of everything its vectors depend on; an index refuses any other.
        passages: Encodes passages.
        queries: Encodes questions.
        head: Loads the decoder layer for the sparse view; None where there is none.
    """

    name: str
    fingerprint: str
    passages: Encode
    queries: Encode
    head: Callable[[], nn.Module] | None = None


def folder_fingerprint(folder: str | Path) -> str:
    """Hashes the files of an embedder's folder to 64 hex digits of SHA-256; reports, cards and records do not count.

    Raises:
        InputError: There is no such folder, or no embedder in it.
    """
    folder = Path(folder)
    if not (folder / "modules.json").is_file():
        raise InputError(
            f"embedder {folder}: has no modules.json; expected a folder that selfembed train or sentence-transformers "
            "has made; correct the path"
        )
    files = [
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.suffix not in _BESIDE
        and file.name != _RECORD
    ]
    return files_hash(files)


def load_encoder(
    folder: str | Path, *, batch_size: int = 32, device: str | None = None, loaded: Any = None, model: Any = None
) -> Encoder:
    """Prepares the encoder of an embedder's folder; the model itself is loaded when the first text is encoded.

    Args:
        folder: The folder of the embedder.
        batch_size: The largest number of texts in one forward pass; long texts come in smaller batches.
        device: The device, as `SentenceTransformer` takes it; None lets it choose.
        loaded: The embedder itself, where it is loaded already.
        model: The backbone, for the sparse view; None takes the one that the folder's record names.

    Returns:
        The encoder, under the folder's absolute path and its fingerprint.

    Raises:
        InputError: There is no such folder, or no embedder in it.
    """
    folder = Path(folder)
    models = [loaded] if loaded is not None else []

    def embedder() -> Any:
        if not models:
            from selfembed.model.embedder import load_embedder

            models.append(load_embedder(folder, device=device))
        return models[0]

    def encoded(role: Literal["query", "document"]) -> Encode:
        def vectors(texts: Sequence[str]) -> np.ndarray:
            from selfembed.encoding.encode import encode
            from selfembed.encoding.token_budget import budget_on

            model = embedder()
            return encode(model, texts, role=role, budget=budget_on(model.device, batch_size=batch_size))

        return vectors

    def head() -> nn.Module:
        _require_final_states(folder)
        from selfembed.model.backbone import load_backbone

        return load_backbone(model if model is not None else _recorded_model(folder)).head()

    return Encoder(
        name=str(folder.absolute()),
        fingerprint=folder_fingerprint(folder),
        passages=encoded("document"),
        queries=encoded("query"),
        head=head,
    )


def _require_final_states(folder: Path) -> None:
    """Refuses an embedder whose vectors a decoder layer cannot read.

    Raises:
        InputError: A map stands behind its pooling, or word embeddings are part of its vectors.
    """
    types = [module["type"].rpartition(".")[2] for module in json.loads((folder / "modules.json").read_text())]
    if found := [name for name in types if name in ("Dense", "WeightedLayerPooling")]:
        raise InputError(
            f"embedder {folder}: its {found[0]} makes vectors that are no final hidden states, which a decoder "
            "layer cannot read; expected an embedder without one for the sparse view; leave out `sparse`, or train by "
            "text2token"
        )


def _recorded_model(folder: Path) -> str:
    record = folder / _RECORD
    if not record.is_file():
        raise InputError(
            f"embedder {folder}: no {_RECORD} in it, so its backbone is not known; expected one for the sparse view; "
            "name it (`model`)"
        )
    return str(json.loads(record.read_text())["model"])


def checked(vectors: Any, texts: Sequence[str], dimensions: int | None) -> np.ndarray:
    """Returns vectors in float32, once each is known to be one.

    Args:
        vectors: The vectors that an encoder gave for the texts.
        texts: The texts that were encoded.
        dimensions: The expected width; None accepts any.

    Raises:
        InputError: The vectors have another shape, or one of them is zero or not finite.
    """
    vectors_BD = np.asarray(vectors, dtype=np.float32)
    expected = (len(texts), dimensions or (vectors_BD.shape[-1] if vectors_BD.ndim == 2 else "width"))
    if vectors_BD.shape != expected:
        raise InputError(
            f"vectors: of shape {vectors_BD.shape}; expected {expected}, one row a text; give another encoder"
        )
    wrong_B = ~np.isfinite(vectors_BD).all(-1) | (vectors_BD == 0).all(-1)
    if wrong_B.any():
        row = int(wrong_B.argmax())
        kind = "zero" if np.isfinite(vectors_BD[row]).all() else "not finite"
        raise InputError(
            f"vectors: that of {shorten(texts[row], 60)!r} is {kind}; expected finite numbers, not all 0; encode in "
            "float32, and if it stays so, the training diverged"
        )
    return vectors_BD
