"""Fuses several rankings into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

RRF_K = 60
"""How much the first ranks stand out: the larger, the less. The value is the paper's."""


def reciprocal_rank_fusion(rankings: Iterable[Sequence[int]], *, k: int = RRF_K) -> list[tuple[int, float]]:
    """Fuses rankings: an item's score is the sum of `1 / (k + rank)` over the rankings that have it.

    Args:
        rankings: Items, best first; no item occurs twice in a ranking.
        k: The number added to every rank; ranks count from 1.

    Returns:
        Items with their scores, best first; of equal scores the lower item is first.

    References:
        Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
        methods", SIGIR 2009.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def fuse_scores(dense_QN: np.ndarray, lexical_QN: np.ndarray) -> np.ndarray:
    """Fuses the scores of every document for every query by reciprocal rank, as a search of an index does.

    Args:
        dense_QN: Similarities, Q queries by N documents.
        lexical_QN: Lexical scores of the same shape; a document of score 0 shares no word with the query, and is
            not in its lexical ranking.

    Returns:
        The fused scores, shape (Q, N).
    """
    fused_QN = np.zeros(dense_QN.shape)
    for fused_N, dense_N, lexical_N in zip(fused_QN, dense_QN, lexical_QN, strict=True):
        nearest = np.argsort(-dense_N, kind="stable")
        matching = [i for i in np.argsort(-lexical_N, kind="stable") if lexical_N[i] > 0]
        for i, score in reciprocal_rank_fusion([nearest.tolist(), matching]):
            fused_N[i] = score
    return fused_QN
