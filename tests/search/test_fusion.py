"""Fusion by hand, of scores and of ranks."""

from __future__ import annotations

import numpy as np
import pytest

from selfembed.errors import InputError
from selfembed.search.fusion import DEPTH, fuse_scores, fuse_standard_scores, reciprocal_rank_fusion


def test_by_hand():
    fused = reciprocal_rank_fusion([[7, 3, 5], [5, 7]])
    assert [item for item, _ in fused] == [7, 5, 3]
    assert [score for _, score in fused] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62])


def test_small_k_lets_the_first_ranks_stand_out():
    rankings = [[1, 2, 3], [4, 2, 3], [5, 2, 3]]
    assert reciprocal_rank_fusion(rankings, k=60)[0][0] == 2
    fused = reciprocal_rank_fusion(rankings, k=0)
    assert fused[0] == (2, pytest.approx(1.5)) and fused[1] == (1, pytest.approx(1.0))


def test_equal_scores_go_by_item_and_nothing_fuses_to_nothing():
    assert [item for item, _ in reciprocal_rank_fusion([[9], [4]])] == [4, 9]
    assert reciprocal_rank_fusion([[], []]) == []


def test_documents_that_share_no_word_have_no_lexical_rank():
    dense_QN = np.array([[0.1, 0.9, 0.5], [-0.2, -0.1, -0.3]])
    lexical_QN = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    expected_QN = [[1 / 63 + 1 / 62, 1 / 61, 1 / 62 + 1 / 61], [1 / 62, 1 / 61, 1 / 63]]
    np.testing.assert_allclose(fuse_scores(dense_QN, lexical_QN, fusion="ranks"), expected_QN)


def test_standard_scores_by_hand():
    fused_C = fuse_standard_scores({"dense": np.array([0.9, 0.8, 0.7]), "lexical": np.array([0.0, 6.0, 0.0])})
    dense_C = np.array([1.0, 0.0, -1.0]) / (2 / 3) ** 0.5
    lexical_C = np.array([-1.0, 2.0, -1.0]) / 2**0.5
    np.testing.assert_allclose(fused_C, 0.6 * dense_C + 0.4 * lexical_C)


def test_neither_scale_nor_shift_of_a_side_counts_and_a_side_that_says_nothing_adds_nothing():
    rng = np.random.default_rng(0)
    dense_C, lexical_C = rng.normal(size=(2, 50))
    fused_C = fuse_standard_scores({"dense": dense_C, "lexical": lexical_C})
    moved_C = fuse_standard_scores({"dense": 0.02 * dense_C + 0.9, "lexical": 30 * lexical_C})
    np.testing.assert_allclose(moved_C, fused_C)
    alone_C = fuse_standard_scores({"dense": dense_C, "lexical": np.zeros(50)})
    assert np.argsort(-alone_C).tolist() == np.argsort(-dense_C).tolist()
    assert fuse_standard_scores({"dense": np.zeros(0), "lexical": np.zeros(0)}).shape == (0,)


def test_candidates_are_those_that_a_side_puts_forward():
    rng = np.random.default_rng(0)
    dense_QN = rng.normal(size=(1, 3 * DEPTH))
    lexical_QN = np.zeros((1, 3 * DEPTH))
    farthest = int(dense_QN.argmin())
    lexical_QN[0, farthest] = 4.0
    (fused_N,) = fuse_scores(dense_QN, lexical_QN)
    put_forward = {*np.argsort(-dense_QN[0])[:DEPTH].tolist(), farthest}
    assert set(np.flatnonzero(np.isfinite(fused_N)).tolist()) == put_forward
    rows_C = np.array(sorted(put_forward))
    expected_C = fuse_standard_scores({"dense": dense_QN[0, rows_C], "lexical": lexical_QN[0, rows_C]})
    np.testing.assert_allclose(fused_N[rows_C], expected_C)


def test_unknown_fusion():
    with pytest.raises(InputError, match="fusion 'votes': expected 'scores' or 'ranks'"):
        fuse_scores(np.zeros((1, 2)), np.zeros((1, 2)), fusion="votes")
