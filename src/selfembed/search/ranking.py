"""Rows with their scores, best first.

Shapes: N rows of an index, K results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """The best rows of one side.

    Attributes:
        rows: The numbers of the passages, shape (K,), best first; of equal scores the lower row is first.
        scores: The scores of the rows, shape (K,), float32.
    """

    rows: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls) -> Ranking:
        """Makes a ranking without results."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def keep(self, wanted_K: np.ndarray) -> Ranking:
        """Returns the results where the mask is true."""
        return Ranking(self.rows[wanted_K], self.scores[wanted_K])

    def by_row(self) -> dict[int, float]:
        """Returns the scores by row, in the ranking's order."""
        return dict(zip(self.rows.tolist(), self.scores.tolist(), strict=True))


def best_rows(score_N: np.ndarray, k: int, rows_N: np.ndarray | None = None) -> Ranking:
    """Ranks the k largest scores; of equal scores the lower rows come first.

    Args:
        score_N: The score of every row.
        k: The largest number of results.
        rows_N: The numbers of the rows; None counts from 0.
    """
    k = min(k, len(score_N))
    if k < 1:
        return Ranking.empty()
    rows_N = np.arange(len(score_N)) if rows_N is None else np.asarray(rows_N)
    least = np.partition(score_N, len(score_N) - k)[len(score_N) - k]
    places = np.flatnonzero(score_N >= least)
    order = places[np.lexsort((rows_N[places], -score_N[places]))][:k]
    return Ranking(rows_N[order].astype(np.int64), score_N[order].astype(np.float32))
