"""Embeddings of a batch whose gradients go back into the model one mini-batch at a time.

Gradient caching (Gao et al. 2021, arXiv 2101.06983): a batch is embedded without keeping activations, the loss of the
embeddings gives their gradients, and each mini-batch is embedded once more to take its own back.

Shapes: B batch, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from sentence_transformers.base.losses.gradcache import RandContext
from torch import Tensor, nn

Features = dict[str, Tensor]
_PIECE = 8  # texts
Key = TypeVar("Key", bound=Hashable)


class GradientCache(Generic[Key]):
    """Embeds columns in mini-batches, and again with the same dropout when their gradients are known.

    Args:
        embed: Function that gives `embedding_BD` of features.
        features: Features of a whole batch by column.
        spans: The mini-batches.

    Attributes:
        embeddings: Leaves that collect gradients, `embedding_BD` of each column.
    """

    def __init__(
        self, embed: Callable[[Features], Tensor], features: Mapping[Key, Features], spans: Sequence[slice]
    ) -> None:
        self.embed = embed
        self.features = features
        self.spans = spans
        self.embeddings: dict[Key, Tensor] = {}
        self.states: dict[tuple[Key, int], RandContext] = {}
        with torch.no_grad():
            for key, column in features.items():
                parts = []
                for span in spans:
                    part = mini_batch(column, span)
                    self.states[key, span.start] = RandContext(*part.values())
                    parts.append(embed(part))
                self.embeddings[key] = torch.cat(parts).requires_grad_()

    def backward(self, upstream: Tensor) -> None:
        """Takes the gradients of the embeddings, times `upstream`, back into the model."""
        with torch.enable_grad():
            for key, leaf_BD in self.embeddings.items():
                assert leaf_BD.grad is not None, "the loss reads every column"
                for span in self.spans:
                    with self.states[key, span.start]:
                        embedding_BD = self.embed(mini_batch(self.features[key], span))
                    embedding_BD.backward(leaf_BD.grad[span] * upstream)


def mini_batches(size: int, step: int) -> list[slice]:
    """Cuts a batch into mini-batches of at most `step` texts."""
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def embed_by_length(model: nn.Module, features: Features) -> Tensor:
    """Embeds a batch in pieces of texts of about the same length, which need less padding than all of them.

    Args:
        model: A SentenceTransformer.
        features: Of the batch, padded on the right.

    Returns:
        `embedding_BD`, in the order of the batch.
    """
    length_B = features["attention_mask"].sum(1)
    rows = _PIECE if length_B.device.type == "cpu" else len(length_B)  # a GPU wants much to do at once
    order_B = length_B.argsort(descending=True, stable=True)
    pieces = [model(mini_batch(features, piece))["sentence_embedding"] for piece in order_B.split(rows)]
    embedding_BD: Tensor = torch.cat(pieces)[order_B.argsort()]
    return embedding_BD


def mini_batch(features: Features, span: slice | Tensor) -> Features:
    """Takes some of the texts of a batch, without the padding that they do not need, on either side."""
    first, last = features["attention_mask"][span].any(0).nonzero().flatten()[[0, -1]].tolist()
    columns = slice(first, last + 1)
    return {
        name: value[span][:, columns] if isinstance(value, Tensor) and value.ndim == 2 else value
        for name, value in features.items()
    }
