"""The sparse view: an embedding's top tokens through the decoder layer, as a sparse vector over the vocabulary.

Shapes: B embeddings, N passages, D hidden, V vocabulary, K tokens kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from selfembed.errors import InputError

SPARSE_TOKENS = 64
"""The number of tokens that are kept of a vector, unless another is asked for."""

_IDS, _WEIGHTS = "tokens.npy", "token_weights.npy"
_CHUNK = 64  # embeddings whose logits over the whole vocabulary are held at a time


@dataclass(frozen=True)
class SparseRows:
    """Sparse vectors over a vocabulary, each with the same number of tokens.

    Attributes:
        ids_BK: The token ids, int32, largest weight first.
        weights_BK: The weights of the tokens, float32, not negative; 0 where fewer tokens have any.
        vocabulary: The size of the vocabulary, V.
    """

    ids_BK: np.ndarray
    weights_BK: np.ndarray
    vocabulary: int

    def __len__(self) -> int:
        return len(self.ids_BK)

    def tensor(self) -> Tensor:
        """Returns one sparse COO tensor, shape (B, V), as sentence-transformers' SparseEncoder does."""
        rows, columns = np.nonzero(self.weights_BK)
        places = torch.from_numpy(np.stack([rows, self.ids_BK[rows, columns]]).astype(np.int64))
        values = torch.from_numpy(self.weights_BK[rows, columns])
        return torch.sparse_coo_tensor(places, values, (len(self), self.vocabulary), check_invariants=True).coalesce()


def sparse_rows(embedding_BD: Tensor | np.ndarray, head: nn.Module, *, k: int = SPARSE_TOKENS) -> SparseRows:
    """Reads embeddings as sparse vectors: each one's k largest logits, less the next one's, log-saturated.

    With the logits `z = W_lm e` in falling order, token i weighs `log(1 + max(z_i - z_{k+1}, 0))`. This is SPLADE's
    saturation with its zero moved to the first token that is left out, because a language model's logits, unlike
    SPLADE's, say the same when all of them rise by one number.

    Args:
        embedding_BD: The embeddings as the model gives them, not normalised.
        head: The decoder layer, from (B, D) to logits (B, V).
        k: The number of tokens kept, fewer than V.

    Returns:
        The k tokens of each embedding with their weights.

    Raises:
        InputError: `k` is outside 1 to V - 1, or the decoder layer does not read embeddings of this width.

    References:
        Formal et al., SPLADE, arXiv 2107.05720, equation 1, for the saturation.
    """
    embedding_BD = torch.as_tensor(embedding_BD)
    weight_VD = getattr(head, "weight", None)
    if weight_VD is None or weight_VD.ndim != 2 or weight_VD.shape[1] != embedding_BD.shape[1]:
        reads = "nothing" if weight_VD is None else f"vectors of width {weight_VD.shape[-1]}"
        raise InputError(
            f"head: reads {reads}, the embeddings have width {embedding_BD.shape[1]}; expected the decoder layer of "
            "the backbone that the embedder was made from; name that backbone (`model`)"
        )
    if not 1 <= k < len(weight_VD):
        raise InputError(
            f"sparse {k}: expected 1 to {len(weight_VD) - 1} tokens, fewer than the vocabulary has; take fewer"
        )
    ids, weights = [], []
    with torch.no_grad():
        for chunk_CD in embedding_BD.to(weight_VD.device, weight_VD.dtype).split(_CHUNK):
            top_CK, ids_CK = head(chunk_CD).float().topk(k + 1)
            ids.append(ids_CK[:, :k].int().cpu())
            weights.append((top_CK[:, :k] - top_CK[:, k:]).clamp(min=0).log1p().cpu())
    return SparseRows(torch.cat(ids).numpy(), torch.cat(weights).numpy(), len(weight_VD))


class SparseIndex:
    """Sparse vectors of passages on disk."""

    def __init__(self, folder: Path) -> None:
        """Opens what :meth:`write` has left."""
        self.ids_NK = np.load(folder / _IDS, mmap_mode="r")
        self.weights_NK = np.load(folder / _WEIGHTS, mmap_mode="r")

    @staticmethod
    def write(folder: Path, ids_NK: np.ndarray, weights_NK: np.ndarray) -> None:
        """Writes the vectors of all passages."""
        np.save(folder / _IDS, ids_NK.astype(np.int32))
        np.save(folder / _WEIGHTS, weights_NK.astype(np.float32))

    @cached_property
    def _matrix(self) -> csr_array:
        count, k = self.ids_NK.shape
        starts = np.arange(count + 1, dtype=np.int64) * k
        width = int(self.ids_NK.max()) + 1
        return csr_array((self.weights_NK.reshape(-1), self.ids_NK.reshape(-1), starts), shape=(count, width))

    def scores(self, query: SparseRows) -> np.ndarray:
        """Scores every passage by its inner product with the first row of `query`, shape (N,)."""
        weight_V = np.zeros(max(self._matrix.shape[1], query.vocabulary), np.float32)
        weight_V[query.ids_BK[0]] = query.weights_BK[0]
        score_N: np.ndarray = self._matrix @ weight_V[: self._matrix.shape[1]]
        return score_N
