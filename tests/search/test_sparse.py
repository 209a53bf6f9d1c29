"""The sparse view by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from runs import plain_embedder
from tiny import SENTENCES, VOCAB_SIZE
from torch import nn

from selfembed.errors import InputError
from selfembed.search.encoder import load_encoder
from selfembed.search.sparse import SparseIndex, sparse_rows


def head_of(weight_VD: list[list[float]]) -> nn.Linear:
    head = nn.Linear(len(weight_VD[0]), len(weight_VD), bias=False)
    head.weight.data = torch.tensor(weight_VD)
    return head


def test_by_hand():
    head = head_of([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    found = sparse_rows(np.array([[2.0, 1.0]], np.float32), head, k=2)  # logits 2, 1, 3, -2
    assert found.ids_BK.tolist() == [[2, 0]]
    np.testing.assert_allclose(found.weights_BK, [[math.log(1 + 3 - 1), math.log(1 + 2 - 1)]], rtol=1e-6)
    dense = found.tensor().to_dense()
    assert dense.shape == (1, 4)
    np.testing.assert_allclose(dense[0].numpy(), [math.log(2), 0, math.log(3), 0], rtol=1e-6)


def test_a_number_added_to_all_logits_changes_nothing():
    head = head_of(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).tolist())
    raised = nn.Linear(4, 20)
    raised.weight.data, raised.bias.data = head.weight.data, torch.full((20,), 7.0)
    embedding_BD = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    one, other = (sparse_rows(embedding_BD, each, k=5) for each in (head, raised))
    np.testing.assert_array_equal(one.ids_BK, other.ids_BK)
    np.testing.assert_allclose(one.weights_BK, other.weights_BK, atol=1e-5)


def test_of_a_tiny_model(tiny_backbone_dir, tmp_path):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    embedding_BD = embedder.encode(SENTENCES[:10])
    found = sparse_rows(embedding_BD, backbone.head(), k=8)
    logits_BV = embedding_BD @ backbone.head().weight.detach().numpy().T
    order_BV = np.argsort(-logits_BV, axis=-1)
    np.testing.assert_array_equal(np.sort(found.ids_BK), np.sort(order_BV[:, :8]))
    rest_B1 = np.take_along_axis(logits_BV, order_BV[:, 8:9], -1)
    np.testing.assert_allclose(
        found.weights_BK, np.log1p(np.take_along_axis(logits_BV, found.ids_BK, -1) - rest_B1), atol=1e-4
    )
    SparseIndex.write(tmp_path, found.ids_BK, found.weights_BK)
    score_B = SparseIndex(tmp_path).scores(sparse_rows(embedding_BD[4:5], backbone.head(), k=8))
    full_BV = found.tensor().to_dense().numpy()
    np.testing.assert_allclose(score_B, full_BV @ full_BV[4], rtol=1e-5)


@pytest.mark.parametrize("k", [0, 4, 9])
def test_bad_k(k):
    with pytest.raises(InputError, match=f"sparse {k}: expected 1 to 3 tokens"):
        sparse_rows(np.ones((1, 2), np.float32), head_of([[1.0, 0.0]] * 4), k=k)


def test_head_that_does_not_fit(tiny_backbone_dir):
    _, backbone, _ = plain_embedder(tiny_backbone_dir)
    assert backbone.head().weight.shape[0] == VOCAB_SIZE
    with pytest.raises(InputError, match="head: reads vectors of width 32, the embeddings have width 5"):
        sparse_rows(np.ones((1, 5), np.float32), backbone.head())


def test_the_sparse_view_wants_final_hidden_states(tmp_path):
    modules = [{"type": f"sentence_transformers.{name}"} for name in ("Transformer", "Pooling", "Dense")]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    encoder = load_encoder(tmp_path)
    assert encoder.head is not None
    with pytest.raises(InputError, match="its Dense makes vectors that are no final hidden states"):
        encoder.head()
