"""Hits are aligned tokens that occur in their text; the histogram accounts for every text."""

from __future__ import annotations

import json

import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.explain import hit_miss as module
from selfembed.explain.aligned_tokens import Explained, aligned_tokens
from selfembed.explain.hit_miss import HitMiss, hit_miss, hit_miss_change


@pytest.fixture(scope="module")
def plain(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    return embedder, backbone.head(), backbone.tokenizer


def test_figures_by_hand():
    found = HitMiss(k=3, histogram=(1, 4, 0, 4))
    assert (found.texts, found.hits, found.misses) == (9, 4 + 12, 27 - 16)
    assert found.mean == pytest.approx(16 / 9)
    assert found.mode == 1
    assert json.loads(json.dumps(found.to_dict())) == {
        "texts": 9,
        "k": 3,
        "hits": 16,
        "misses": 11,
        "mean": found.mean,
        "mode": 1,
        "histogram": [1, 4, 0, 4],
    }


def test_counts_the_aligned_tokens_in_the_text(plain, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 4)
    told = []
    found = hit_miss(*plain, SENTENCES[:10], k=200, progress=lambda *step: told.append(step))
    by_text = [sum(token.in_text for token in tokens) for tokens in aligned_tokens(*plain, SENTENCES[:10], k=200)]
    assert found.histogram == tuple(by_text.count(number) for number in range(201))
    assert found.hits == sum(by_text) > 0
    assert [done for _, done, _ in told] == [4, 8, 10]


def test_all_of_the_vocabulary_holds_all_of_the_text(plain):
    embedder, head, tokenizer = plain
    found = hit_miss(embedder, head, tokenizer, ["a door"], k=len(head.weight))
    (tokens,) = aligned_tokens(embedder, head, tokenizer, ["a door"], k=len(head.weight))
    assert found.hits == sum(token.in_text for token in tokens) >= len(tokenizer("a door")["input_ids"])


def test_raw_and_trained(plain, tiny_backbone_dir):
    raw, head, tokenizer = plain
    trained, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(trained)
    change = hit_miss_change(Explained(trained, raw, head, tokenizer), SENTENCES[:12], k=50)
    assert change.raw == hit_miss(raw, head, tokenizer, SENTENCES[:12], k=50)
    assert change.trained == hit_miss(trained, head, tokenizer, SENTENCES[:12], k=50)
    assert change.raw != change.trained
    assert change.to_dict() == {"raw": change.raw.to_dict(), "trained": change.trained.to_dict()}
    lines = change.lines()
    assert lines[0] == "12 texts, their top 50 aligned tokens"
    assert len(lines) == 5 + 51 and f"{change.trained.mean:.2f}" in lines[3]


def test_bad_input(plain, tmp_path):
    embedder, head, tokenizer = plain
    other = plain_embedder(save_tiny("llama", tmp_path, hidden_size=16))[1].head()
    for given, message in (
        ((embedder, head, tokenizer, []), "texts: 0 given; expected at least 1"),
        ((embedder, head, tokenizer, "one string"), "one string; expected a list"),
        ((embedder, head, tokenizer, ["fine", " \n"]), "text 2: empty"),
        ((embedder, head, tokenizer, [None]), "text 1: of type NoneType"),
        ((embedder, None, tokenizer, ["fine"]), "head: none; expected the backbone's decoder layer"),
        ((embedder, torch.nn.ReLU(), tokenizer, ["fine"]), "head: a ReLU without"),
        ((embedder, other, tokenizer, ["fine"]), "reads vectors of width 16, the embeddings have 32"),
    ):
        with pytest.raises(InputError, match=message):
            hit_miss(*given)
    for k in (0, len(head.weight) + 1):
        with pytest.raises(InputError, match=f"k {k}: expected 1 to {len(head.weight)}"):
            hit_miss(embedder, head, tokenizer, ["fine"], k=k)


def test_embedding_that_is_not_finite(plain, tiny_backbone_dir):
    embedder, _, _ = plain_embedder(tiny_backbone_dir)
    next(embedder.parameters()).data.fill_(float("nan"))
    with pytest.raises(InputError, match="embedding of text 1: not finite"):
        hit_miss(embedder, *plain[1:], SENTENCES[:2])
