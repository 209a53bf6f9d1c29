"""The losses: the batch mean, targets in the step, divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import SENTENCES, VOCAB_SIZE
from torch.nn.functional import kl_div

from selfembed.errors import TrainingDiverged
from selfembed.losses import divergence
from selfembed.losses.token_target import OnlineModelDerivedLoss, TokenTargetLoss
from selfembed.model.backbone import raw_backbone
from selfembed.objectives.model_derived import ModelDerived
from selfembed.targets.model_derived import CommonDistribution
from selfembed.targets.token_targets import TokenTargets


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
    with pytest.raises(TrainingDiverged, match="training has diverged"):
        TokenTargetLoss(embedder, backbone.head(), targets)(features, torch.tensor([0]))
    with pytest.raises(TrainingDiverged, match="training has diverged"):
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
        log_q_BV = head(adapted(features_of(adapted, texts)[0])["sentence_embedding"]).log_softmax(-1)
        dense_BV = torch.zeros_like(log_q_BV).scatter_add(-1, ids_BK, weights_BK)
        torch.testing.assert_close(value, kl_div(log_q_BV, dense_BV, reduction="batchmean"), atol=1e-4, rtol=1e-4)
    assert loss.common.texts == 8
    value.backward()
    moved = {name for name, p in adapted.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved and all("lora_" in name for name in moved)
    with raw_backbone(adapted):
        assert loss(features_of(adapted, SENTENCES[:4])).requires_grad is False


def test_chunks_change_no_loss(tiny_backbone_dir, monkeypatch):
    raw, backbone, _ = plain_embedder(tiny_backbone_dir)
    targets = TokenTargets.from_rows([([i, i + 3], [1.0, 2.0]) for i in range(5)], vocab_size=VOCAB_SIZE)
    stored = TokenTargetLoss(raw, backbone.head(), targets)
    online = [OnlineModelDerivedLoss(raw, backbone.head(), ModelDerived(common="online")) for _ in range(2)]
    features, labels = features_of(raw, SENTENCES[:5]), torch.arange(5)
    whole = [stored(features, labels), online[0](features)]
    monkeypatch.setattr(divergence, "_CHUNK_BYTES", 2 * 4 * VOCAB_SIZE)
    assert len(divergence.chunks(torch.zeros(5, raw.get_embedding_dimension()), backbone.head())) == 3
    torch.testing.assert_close([stored(features, labels), online[1](features)], whole, atol=1e-6, rtol=2e-5)
    torch.testing.assert_close(online[1].common.log_V, online[0].common.log_V, atol=1e-6, rtol=1e-6)
