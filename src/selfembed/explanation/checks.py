"""What the explanations refuse to work on.

Shapes: N texts, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from selfembed.errors import InputError
from selfembed.ground.page import shorten


def require_texts(texts: Sequence[str], *, least: int = 1) -> list[str]:
    """Returns the texts as a list, once each is known to be a text with a word.

    Args:
        texts: The texts.
        least: The smallest number of texts allowed.


    Raises:
        InputError: There is one string instead of several, fewer than `least`, or one without a word.
    """
    if isinstance(texts, str):
        raise InputError("texts: one string; expected a list of them; put it in brackets")
    texts = list(texts)
    if len(texts) < least:
        raise InputError(f"texts: {len(texts)} given; expected at least {least}; give more")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"text {i + 1}: of type {type(text).__name__}; expected a string; convert it or leave it out"
            )
        if not text.strip():
            raise InputError(f"text {i + 1}: empty; expected at least one word; leave it out")
    return texts


def require_decodable(embedding_ND: Tensor, head: nn.Module, k: int, texts: Sequence[str]) -> None:
    """Refuses embeddings that a decoder layer cannot read.

    Raises:
        InputError: There is no decoder layer, its (V, D) weight does not fit, `k` is not between 1 and V, an
            embedding, whose text is named, is zero or not finite, or all are of length 1.
    """
    weight_VD = getattr(head, "weight", None)
    if weight_VD is None or weight_VD.ndim != 2:
        given = "none" if head is None else f"a {type(head).__name__} without a (vocabulary, width) weight"
        raise InputError(f"head: {given}; expected the backbone's decoder layer; take load_backbone(...).head()")
    if weight_VD.shape[1] != embedding_ND.shape[1]:
        raise InputError(
            f"head: reads vectors of width {weight_VD.shape[1]}, the embeddings have {embedding_ND.shape[1]}; "
            "expected the decoder layer of the backbone that the embedder was made from; name that backbone (`model`)"
        )
    if not 1 <= k <= len(weight_VD):
        raise InputError(f"k {k}: expected 1 to {len(weight_VD)}, the size of the vocabulary; take another number")
    if of_unit_length(require_vectors(embedding_ND.float().cpu(), "the", texts=texts)):
        raise InputError(
            "embeddings: of length 1; expected them as the model gives them, for the decoder layer knows no others; "
            "leave normalisation off"
        )


def of_unit_length(embedding_ND: np.ndarray) -> bool:
    """Tells whether embeddings are normalised."""
    return bool(np.allclose(np.linalg.norm(embedding_ND, axis=1), 1, atol=1e-3))


def require_vectors(embedding_ND: Any, name: str, *, least: int = 1, texts: Sequence[str] = ()) -> np.ndarray:
    """Returns embeddings as a float64 matrix, shape (N, D), once each is known to have a direction.

    Args:
        embedding_ND: The embeddings, anything like an array.
        name: The name of the embeddings, for errors.
        least: The smallest number of rows allowed.
        texts: The texts that were embedded, for errors.

    Raises:
        InputError: The embeddings are not a matrix of numbers, there are fewer than `least`, or one is zero or not
            finite.
    """
    try:
        matrix_ND: np.ndarray = np.asarray(embedding_ND, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} embeddings: not a matrix of numbers; expected a numpy array (texts, width); convert them"
        ) from error
    if matrix_ND.ndim != 2 or matrix_ND.shape[1] < 1:
        raise InputError(f"{name} embeddings: of shape {matrix_ND.shape}; expected (texts, width); reshape them")
    if len(matrix_ND) < least:
        raise InputError(f"{name} embeddings: of {len(matrix_ND)} texts; expected at least {least}; give more texts")
    length_N = np.linalg.norm(matrix_ND, axis=1)
    for what, wrong_N in (("not finite", ~np.isfinite(length_N)), ("zero", length_N == 0)):
        if wrong_N.any():
            row = int(wrong_N.argmax())
            first = f"of {shorten(texts[row], 60)!r}" if texts else f"in row {row}"
            raise InputError(
                f"{name} embeddings: {int(wrong_N.sum())} of {len(wrong_N)} {what}, the first {first}; expected "
                "finite vectors with a direction; examine that text and the model"
            )
    return matrix_ND
