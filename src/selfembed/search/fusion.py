"""Fuses what several sides say of the same passages into one score: by their scores, or by their ranks alone.

Shapes: C candidates, Q queries, N documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from selfembed.ground.options import require_choice

Fusion = Literal["scores", "ranks"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)

RRF_K = 60
"""How much the first ranks stand out: the larger, the less. The value is the paper's."""

WEIGHTS = {"dense": 0.6, "lexical": 0.4, "sparse": 0.4}
"""How much each side's scores count; between 0.5 and 0.7 for the dense side makes little difference (docs/log.md)."""

DEPTH = 100
"""The number of candidates that each side puts forward, at least."""


def fuse_standard_scores(sides: Mapping[str, np.ndarray]) -> np.ndarray:
    """Fuses the scores that each side gives to the same candidates, as a weighted sum of standard scores.

    A side's scores lose their mean over the candidates and are divided by their standard deviation, so that neither
    the spread of an embedder's cosines nor the length of a query counts. A side that says the same of all counts
    nothing.

    Args:
        sides: The scores of each side by its name, one of :data:`WEIGHTS`, each of shape (C,).

    Returns:
        The fused scores, shape (C,), float64.

    References:
        Bruch, Gai and Ingber, "An analysis of fusion functions for hybrid retrieval", arXiv 2210.11934, who find sums
        of normalised scores better than reciprocal ranks; their z-score, here over the candidates.
    """
    fused_C = np.zeros(len(next(iter(sides.values()))))
    for name, score_C in sides.items():
        score_C = np.asarray(score_C, np.float64)
        if len(score_C) and score_C.std() > 0:
            fused_C += WEIGHTS[name] * (score_C - score_C.mean()) / score_C.std()
    return fused_C


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


def fuse_scores(dense_QN: np.ndarray, lexical_QN: np.ndarray, *, fusion: Fusion = "scores") -> np.ndarray:
    """Fuses the scores of every document for every query as a search of an index does.

    Args:
        dense_QN: Similarities, Q queries by N documents.
        lexical_QN: Lexical scores of the same shape; a document of score 0 shares no word with the query, and the
            lexical side does not put it forward.
        fusion: `"scores"` fuses standard scores, `"ranks"` by reciprocal rank.

    Returns:
        The fused scores, shape (Q, N), -inf for documents that neither side puts forward.

    Raises:
        InputError: `fusion` is unknown.
    """
    require_choice("fusion", fusion, FUSIONS)
    fused_QN = np.full(dense_QN.shape, -np.inf)
    for fused_N, dense_N, lexical_N in zip(fused_QN, dense_QN, lexical_QN, strict=True):
        nearest = np.argsort(-dense_N, kind="stable")
        matching = np.argsort(-lexical_N, kind="stable")
        matching = matching[lexical_N[matching] > 0]
        if fusion == "scores":
            rows_C = np.union1d(nearest[:DEPTH], matching[:DEPTH])
            fused_N[rows_C] = fuse_standard_scores({"dense": dense_N[rows_C], "lexical": lexical_N[rows_C]})
            continue
        for i, score in reciprocal_rank_fusion([nearest.tolist(), matching.tolist()]):
            fused_N[i] = score
    return fused_QN
