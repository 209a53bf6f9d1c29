"""The loss: sparse KL against torch's dense one, the batch mean, targets in the step, divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import SENTENCES, VOCAB_SIZE
from torch.nn.functional import kl_div

from selfembed.backbone import raw_backbone
from selfembed.errors import InputError
from selfembed.losses.divergence import sparse_kl
from selfembed.losses.token_target import OnlineModelDerivedLoss, TokenTargetLoss
from selfembed.targets.model_derived import CommonDistribution, ModelDerived
from selfembed.targets.token_target import TokenTargets

V = 50


def sparse_batch(rest: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids_BK, weights_BK, rest_B and the same as dense_BV; the second row is padded with the id of a real token."""
    ids_BK = torch.tensor([[3, 7, 49], [0, 5, 0], [11, 0, 0]])
    weights_BK = torch.tensor([[0.5, 0.3, 0.2], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]]) * (1 - rest)
    rest_B = torch.full((3,), rest)
    dense_BV = torch.zeros(3, V)
    for b in range(3):
        for token, weight in zip(ids_BK[b].tolist(), weights_BK[b].tolist(), strict=True):
            dense_BV[b, token] += weight
        outside = dense_BV[b] == 0
        dense_BV[b, outside] = rest / outside.sum()
    return ids_BK, weights_BK, rest_B, dense_BV


@pytest.mark.parametrize("rest", [0.0, 0.4])
def test_sparse_kl_equals_the_dense_one_and_its_gradient(rest):
    ids_BK, weights_BK, rest_B, dense_BV = sparse_batch(rest)
    logits_BV = (torch.randn(3, V, generator=torch.Generator().manual_seed(0)) * 5).requires_grad_()
    ours_B = sparse_kl(logits_BV, ids_BK, weights_BK, rest_B)
    expected_B = kl_div(logits_BV.log_softmax(-1), dense_BV, reduction="none").sum(-1)
    torch.testing.assert_close(ours_B, expected_B, atol=1e-5, rtol=1e-5)
    (gradient_BV,) = torch.autograd.grad(ours_B.sum(), logits_BV)
    torch.testing.assert_close(gradient_BV, logits_BV.softmax(-1).detach() - dense_BV, atol=1e-6, rtol=1e-5)


def test_sparse_kl_without_rest_is_rest_zero():
    ids_BK, weights_BK, rest_B, _ = sparse_batch(0.0)
    logits_BV = torch.randn(3, V, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sparse_kl(logits_BV, ids_BK, weights_BK), sparse_kl(logits_BV, ids_BK, weights_BK, rest_B))


def test_sparse_kl_of_itself_is_zero_and_of_low_precision_is_float32():
    logits_1V = torch.randn(1, V, generator=torch.Generator().manual_seed(2))
    weights_1V, ids_1V = logits_1V.softmax(-1).sort(-1, descending=True)
    assert abs(sparse_kl(logits_1V, ids_1V, weights_1V).item()) < 1e-6
    assert sparse_kl(logits_1V.bfloat16(), ids_1V, weights_1V).dtype == torch.float32


def features_of(embedder, texts) -> list[dict[str, torch.Tensor]]:
    return [{key: value for key, value in embedder.preprocess(texts).items() if torch.is_tensor(value)}]


def test_loss_is_the_mean_over_the_batch_by_label(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    targets = TokenTargets.from_rows(
        [([1], [1.0]), ([5, 9], [3.0, 1.0]), ([7, 8, 100], [1.0, 1.0, 2.0])], vocab_size=VOCAB_SIZE
    )
    loss = TokenTargetLoss(embedder, backbone.head(), targets)
    texts, labels = SENTENCES[:2], torch.tensor([2, 1])
    dense_BV = torch.zeros(2, VOCAB_SIZE)
    for b, label in enumerate(labels.tolist()):
        ids, row = targets.row(label)
        dense_BV[b, torch.from_numpy(ids.astype(np.int64))] = torch.from_numpy(row)
    value = loss(features_of(embedder, texts), labels)
    log_q_BV = backbone.head()(embedder.encode(texts, convert_to_tensor=True)).log_softmax(-1)
    torch.testing.assert_close(value, kl_div(log_q_BV, dense_BV, reduction="batchmean"), atol=1e-5, rtol=1e-5)
    alone = [loss(features_of(embedder, [text]), labels[i : i + 1]).item() for i, text in enumerate(texts)]
    assert value.item() == pytest.approx(sum(alone) / 2, abs=1e-5) and abs(alone[0] - alone[1]) > 1e-3


def test_loss_counts_the_rest(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    targets = TokenTargets(
        offsets_N1=np.array([0, 1]),
        ids_S=np.array([5], np.int32),
        weights_S=np.array([0.5], np.float32),
        vocab_size=VOCAB_SIZE,
        rest_N=np.array([0.5], np.float32),
    )
    dense_1V = torch.full((1, VOCAB_SIZE), 0.5 / (VOCAB_SIZE - 1))
    dense_1V[0, 5] = 0.5
    value = TokenTargetLoss(embedder, backbone.head(), targets)(features_of(embedder, ["Fox."]), torch.tensor([0]))
    log_q_1V = backbone.head()(embedder.encode(["Fox."], convert_to_tensor=True)).log_softmax(-1)
    torch.testing.assert_close(value, kl_div(log_q_1V, dense_1V, reduction="batchmean"), atol=1e-5, rtol=1e-5)


def test_not_a_number_is_an_input_error(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    features = features_of(embedder, ["Fox."])
    with torch.no_grad():
        next(embedder.parameters()).fill_(float("nan"))
    targets = TokenTargets.from_rows([([1], [1.0])], vocab_size=VOCAB_SIZE)
    with pytest.raises(InputError, match="training has diverged"):
        TokenTargetLoss(embedder, backbone.head(), targets)(features, torch.tensor([0]))
    with pytest.raises(InputError, match="training has diverged"):
        OnlineModelDerivedLoss(embedder, backbone.head(), ModelDerived(common="online"))(features)


def test_online_targets_come_from_the_raw_backbone_and_the_batches_seen(tiny_backbone_dir):
    raw, backbone, _ = plain_embedder(tiny_backbone_dir)
    adapted, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(adapted, dropout=0.0)
    options = ModelDerived(common="online", temperature=0.05, top_k=40)
    head = backbone.head()
    loss = OnlineModelDerivedLoss(adapted, head, options)
    common = CommonDistribution()
    adapted.train()
    for texts in (SENTENCES[:4], SENTENCES[4:8]):
        value = loss(features_of(adapted, texts))
        log_q_BV = head(raw.encode(texts, convert_to_tensor=True)).log_softmax(-1)
        common.add(log_q_BV)
        ids_BK, weights_BK = options.distribution(log_q_BV, common.log_V)
        logits_BV = head(adapted(features_of(adapted, texts)[0])["sentence_embedding"])
        torch.testing.assert_close(value, sparse_kl(logits_BV, ids_BK, weights_BK).mean(), atol=1e-4, rtol=1e-4)
    assert loss.common.texts == 8
    value.backward()
    moved = {name for name, p in adapted.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved and all("lora_" in name for name in moved)
    with raw_backbone(adapted):
        assert loss(features_of(adapted, SENTENCES[:4])).requires_grad is False
