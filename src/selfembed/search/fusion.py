"""Fuses several rankings into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
