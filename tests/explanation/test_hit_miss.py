"""Hits are aligned tokens that occur in their text; the histogram accounts for every text."""

from __future__ import annotations

import json

import pytest
from runs import plain_embedder
from tiny import SENTENCES

from selfembed.explanation.aligned_tokens import AlignedToken, aligned_tokens
from selfembed.explanation.hit_miss import HitMiss, HitMissChange, hit_miss


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


def test_counts_the_tokens_in_the_text():
    def found(*in_text: bool) -> list[AlignedToken]:
        return [AlignedToken(token="x", id=0, probability=0.5, in_text=hit) for hit in in_text]

    assert hit_miss([found(True, False), found(False, False), found(True, False)]) == HitMiss(k=2, histogram=(1, 2, 0))


def test_all_of_the_vocabulary_holds_all_of_the_text(plain):
    embedder, head, tokenizer = plain
    found = hit_miss(aligned_tokens(embedder, head, tokenizer, ["a door"], k=len(head.weight)))
    assert found.hits >= len(tokenizer("a door")["input_ids"]) and found.texts == 1


def test_raw_and_trained(plain):
    raw, trained = (hit_miss(aligned_tokens(*plain, texts, k=50)) for texts in (SENTENCES[:12], SENTENCES[12:24]))
    assert raw != trained
    change = HitMissChange(raw=raw, trained=trained)
    assert change.to_dict() == {"raw": raw.to_dict(), "trained": trained.to_dict()}
    lines = change.lines()
    assert lines[0] == "12 texts, their top 50 aligned tokens"
    assert len(lines) == 5 + 51 and f"{trained.mean:.2f}" in lines[3]
    assert f"{trained.hits / (12 * 50):.1%}" in lines[2] and trained.share == trained.hits / (12 * 50)
