"""The dense side: unit vectors on disk, searched exactly in blocks, or by int8 or binary codes and then rescored.

Shapes: N passages, D dimensions, B rows of a block, W 64-bit words of a binary code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from sentence_transformers.util.quantization import quantize_embeddings

from selfembed.search.ranking import Ranking, best_rows

Store = Literal["float32", "float16", "int8", "binary"]
STORES: tuple[Store, ...] = get_args(Store)
"""How vectors may be kept; the last two are codes to search in, with float16 vectors beside them to rescore by."""

RESCORE = 8
"""How many times more results than wanted are found by codes, to be rescored by the vectors."""

_VECTORS, _CODES, _RANGES = "vectors.npy", "codes.npy", "ranges.npy"
_BLOCK_BYTES = 64 << 20
_CACHED_BYTES = 1 << 19  # of a block that becomes float32 first: more would leave the processor's caches


def float_type(store: str) -> type[np.floating]:
    """Returns the type of the vectors in a store."""
    return np.float32 if store == "float32" else np.float16


def new_vectors(folder: Path, store: str, passages: int, dimensions: int) -> np.memmap:
    """Creates a mapped matrix for a store's vectors, shape (N, D), to be filled with unit vectors."""
    return np.lib.format.open_memmap(
        folder / _VECTORS, mode="w+", dtype=float_type(store), shape=(passages, dimensions)
    )


def write_codes(folder: Path, store: str) -> None:
    """Writes the codes of a store whose vectors are complete; a float store needs none.

    The codes are those of sentence-transformers' `quantize_embeddings`: int8 between the least and largest value of
    each dimension, over all passages, or one bit a dimension, whether it is above zero.

    Args:
        folder: The folder with the vectors.
        store: The way vectors are kept, one of :data:`STORES`.
    """
    if store not in ("int8", "binary"):
        return
    vectors_ND = np.load(folder / _VECTORS, mmap_mode="r")
    count, width = vectors_ND.shape
    if store == "int8":
        ranges_2D = np.stack([
            np.min([block.min(0) for _, block in blocks(vectors_ND)], 0),
            np.max([block.max(0) for _, block in blocks(vectors_ND)], 0),
        ])  # fmt: skip
        np.save(folder / _RANGES, ranges_2D)
        codes = np.lib.format.open_memmap(folder / _CODES, mode="w+", dtype=np.int8, shape=(count, width))
        for start, block_BD in blocks(vectors_ND):
            codes[start : start + len(block_BD)] = quantize_embeddings(block_BD, "int8", ranges=ranges_2D)
    else:
        words = -(-width // 64)
        codes = np.lib.format.open_memmap(folder / _CODES, mode="w+", dtype=np.uint64, shape=(count, words))
        for start, block_BD in blocks(vectors_ND):
            codes[start : start + len(block_BD)] = bit_codes(block_BD)
    codes.flush()


def bit_codes(vectors_BD: np.ndarray) -> np.ndarray:
    """Encodes vectors as one bit a dimension (sentence-transformers' "ubinary"), filled up to 64-bit words, (B, W)."""
    bytes_BX = quantize_embeddings(vectors_BD, "ubinary")
    padded = np.zeros((len(bytes_BX), -(-bytes_BX.shape[1] // 8) * 8), np.uint8)
    padded[:, : bytes_BX.shape[1]] = bytes_BX
    return padded.view(np.uint64)


def blocks(matrix: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first row and the rows of each block; float16 and int8 become float32."""
    small = matrix.dtype in (np.float16, np.int8)
    size = max(1, (_CACHED_BYTES if small else _BLOCK_BYTES) // (4 * matrix.shape[1]))
    for start in range(0, len(matrix), size):
        block = matrix[start : start + size]
        # numpy converts float16 number by number; torch does not, but warns of a file that it might write to
        yield start, torch.from_numpy(np.array(block)).float().numpy() if small else np.asarray(block)


def unit(vectors_BD: np.ndarray) -> np.ndarray:
    """Scales vectors to length 1, in float32."""
    vectors_BD = np.asarray(vectors_BD, dtype=np.float32)
    unit_BD: np.ndarray = vectors_BD / np.linalg.norm(vectors_BD, axis=-1, keepdims=True)
    return unit_BD


class DenseIndex:
    """Unit vectors of passages on disk, mapped into memory."""

    def __init__(self, folder: Path, store: str) -> None:
        """Opens what :func:`new_vectors` and :func:`write_codes` have left.

        Args:
            folder: The folder with the files.
            store: The way vectors are kept, one of :data:`STORES`.
        """
        self.store = store
        self.vectors_ND = np.load(folder / _VECTORS, mmap_mode="r")
        self.codes = np.load(folder / _CODES, mmap_mode="r") if store in ("int8", "binary") else None
        self._ranges_2D = np.load(folder / _RANGES) if store == "int8" else None

    def search(self, query_D: np.ndarray, depth: int, *, rescore: int = RESCORE) -> Ranking:
        """Ranks passages by their cosine with a query.

        Args:
            query_D: The embedding of the query, float32, shape (D,), of any length but zero.
            depth: The largest number of results.
            rescore: For a store with codes, how many times more results than `depth` are found by the codes and then
                ranked by the vectors. 0 leaves the scores of the codes (int8: near the cosine; binary: the share of
                equal bits, scaled to -1 to 1).

        Returns:
            The best passages with their scores.
        """
        query_D = unit(query_D)
        if self.codes is None:
            return self._scan(query_D, self.vectors_ND, depth)
        wide = depth * rescore if rescore else depth
        found = self._by_bits(query_D, wide) if self.store == "binary" else self._by_int8(query_D, wide)
        if not rescore:
            return found
        rows_K = np.sort(found.rows)  # in the order of the file
        return best_rows(self.similarities(query_D, rows_K), depth, rows_K)

    def similarities(self, query_D: np.ndarray, rows_K: np.ndarray) -> np.ndarray:
        """Computes the cosines of a query and some rows by the vectors themselves, shape (K,)."""
        score_K: np.ndarray = np.asarray(self.vectors_ND[rows_K], dtype=np.float32) @ unit(query_D)
        return score_K

    def _scan(self, weight_D: np.ndarray, matrix: np.ndarray, depth: int, constant: float = 0.0) -> Ranking:
        score_N = np.empty(len(matrix), np.float32)
        for start, block_BD in blocks(matrix):
            score_N[start : start + len(block_BD)] = block_BD @ weight_D + constant
        return best_rows(score_N, depth)

    def _by_int8(self, query_D: np.ndarray, depth: int) -> Ranking:
        """Ranks by int8 codes, read as the middles of their steps; the query stays in floats."""
        assert self.codes is not None and self._ranges_2D is not None
        start_D = self._ranges_2D[0]
        step_D = (self._ranges_2D[1] - start_D) / 255
        constant = float(query_D @ (start_D + step_D * 128.5))  # code -128 is the step from start to start + step
        return self._scan(query_D * step_D, self.codes, depth, constant)

    def _by_bits(self, query_D: np.ndarray, depth: int) -> Ranking:
        assert self.codes is not None
        query_1W = bit_codes(query_D[None])
        apart_N = np.empty(len(self.codes), np.int64)
        for start, block_BW in blocks(self.codes):
            apart_N[start : start + len(block_BW)] = np.bitwise_count(block_BW ^ query_1W).sum(-1, dtype=np.int64)
        return best_rows((1 - 2 * apart_N / len(query_D)).astype(np.float32), depth)
