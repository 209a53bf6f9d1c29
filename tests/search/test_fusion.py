"""Reciprocal rank fusion by hand."""

from __future__ import annotations

import numpy as np
import pytest

from selfembed.search.fusion import fuse_scores, reciprocal_rank_fusion


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
    np.testing.assert_allclose(fuse_scores(dense_QN, lexical_QN), expected_QN)
