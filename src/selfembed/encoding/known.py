"""Known vectors that stand in for an embedder.

Shapes: N texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from sentence_transformers.util import cos_sim, pairwise_cos_sim
from torch import Tensor, nn


class KnownVectors(nn.Module):
    """Stands in for an embedder, for texts whose vectors are known.

    Queries and documents are texts alike, and similarity is the cosine.

    Attributes:
        vectors_ND: Vectors of the texts, float32.
    """

    def __init__(self, texts: Sequence[str], vectors_ND: np.ndarray | Tensor, *, device: Any = "cpu") -> None:
        """Keeps vectors.

        Args:
            texts: N texts, all different.
            vectors_ND: Vectors, one row a text.
            device: Device that the vectors are kept on.
        """
        super().__init__()
        self.row_of = {text: row for row, text in enumerate(texts)}
        self.vectors_ND = torch.as_tensor(vectors_ND, dtype=torch.float32).to(device)
        assert len(self.row_of) == len(self.vectors_ND), "one vector for each text"

    @overload
    def encode(self, texts: Sequence[str], *, convert_to_tensor: Literal[True], **unused: Any) -> Tensor: ...

    @overload
    def encode(
        self, texts: Sequence[str], *, convert_to_tensor: Literal[False] = False, **unused: Any
    ) -> np.ndarray: ...

    def encode(self, texts: Sequence[str], *, convert_to_tensor: bool = False, **unused: Any) -> np.ndarray | Tensor:
        """Gives the vectors of texts as `SentenceTransformer.encode` does.

        Raises:
            KeyError: The vector of a text is not known.
        """
        vectors_ND = self.vectors_ND[[self.row_of[text] for text in texts]]
        return vectors_ND if convert_to_tensor else vectors_ND.cpu().numpy()

    encode_query = encode_document = encode

    @property
    def device(self) -> torch.device:
        """Names the device that the vectors are kept on."""
        return self.vectors_ND.device

    def similarity(self, first_ND: Any, second_MD: Any) -> Tensor:
        """Computes `cosine_NM`."""
        cosine_NM: Tensor = cos_sim(first_ND, second_MD)
        return cosine_NM

    def similarity_pairwise(self, first_ND: Any, second_ND: Any) -> Tensor:
        """Computes `cosine_N`."""
        cosine_N: Tensor = pairwise_cos_sim(first_ND, second_ND)
        return cosine_N
