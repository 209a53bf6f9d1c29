"""Contrastive losses against sentence-transformers' plain one and by hand; views by dropout that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import PROMPT, add_random_adapter, assert_gradient_close, plain_embedder
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.losses.contrastive import TwoViewsLoss, info_nce, require_two_views, supervised_loss
from selfembed.model.backbone import load_backbone
from selfembed.model.dropout import set_attention_dropout
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.objectives.supervised import Supervised
from selfembed.objectives.two_views import TwoViews


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp("backbone"))


def columns(embedder, count):
    parts = [SENTENCES[6 * i : 6 * i + 6] for i in range(count)]
    return [
        {key: value for key, value in embedder.preprocess(texts).items() if torch.is_tensor(value)} for texts in parts
    ]


def test_equals_the_plain_loss_for_any_mini_batch(folder):
    embedder, _, _ = plain_embedder(folder)
    add_random_adapter(embedder, dropout=0.0)
    expected = MultipleNegativesRankingLoss(embedder, scale=20.0)(columns(embedder, 1) * 2, None)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}
    for size in (2, 4, 6):
        embedder.zero_grad()
        value = TwoViewsLoss(embedder, mini_batch_size=size)(columns(embedder, 1))
        value.backward()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        for name, gradient in gradients.items():
            assert_gradient_close(embedder.get_parameter(name).grad, gradient, f"{size} {name}")


def test_views_are_of_one_column_and_differ_in_training(folder):
    """Dropout draws one view after the other; the loss is that of the two views, and of their embeddings."""
    embedder, _, _ = plain_embedder(folder)
    add_random_adapter(embedder, dropout=0.3)
    embedder.train()
    loss = TwoViewsLoss(embedder, temperature=0.1, mini_batch_size=6)
    torch.manual_seed(1)
    value = loss(columns(embedder, 1))
    torch.manual_seed(1)
    views = [embedder(features)["sentence_embedding"] for features in columns(embedder, 1) * 2]
    assert not torch.equal(*views)
    expected = torch.nn.functional.cross_entropy(
        10 * torch.nn.functional.normalize(views[0]) @ torch.nn.functional.normalize(views[1]).T, torch.arange(6)
    )
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss.of_embeddings(views), expected, rtol=1e-5, atol=1e-6)


def test_info_nce_leaves_candidates_out():
    anchor_BD, candidate_ND = torch.eye(3)[:2], torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 3, 0]])
    excluded_BN = torch.tensor([[False, True, False], [False, False, True]])
    value = info_nce(anchor_BD, candidate_ND, temperature=0.5, excluded_BN=excluded_BN)
    half = 0.5**0.5  # cosine of (0, 1, 0) and (1, 1, 0)
    first = np.log(np.exp(2) + 1) - 2
    second = np.log(1 + np.exp(2 * half)) - 2 * half
    assert value.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_views_differ_by_either_dropout_and_not_without(folder):
    embedder, _, _ = plain_embedder(folder)
    add_random_adapter(embedder, dropout=0.0)
    with pytest.raises(InputError, match="two views of a text are equal"):
        require_two_views(embedder, SENTENCES[0])
    set_attention_dropout(embedder, 0.2)
    require_two_views(embedder, SENTENCES[0])
    assert not embedder.training
    vectors = [embedder.encode(SENTENCES[0]) for _ in range(2)]
    assert (vectors[0] == vectors[1]).all(), "dropout is for training only"
    set_attention_dropout(embedder, 0.0)
    with pytest.raises(InputError):
        require_two_views(embedder, SENTENCES[0])


def test_a_family_without_such_a_dropout_is_named(folder):
    with pytest.raises(InputError, match="has no such dropout that we know of"):
        embedder, _, _ = plain_embedder(folder)
        for module in embedder.modules():
            for name in ("attention_dropout", "attn_dropout"):
                if hasattr(module, name):
                    delattr(module, name)
        set_attention_dropout(embedder, 0.2)


def test_supervised_equals_the_plain_loss_with_hard_negatives(folder):
    embedder, _, _ = plain_embedder(folder)
    add_random_adapter(embedder, dropout=0.0)
    expected = MultipleNegativesRankingLoss(embedder, scale=20.0)(columns(embedder, 4), None)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}
    embedder.zero_grad()
    value = supervised_loss(embedder, mini_batch_size=4)(columns(embedder, 4), None)
    value.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        assert_gradient_close(embedder.get_parameter(name).grad, gradient, name)


@pytest.mark.parametrize("margin", [0.1, 0.0, -0.1])
def test_false_negatives_are_masked_as_said(margin, folder):
    embedder, _, _ = plain_embedder(folder)
    loss = supervised_loss(embedder, false_negative_margin=margin, temperature=0.1, mini_batch_size=4)
    with torch.no_grad():
        value = loss(columns(embedder, 3), None)
    query_BD, positive_BD, negative_BD = (
        embedder.encode(SENTENCES[6 * i : 6 * i + 6], normalize_embeddings=True).astype(np.float64) for i in range(3)
    )
    total, masked = 0.0, 0
    for i in range(6):
        similarities = query_BD[i] @ np.concatenate([positive_BD, negative_BD]).T
        kept = similarities <= similarities[i] - margin
        kept[i] = True
        masked += int((~kept).sum())
        total += np.log(np.exp(similarities[kept] / 0.1).sum()) - similarities[i] / 0.1
    assert masked > 0
    assert value.item() == pytest.approx(total / 6, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("margin", [None, 0.05])
def test_losses_of_bfloat16_embeddings_are_float32(margin, folder):
    """From the embeddings as they come, bfloat16, all that follows has the digits of float32."""
    config = EmbedderConfig(prompt=PROMPT)
    embedder = build_embedder(load_backbone(folder), config, dtype=torch.bfloat16, device="cpu", max_length=64)
    query_BD, positive_BD, negative_BD = (
        embedder(features)["sentence_embedding"].detach().double() for features in columns(embedder, 3)
    )
    candidate_MD = torch.cat([positive_BD, negative_BD])
    similarity_BM = torch.nn.functional.normalize(query_BD) @ torch.nn.functional.normalize(candidate_MD).T
    if margin is not None:
        masked_BM = similarity_BM > similarity_BM.diagonal()[:, None] - margin
        assert masked_BM.fill_diagonal_(False).any()
        similarity_BM = similarity_BM.masked_fill(masked_BM, -torch.inf)
    expected = torch.nn.functional.cross_entropy(similarity_BM / 0.05, torch.arange(6))
    value = supervised_loss(embedder, false_negative_margin=margin, mini_batch_size=4)(columns(embedder, 3), None)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    if margin is None:
        views = info_nce(query_BD.bfloat16(), positive_BD.bfloat16(), temperature=0.05)
        expected = torch.nn.functional.cross_entropy(similarity_BM[:, :6] / 0.05, torch.arange(6))
        assert views.dtype == torch.float32
        assert views.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)


def test_settings_are_checked():
    with pytest.raises(InputError, match="temperature 0"):
        TwoViews(temperature=0)
    with pytest.raises(InputError, match="attention_dropout 1"):
        TwoViews(attention_dropout=1)
    for name, value in (
        ("temperature", 0), ("batches", "odd"), ("metric", "map"), ("false_negative_margin", 3), ("refresh_every", 0),
        ("refresh_margin", 1), ("eval_steps", 0), ("patience", 0),
    ):  # fmt: skip
        with pytest.raises(InputError, match=name):
            Supervised(**{name: value})
