"""Model-derived targets against the paper's formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.objectives.model_derived import ModelDerived
from selfembed.targets.model_derived import CommonDistribution, build_targets, common_distribution

V = 60


@pytest.fixture
def log_q_BV() -> torch.Tensor:
    return (torch.randn(4, V, generator=torch.Generator().manual_seed(0)) * 3).log_softmax(-1)


@pytest.fixture
def log_common_V() -> torch.Tensor:
    return (torch.randn(V, generator=torch.Generator().manual_seed(1)) * 2).log_softmax(-1)


def plainly(kind: str, log_q_BV: torch.Tensor, log_common_V: torch.Tensor, temperature: float) -> torch.Tensor:
    q, qc = log_q_BV.double().exp(), log_common_V.double().exp()
    values = {"div": q / (q + qc), "log": -q * qc.log(), "sub": q.log() - qc.log()}[kind]
    return (values / temperature).softmax(-1)


def dense(ids_BK: torch.Tensor, weights_BK: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(ids_BK), V, dtype=torch.float64).scatter(-1, ids_BK, weights_BK.double())


@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("kind", ["div", "log", "sub"])
def test_formula(kind, temperature, log_q_BV, log_common_V):
    ids_BK, weights_BK = ModelDerived(filter=kind, temperature=temperature).distribution(log_q_BV, log_common_V)
    expected_BV = plainly(kind, log_q_BV, log_common_V, temperature)
    torch.testing.assert_close(dense(ids_BK, weights_BK), expected_BV, atol=1e-5, rtol=1e-3)
    assert ids_BK.dtype == torch.int64 and weights_BK.dtype == torch.float32
    assert (weights_BK.diff(dim=-1) <= 0).all(), "heaviest first"


def test_div_is_exact_where_q_is_far_above_the_common():
    # Q / (Q + Qc) in float32 would be 1 for both; the paper's temperature tells them apart.
    log_common_V = torch.full((3,), 1e-9).log()
    log_q_1V = torch.tensor([[0.6, 0.3, 0.1]]).log()
    ids_BK, weights_BK = ModelDerived(temperature=1e-9).distribution(log_q_1V, log_common_V)
    q, qc = log_q_1V.double().exp(), log_common_V.double().exp()
    expected_1V = (-(qc / (q + qc)) / 1e-9).softmax(-1)
    torch.testing.assert_close(weights_BK.double(), expected_1V.gather(-1, ids_BK), atol=1e-5, rtol=1e-4)
    assert 0.3 < weights_BK[0, 0] < 0.99


def test_top_k_keeps_the_heaviest_and_scales_to_one(log_q_BV, log_common_V):
    ids_BK, weights_BK = ModelDerived(temperature=0.1, top_k=5).distribution(log_q_BV, log_common_V)
    expected_BK, expected_ids_BK = plainly("div", log_q_BV, log_common_V, 0.1).topk(5)
    assert torch.equal(ids_BK, expected_ids_BK)
    expected_BK = expected_BK / expected_BK.sum(-1, keepdim=True)
    torch.testing.assert_close(weights_BK.double(), expected_BK, atol=1e-5, rtol=1e-4)
    assert ModelDerived(max_support=3).distribution(log_q_BV, log_common_V)[0].shape == (4, 3)


def test_floor_cuts_unlikely_tokens_but_never_the_likeliest(log_q_BV, log_common_V):
    ids_BK, weights_BK = ModelDerived(temperature=0.1, floor=0.02).distribution(log_q_BV, log_common_V)
    kept_BV = log_q_BV.exp() >= 0.02
    assert torch.equal(dense(ids_BK, weights_BK) > 0, kept_BV)
    expected_BV = plainly("div", log_q_BV, log_common_V, 0.1) * kept_BV
    expected_BV = expected_BV / expected_BV.sum(-1, keepdim=True)
    torch.testing.assert_close(dense(ids_BK, weights_BK), expected_BV, atol=1e-5, rtol=1e-3)
    ids_BK, weights_BK = ModelDerived(floor=0.999).distribution(log_q_BV, log_common_V)
    assert torch.equal(dense(ids_BK, weights_BK).argmax(-1), log_q_BV.argmax(-1))
    assert torch.equal(weights_BK[:, 0], torch.ones(4)) and not weights_BK[:, 1:].any()


def test_common_distribution_is_the_running_mean(log_q_BV):
    common = CommonDistribution()
    common.add(log_q_BV[:1])
    torch.testing.assert_close(common.log_V, log_q_BV[0])
    common.add(log_q_BV[1:])
    assert common.texts == 4 and common.sum_V.dtype == torch.float64
    torch.testing.assert_close(common.log_V.double(), log_q_BV.double().exp().mean(0).log(), atol=1e-5, rtol=1e-5)


def test_targets_of_texts_come_from_the_raw_backbone(tiny_backbone_dir):
    raw, backbone, _ = plain_embedder(tiny_backbone_dir)
    adapted, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(adapted)
    head, options = backbone.head(), ModelDerived(temperature=0.05, top_k=30)
    told = []
    common = common_distribution(adapted, head, SENTENCES, lambda *report: told.append(report))
    targets = build_targets(adapted, head, SENTENCES[:6], common, options, lambda *report: told.append(report))
    log_q_BV = head(raw.encode(SENTENCES, convert_to_tensor=True)).log_softmax(-1).double()
    qc_V, q_BV = log_q_BV.exp().mean(0), log_q_BV[:6].exp()
    expected_BK, expected_ids_BK = (q_BV / (q_BV + qc_V) / 0.05).softmax(-1).topk(30)
    expected_BK = expected_BK / expected_BK.sum(-1, keepdim=True)
    for i in range(6):
        ids, weights = targets.row(i)
        expected = dict(zip(expected_ids_BK[i].tolist(), expected_BK[i].tolist(), strict=True))
        assert len(ids) == 30
        np.testing.assert_allclose(weights, [expected[token] for token in ids.tolist()], rtol=1e-2)
    assert {task: (done, total) for task, done, total in told} == {
        "common distribution": (60, 60),
        "model-derived targets": (6, 6),
    }


def test_each_text_has_its_target_whatever_its_place(tiny_backbone_dir, monkeypatch):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    head, options = backbone.head(), ModelDerived(temperature=0.05, top_k=30)
    texts = [*SENTENCES[:8], SENTENCES[3], " ".join(SENTENCES[8:12]), "Fox."]
    read, plain = [], embedder.encode

    def spy(batch, **options):
        read.append(list(batch))
        return plain(batch, **options)

    monkeypatch.setattr(embedder, "encode", spy)
    common = common_distribution(embedder, head, texts)
    assert common.texts == len(texts) and sorted(text for batch in read for text in batch) == sorted(texts)
    assert read[0][0] == texts[9], "the longest first, texts of about one length together"
    targets = build_targets(embedder, head, texts, common, options)
    for i, text in enumerate(texts):
        (ids, weights), (alone_ids, alone) = (
            targets.row(i),
            build_targets(embedder, head, [text], common, options).row(0),
        )
        order, alone_order = ids.argsort(), alone_ids.argsort()
        assert (ids[order] == alone_ids[alone_order]).mean() > 0.9
        np.testing.assert_allclose(weights[:5], alone[:5], rtol=1e-2)


def test_vectors_that_are_no_numbers_make_no_targets(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    with torch.no_grad():
        next(embedder.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="not finite"):
        common_distribution(embedder, backbone.head(), SENTENCES[:3])


@pytest.mark.parametrize(
    "options",
    [
        {"filter": "mul"},
        {"common": "never"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"floor": 1.0},
        {"floor": -0.1},
        {"top_k": 0},
        {"max_support": 0},
        {"common_texts": 0},
    ],
)
def test_bad_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        ModelDerived(**options)
