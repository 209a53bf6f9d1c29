"""What the explanations refuse to work on.

Shapes: N texts, D hidden, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from selfembed.errors import InputError


def require_texts(texts: Sequence[str], *, least: int = 1) -> list[str]:
    """The texts as a list.

    Raises:
        InputError: one string instead of several, fewer than ``least``, or one without a word.
    """
    if isinstance(texts, str):
        raise InputError("texts: one string; expected a list of them; put it in brackets")
    texts = list(texts)
    if len(texts) < least:
        raise InputError(f"texts: {len(texts)} given; expected at least {least}")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i + 1}: of type {type(text).__name__}; expected a string")
        if not text.strip():
            raise InputError(f"text {i + 1}: empty; expected at least one word; leave it out")
    return texts


def require_k(k: int, head: nn.Module) -> None:
    """Refuses a number of tokens that is not between 1 and the head's vocabulary, with an InputError."""
    if not 1 <= k <= len(head.weight):
        raise InputError(f"k {k}: expected 1 to {len(head.weight)}, the size of the vocabulary")


def require_head(head: nn.Module, width: int | None) -> None:
    """Refuses what is no decoder layer, or one whose (V, D) weight does not fit ``width``, with an InputError."""
    weight_VD = getattr(head, "weight", None)
    if weight_VD is None or weight_VD.ndim != 2:
        given = "none" if head is None else f"a {type(head).__name__} without a (vocabulary, width) weight"
        raise InputError(f"head: {given}; expected the backbone's decoder layer; take load_backbone(...).head()")
    if width is not None and weight_VD.shape[1] != width:
        raise InputError(
            f"head: reads vectors of width {weight_VD.shape[1]}, the embeddings have {width}; expected the decoder "
            "layer of the backbone that the embedder was made from"
        )


def require_vectors(embedding_ND: Any, name: str, *, least: int = 1) -> np.ndarray:
    """Embeddings as a float64 matrix, shape (N, D).

    Raises:
        InputError: not a matrix of numbers, fewer than ``least`` rows, a row not finite or of length zero.
    """
    try:
        embedding_ND = np.asarray(embedding_ND, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} embeddings: not a matrix of numbers; expected a numpy array (texts, width)"
        ) from error
    if embedding_ND.ndim != 2 or embedding_ND.shape[1] < 1:
        raise InputError(f"{name} embeddings: of shape {embedding_ND.shape}; expected (texts, width)")
    if len(embedding_ND) < least:
        raise InputError(
            f"{name} embeddings: of {len(embedding_ND)} texts; expected at least {least}; give more texts"
        )
    length_N = np.linalg.norm(embedding_ND, axis=1)
    for what, wrong_N in (("not finite", ~np.isfinite(length_N)), ("zero", length_N == 0)):
        if wrong_N.any():
            raise InputError(
                f"{name} embeddings: {int(wrong_N.sum())} of {len(wrong_N)} {what}, the first in row "
                f"{int(wrong_N.argmax())}; expected finite vectors with a direction; examine that text and the model"
            )
    return embedding_ND


def require_number(value: float, what: str) -> None:
    """Refuses a value that is not finite, with an InputError."""
    if not math.isfinite(value):
        raise InputError(f"{what}: not finite; expected finite embeddings; load the embedder in float32")
