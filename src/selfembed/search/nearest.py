"""Approximate search beyond a million passages: faiss's graph of neighbours, an extra.

Shapes: N passages, D dimensions, K results.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from selfembed.errors import InputError
from selfembed.search.dense import blocks, unit
from selfembed.search.ranking import Ranking

_FILE = "nearest.faiss"
_NEIGHBOURS, _BUILD_WIDTH, _LEAST_WIDTH = 32, 200, 128


def require_faiss(approximate: str | None) -> None:
    """Refuses to go on without the extra.

    Raises:
        InputError: another name than "faiss", or it is not installed.
    """
    if approximate not in (None, "faiss"):
        raise InputError(f"approximate {approximate!r}: expected 'faiss', or nothing for exact search")
    if approximate and importlib.util.find_spec("faiss") is None:
        raise InputError('faiss: not installed; expected for approximate search; run pip install "selfembed[faiss]"')


class NearestIndex:
    """A hierarchical navigable small-world graph (Malkov and Yashunin 2016) over unit vectors."""

    def __init__(self, folder: Path) -> None:
        """Opens what :meth:`write` has left.

        Raises:
            InputError: faiss is not installed.
        """
        require_faiss("faiss")
        import faiss  # type: ignore[import, unused-ignore]  # it may be installed or not

        self._index = faiss.read_index(str(folder / _FILE))

    @staticmethod
    def write(folder: Path, vectors_ND: np.ndarray) -> None:
        """Builds the graph of unit vectors."""
        import faiss

        index = faiss.IndexHNSWFlat(vectors_ND.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_WIDTH
        for _, block_BD in blocks(vectors_ND):
            index.add(np.ascontiguousarray(block_BD, dtype=np.float32))
        faiss.write_index(index, str(folder / _FILE))

    def search(self, query_D: np.ndarray, depth: int) -> Ranking:
        """Ranks the nearest passages that the graph leads to."""
        self._index.hnsw.efSearch = max(_LEAST_WIDTH, 2 * depth)
        score_1K, row_1K = self._index.search(unit(query_D)[None], depth)
        return Ranking(row_1K[0], score_1K[0]).keep(row_1K[0] >= 0)
