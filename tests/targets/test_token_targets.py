"""Sparse token targets: rows, batches, entropy, the evenly spread rest, and the file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfembed.targets.token_targets import TokenTargets


@pytest.fixture
def targets() -> TokenTargets:
    return TokenTargets.from_rows([([7, 2], [1.0, 3.0]), ([], []), ([5], [0.2])], vocab_size=10)


def test_rows_sum_to_one_heaviest_first(targets):
    ids, weights = targets.row(0)
    assert len(targets) == 3
    assert ids.tolist() == [2, 7]
    assert weights.tolist() == [0.75, 0.25]
    assert targets.row(1)[0].tolist() == []


def test_batch_pads_with_weight_zero(targets):
    ids_BK, weights_BK = targets.batch([2, 0, 1])
    assert ids_BK.dtype == torch.int64 and weights_BK.dtype == torch.float32
    assert ids_BK.tolist() == [[5, 0], [7, 2], [0, 0]]
    assert weights_BK.tolist() == [[1.0, 0.0], [0.25, 0.75], [0.0, 0.0]]
    assert targets.rest([2, 0]) is None


def test_entropy(targets):
    by_hand = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    np.testing.assert_allclose(targets.entropy_N, [by_hand, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(targets.effective_support_N, [math.exp(by_hand), 0.0, 1.0], rtol=1e-6)
    assert targets.support_N.tolist() == [2, 0, 1]


def test_rest_is_spread_evenly(targets):
    half = replace(targets, weights_S=targets.weights_S / 2, rest_N=np.array([0.5, 0.0, 0.5], np.float32))
    dense = np.array([0.375, 0.125] + [0.5 / 8] * 8)
    assert half.rest([2, 1]).tolist() == [0.5, 0.0]
    np.testing.assert_allclose(half.entropy_N[0], -(dense * np.log(dense)).sum(), rtol=1e-6)
    assert half.entropy_N[1] == 0.0


@pytest.mark.parametrize("rest", [None, np.array([0.5, 0.0, 0.25], np.float32)])
def test_file_round_trip(targets, rest, tmp_path: Path):
    targets = replace(targets, rest_N=rest)
    targets.save(tmp_path / "targets.safetensors")
    loaded = TokenTargets.load(tmp_path / "targets.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["targets.safetensors"]
    for name in ("offsets_N1", "ids_S", "weights_S", "vocab_size", "rest_N"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(targets, name))


def test_select(targets):
    rest_N = np.array([0.5, 0.0, 0.25], np.float32)
    chosen = replace(targets, rest_N=rest_N).select([2, 1, 0, 2])
    assert chosen.support_N.tolist() == [1, 0, 2, 1]
    assert chosen.ids_S.tolist() == [5, 7, 2, 5]
    assert chosen.rest_N.tolist() == [0.25, 0.0, 0.5, 0.25]
