"""Approximate search beyond a million passages: faiss's graph of neighbours, an extra.

Shapes: N passages, D dimensions, K results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from selfembed.ground.extras import require_extra
from selfembed.search.dense import blocks, unit
from selfembed.search.ranking import Ranking

_FILE = "nearest.faiss"
_NEIGHBOURS, _BUILD_WIDTH, _LEAST_WIDTH = 32, 200, 128


class NearestIndex:
    """A graph of neighbours over unit vectors.

    References:
        Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable
        small world graphs", arXiv 1603.09320.
    """

    def __init__(self, folder: Path) -> None:
        """Opens what :meth:`write` has left.

        Raises:
            MissingPackage: The extra `faiss` is not installed.
        """
        require_extra("faiss")
        import faiss  # type: ignore[import, unused-ignore]  # it may be installed or not

        self._index: Any = faiss.read_index(str(folder / _FILE))

    @staticmethod
    def write(folder: Path, vectors_ND: np.ndarray) -> None:
        """Builds the graph of unit vectors and writes it."""
        import faiss

        index: Any = faiss.IndexHNSWFlat(vectors_ND.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_WIDTH
        for _, block_BD in blocks(vectors_ND):
            index.add(np.ascontiguousarray(block_BD, dtype=np.float32))
        faiss.write_index(index, str(folder / _FILE))

    def search(self, query_D: np.ndarray, depth: int) -> Ranking:
        """Ranks the nearest passages that the graph leads to, `depth` at most."""
        self._index.hnsw.efSearch = max(_LEAST_WIDTH, 2 * depth)
        score_1K, row_1K = self._index.search(unit(query_D)[None], depth)
        return Ranking(row_1K[0], score_1K[0]).keep(row_1K[0] >= 0)
