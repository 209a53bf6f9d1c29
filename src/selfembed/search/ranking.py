"""Rows with their scores, best first. Shapes: N rows of an index, K results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """The best rows of one side.

    Args:
        rows: numbers of passages, shape (K,), best first; equal scores in the order of the rows.
        scores: of the rows, shape (K,), float32.
    """

    rows: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls) -> Ranking:
        """No results."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def keep(self, wanted_K: np.ndarray) -> Ranking:
        """The results that a mask has."""
        return Ranking(self.rows[wanted_K], self.scores[wanted_K])

    def by_row(self) -> dict[int, float]:
        """Scores by rows, in order."""
        return dict(zip(self.rows.tolist(), self.scores.tolist(), strict=True))


def best_rows(score_N: np.ndarray, k: int, rows_N: np.ndarray | None = None) -> Ranking:
    """The k largest scores, with ties at the end of the list going to the lower rows.

    Args:
        score_N: of every row.
        k: results at most.
        rows_N: numbers of the rows; None counts from 0.
    """
    k = min(k, len(score_N))
    if k < 1:
        return Ranking.empty()
    rows_N = np.arange(len(score_N)) if rows_N is None else np.asarray(rows_N)
    least = np.partition(score_N, len(score_N) - k)[len(score_N) - k]
    places = np.flatnonzero(score_N >= least)
    order = places[np.lexsort((rows_N[places], -score_N[places]))][:k]
    return Ranking(rows_N[order].astype(np.int64), score_N[order].astype(np.float32))
