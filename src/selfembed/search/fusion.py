"""One ranking out of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RRF_K = 60
"""How much the first ranks stand out; the paper's value."""


def reciprocal_rank_fusion(rankings: Iterable[Sequence[int]], *, k: int = RRF_K) -> list[tuple[int, float]]:
    """Fuses rankings: an item's score is the sum of ``1 / (k + rank)`` over the rankings that have it.

    Cormack, Clarke and Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods" (SIGIR), with ranks from 1.

    Args:
        rankings: items, best first; an item occurs once in a ranking at most.
        k: added to every rank.

    Returns:
        Items with their scores, best first; equal scores in the order of the items.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
