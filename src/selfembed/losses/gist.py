"""GISTEmbed's loss of sentence-transformers, with a similarity of ours.

The loss computes cosines in the dtype of the embeddings, and 16 bits are too few to hold similarities to a margin.
Its constructor takes no similarity function, unlike those of its siblings, so ours is assigned to the attribute
afterwards. This is the only place where a loss of sentence-transformers is changed.

Shapes: N anchors, M candidates, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss
from torch import Tensor, nn


def gist_loss(
    model: SentenceTransformer,
    *,
    similarity: Callable[[Tensor, Tensor], Tensor],
    temperature: float,
    margin: float,
    mini_batch_size: int,
) -> CachedGISTEmbedLoss:
    """Makes GISTEmbed's loss (Solatorio 2024, arXiv 2402.16829), guided by the model itself.

    Args:
        model: The SentenceTransformer to train.
        similarity: Function that gives `similarity_NM` of anchors [N, D] and candidates [M, D].
        temperature: Temperature that the similarities are divided by.
        margin: Margin of false negatives: a candidate is left out where the guide finds it more similar to the query
            than the positive minus this margin.
        mini_batch_size: Texts per forward pass.
    """
    loss = CachedGISTEmbedLoss(
        model,
        guide=model,
        temperature=temperature,
        mini_batch_size=mini_batch_size,
        margin_strategy="absolute",
        margin=margin,
        contrast_anchors=False,
        contrast_positives=False,
    )
    loss.similarity_fct = _Pairwise(similarity)
    return loss


class _Pairwise(nn.Module):
    """A similarity of all pairs, in the form in which CachedGISTEmbedLoss asks for it."""

    def __init__(self, similarity: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, first_N1D: Tensor, second_1MD: Tensor) -> Tensor:
        return self.similarity(first_N1D.squeeze(1), second_1MD.squeeze(0))
