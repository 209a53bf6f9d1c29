"""A search without labels: a text's title or a sentence of it is to find the rest of it among other texts.

Shapes: Q queries, P passages, N texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from selfembed.data.pair_sources import draw_pairs
from selfembed.data.passages import PassageRow
from selfembed.errors import InputError

LEAST_PAIRS = 8
_SOURCES = {"title": 1.0, "sentence": 1.0}
_OTHERS = {"parts": 1.0}  # where there are neither titles nor sentences


@dataclass(frozen=True)
class SelfRetrieval:
    """Queries, each of which seeks the passage of the same index.

    Attributes:
        queries: titles and sentences.
        passages: the texts that they are of, without them.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """Queries, then passages: what an embedder has to read."""
        return [*self.queries, *self.passages]

    def ndcg_Q(self, vectors_ND: np.ndarray) -> np.ndarray:
        """nDCG@10 of every query from the embeddings of :attr:`texts`, float64.

        Of passages with equal cosines half are ranked before the one that is sought.
        """
        vectors_ND = np.asarray(vectors_ND, dtype=np.float64)
        vectors_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
        scores_QP = vectors_ND[: len(self.queries)] @ vectors_ND[len(self.queries) :].T
        own_Q1 = np.diag(scores_QP)[:, None]
        rank_Q = 1 + (scores_QP > own_Q1).sum(1) + ((scores_QP == own_Q1).sum(1) - 1) / 2
        return np.where(rank_Q <= 10, 1 / np.log2(rank_Q + 1), 0.0)

    def score(self, encode: Callable[[Sequence[str]], np.ndarray]) -> float:
        """Mean nDCG@10, from 0 to 1, of an embedder."""
        return float(self.ndcg_Q(encode(self.texts)).mean())


def self_retrieval(passages: Sequence[PassageRow], count: int, *, seed: int = 0) -> SelfRetrieval:
    """Makes such a search out of passages, one pair a document.

    Args:
        passages: those of one document one after the other; one of each document at most is used.
        count: pairs, at most.
        seed: of what is drawn.

    Raises:
        InputError: the passages give too few different pairs to tell anything.
    """
    pairs = draw_pairs(passages, min(4 * count, 2 * len(passages)), weights=_SOURCES, seed=seed)
    if len({pair.document for pair in pairs}) < LEAST_PAIRS:
        pairs = draw_pairs(passages, min(4 * count, 2 * len(passages)), weights=_OTHERS, seed=seed)
    found: dict[int, tuple[str, str]] = {}
    queries: set[str] = set()
    texts: set[str] = set()
    for pair in pairs:
        query, text = pair.query.casefold(), pair.passage.casefold()
        if len(found) < count and pair.document not in found and query not in queries and text not in texts:
            found[pair.document] = (pair.query, pair.passage)
            queries.add(query)
            texts.add(text)
    if len(found) < LEAST_PAIRS:
        raise InputError(
            f"corpus: {len(found)} texts have a title or a sentence that can search for the rest of them; expected at "
            f"least {LEAST_PAIRS}; give more or longer texts"
        )
    return SelfRetrieval(*(tuple(side) for side in zip(*found.values(), strict=True)))
