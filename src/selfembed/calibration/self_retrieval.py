"""A search without labels: a title or a sentence of a text shall find the rest of it among other texts.

Shapes: Q queries, P passages, N texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfembed.data.pair_sources import Pair, draw_pairs
from selfembed.data.passages import PassageRow
from selfembed.errors import InputError

LEAST_PAIRS = 8
PASSAGES_PER_PAIR = 6  # looked at, as many give none or are of one document
_SOURCES = {"title": 1.0, "sentence": 1.0}
_OTHERS = {"parts": 1.0}  # where there are neither titles nor sentences


@dataclass(frozen=True)
class SelfRetrieval:
    """Queries, each of which seeks the passage of the same index.

    Attributes:
        queries: Titles and sentences.
        passages: The texts that the queries were taken from, without them.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """Queries, then passages: what an embedder has to read."""
        return [*self.queries, *self.passages]

    def ndcg_Q(self, vectors_ND: np.ndarray) -> np.ndarray:
        """Computes nDCG@10 of every query from the embeddings of :attr:`texts`, float64.

        Half of the passages with equal cosines are ranked before the one that is sought.
        """
        vectors_ND = np.asarray(vectors_ND, dtype=np.float64)
        vectors_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
        scores_QP = vectors_ND[: len(self.queries)] @ vectors_ND[len(self.queries) :].T
        own_Q1 = np.diag(scores_QP)[:, None]
        rank_Q = 1 + (scores_QP > own_Q1).sum(1) + ((scores_QP == own_Q1).sum(1) - 1) / 2
        return np.where(rank_Q <= 10, 1 / np.log2(rank_Q + 1), 0.0)


def self_retrieval(passages: Sequence[PassageRow], count: int, *, seed: int = 0) -> SelfRetrieval:
    """Makes a self-retrieval out of passages: one pair a document, or one a passage where documents are too few.

    Args:
        passages: The passages of a corpus, those of one document one after the other.
        count: Number of pairs, at most.
        seed: Seed for all that is drawn.

    Raises:
        InputError: The passages give fewer than 8 different pairs.
    """
    pairs = draw_pairs(passages, min(4 * count, 2 * len(passages)), weights=_SOURCES, seed=seed)
    if len({pair.index for pair in pairs}) < LEAST_PAIRS:
        pairs = draw_pairs(passages, min(4 * count, 2 * len(passages)), weights=_OTHERS, seed=seed)
    found: list[Pair] = []
    seen: set[str | int] = set()
    for unit in ("document", "index"):  # of one document several pairs only where there are too few documents
        for pair in pairs:
            marks = {getattr(pair, unit), pair.query.casefold(), pair.passage.casefold()}
            if len(found) < count and pair not in found and not marks & seen:
                found.append(pair)
                seen |= {pair.query.casefold(), pair.passage.casefold()}
                seen.add(getattr(pair, unit))
        seen = {mark for mark in seen if isinstance(mark, str)} | {pair.index for pair in found}
    if len(found) < LEAST_PAIRS:
        raise InputError(
            f"corpus: {len(found)} texts have a title or a sentence that can search for the rest of them; expected at "
            f"least {LEAST_PAIRS}; give more or longer texts"
        )
    return SelfRetrieval(tuple(pair.query for pair in found), tuple(pair.passage for pair in found))
