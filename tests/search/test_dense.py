"""Exact search against numpy, and int8 and binary codes against exact search."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from selfembed.search import dense
from selfembed.search.dense import DenseIndex, new_vectors, unit, write_codes
from selfembed.search.ranking import best_rows

COUNT, WIDTH = 1500, 70  # a width that fills no 64-bit word


@pytest.fixture
def vectors_ND():
    return unit(np.random.default_rng(0).standard_normal((COUNT, WIDTH)) + 0.3)


def stored(folder, store, vectors_ND) -> DenseIndex:
    folder.mkdir()
    matrix = new_vectors(folder, store, *vectors_ND.shape)
    matrix[:] = vectors_ND
    matrix.flush()
    write_codes(folder, store)
    return DenseIndex(folder, store)


@pytest.fixture(params=[1 << 10, 64 << 20])
def block_bytes(request, monkeypatch):
    """Many blocks and one."""
    monkeypatch.setattr(dense, "_BLOCK_BYTES", request.param)
    monkeypatch.setattr(dense, "_CACHED_BYTES", request.param)


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_exact(store, tmp_path, vectors_ND, block_bytes):
    index = stored(tmp_path / "x", store, vectors_ND)
    query_D = np.random.default_rng(1).standard_normal(WIDTH)
    kept_ND = vectors_ND.astype(store).astype(np.float32)
    cosine_N = kept_ND @ unit(query_D)
    found = index.search(5 * query_D, 20)
    assert found.rows.tolist() == np.argsort(-cosine_N, kind="stable")[:20].tolist()
    np.testing.assert_allclose(found.scores, np.sort(cosine_N)[::-1][:20], atol=1e-6)
    assert len(index.search(query_D, COUNT + 5)) == COUNT


@pytest.mark.parametrize("store", ["int8", "binary"])
def test_rescored_over_everything_is_exact(store, tmp_path, vectors_ND, block_bytes):
    index = stored(tmp_path / "x", store, vectors_ND)
    exact = stored(tmp_path / "y", "float16", vectors_ND)
    query_D = vectors_ND[3] + 0.1 * np.random.default_rng(1).standard_normal(WIDTH)
    found, expected = index.search(query_D, 10, rescore=COUNT // 10), exact.search(query_D, 10)
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_int8_codes_and_scores(tmp_path, vectors_ND):
    index = stored(tmp_path / "x", "int8", vectors_ND)
    half_ND = vectors_ND.astype(np.float16).astype(np.float32)
    ranges_2D = np.stack([half_ND.min(0), half_ND.max(0)])
    np.testing.assert_array_equal(index.codes, quantize_embeddings(half_ND, "int8", ranges=ranges_2D))
    query_D = unit(np.random.default_rng(1).standard_normal(WIDTH))
    found = index.search(query_D, COUNT, rescore=0)
    step = (ranges_2D[1] - ranges_2D[0]).max() / 255
    np.testing.assert_allclose(found.scores, (half_ND @ query_D)[found.rows], atol=step / 2 * np.abs(query_D).sum())
    assert np.abs(found.scores - (half_ND @ query_D)[found.rows]).max() > 0


def test_binary_codes_and_scores(tmp_path, vectors_ND):
    index = stored(tmp_path / "x", "binary", vectors_ND)
    half_ND = vectors_ND.astype(np.float16).astype(np.float32)
    bytes_NX = np.ascontiguousarray(index.codes).view(np.uint8)[:, : -(-WIDTH // 8)]
    np.testing.assert_array_equal(bytes_NX, quantize_embeddings(half_ND, "ubinary"))
    query_D = unit(np.random.default_rng(1).standard_normal(WIDTH))
    same_N = ((half_ND > 0) == (query_D > 0)).mean(-1)
    found = index.search(query_D, COUNT, rescore=0)
    np.testing.assert_allclose(found.scores, 2 * same_N[found.rows] - 1, atol=1e-6)


@pytest.mark.parametrize(("store", "rescore", "least"), [("int8", 0, 0.9), ("int8", 4, 1.0), ("binary", 8, 0.5)])
def test_codes_find_nearly_what_exact_search_finds(store, rescore, least, tmp_path, vectors_ND):
    """Of vectors without any neighbourhoods; binary codes by chance would find 80 of 1500."""
    index, exact = stored(tmp_path / "x", store, vectors_ND), stored(tmp_path / "y", "float16", vectors_ND)
    rng = np.random.default_rng(2)
    queries = vectors_ND[rng.choice(COUNT, 30)] + 0.1 * rng.standard_normal((30, WIDTH))
    recall = [
        len({*index.search(query, 10, rescore=rescore).rows} & {*exact.search(query, 10).rows}) / 10
        for query in queries
    ]
    assert np.mean(recall) >= least


def test_best_rows_with_ties():
    found = best_rows(np.array([1.0, 3.0, 3.0, 2.0, 3.0]), 2)
    assert found.rows.tolist() == [1, 2] and found.scores.tolist() == [3, 3]
    assert best_rows(np.array([1.0, 2.0]), 5, np.array([8, 7])).rows.tolist() == [7, 8]
    assert len(best_rows(np.array([]), 3)) == 0
