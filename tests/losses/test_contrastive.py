"""Two views by dropout: InfoNCE against sentence-transformers' plain loss, and views that differ."""

from __future__ import annotations

import pytest
import torch
from runs import add_random_adapter, plain_embedder
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.losses.contrastive import TwoViews, require_two_views, set_attention_dropout, two_views_loss


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp("backbone"))


def two_columns(embedder):
    first, second = SENTENCES[:6], SENTENCES[6:12]
    return [
        {key: value for key, value in embedder.preprocess(texts).items() if torch.is_tensor(value)}
        for texts in (first, second)
    ]


def test_equals_the_plain_loss_for_any_mini_batch(folder):
    embedder, _, _ = plain_embedder(folder)
    add_random_adapter(embedder, dropout=0.0)
    expected = MultipleNegativesRankingLoss(embedder, scale=20.0)(two_columns(embedder), None)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}
    for size in (2, 4, 6):
        embedder.zero_grad()
        value = two_views_loss(embedder, TwoViews(), mini_batch_size=size)(two_columns(embedder), None)
        value.backward()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                embedder.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6, msg=f"{size} {name}"
            )


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


def test_settings_are_checked():
    with pytest.raises(InputError, match="temperature 0"):
        TwoViews(temperature=0)
    with pytest.raises(InputError, match="attention_dropout 1"):
        TwoViews(attention_dropout=1)
