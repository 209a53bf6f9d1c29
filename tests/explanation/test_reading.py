"""Texts are read once on either side, and what is measured is what the explanations measure one by one."""

from __future__ import annotations

import numpy as np
import pytest
from runs import add_random_adapter, plain_embedder
from tiny import SENTENCES

from selfembed import Corpus
from selfembed.errors import InputError
from selfembed.explanation.aligned_tokens import Explained, aligned_tokens
from selfembed.explanation.hit_miss import hit_miss
from selfembed.explanation.reading import read_texts, sample_texts
from selfembed.explanation.spectrum import alignment, compare_spectra


@pytest.fixture(scope="module")
def explained(tiny_backbone_dir):
    raw, backbone, _ = plain_embedder(tiny_backbone_dir)
    trained, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(trained)
    return Explained(
        embedder=trained.eval(),
        raw=raw,
        head=backbone.head(),
        tokenizer=backbone.tokenizer,
        backbone=backbone,
        record=None,
    )


def test_measured_as_by_the_explanations_themselves(explained):
    texts = [*SENTENCES[:9], "Too short to halve."]
    found = read_texts(explained, texts, k=7)
    vectors = [side.encode(texts) for side in (explained.raw, explained.embedder)]
    assert not np.allclose(*vectors, atol=1e-2)
    alone = compare_spectra(*vectors)
    words = [text.split() for text in texts[:9]]
    halves = ([" ".join(w[: len(w) // 2]) for w in words], [" ".join(w[len(w) // 2 :]) for w in words])
    for name, embedder in (("raw", explained.raw), ("trained", explained.embedder)):
        side, expected = getattr(found.space, name), getattr(alone, name)
        tokens = aligned_tokens(embedder, explained.head, explained.tokenizer, texts, k=7)
        assert getattr(found.hits, name) == hit_miss(tokens)
        assert [t.id for t in getattr(found, f"{name}_tokens")[0]] == [t.id for t in tokens[0]]
        assert side.uniformity == pytest.approx(expected.uniformity, abs=1e-4)
        assert side.pairs == 9
        assert side.alignment == pytest.approx(alignment(*(embedder.encode(half) for half in halves)), abs=1e-4)
    assert found.space.variation.by_component == pytest.approx(alone.variation.by_component, abs=1e-3)
    assert read_texts(explained, ["A fox.", "A river."]).space.raw.alignment is None


def test_no_text_is_encoded_twice(explained, monkeypatch):
    read = []
    encode = type(explained.raw).encode
    monkeypatch.setattr(
        type(explained.raw),
        "encode",
        lambda self, texts, **o: (read.append((id(self), *texts)), encode(self, texts, **o))[1],
    )
    read_texts(explained, SENTENCES[:6])
    for side in (explained.raw, explained.embedder):
        texts = [text for who, *given in read if who == id(side) for text in given]
        assert len(texts) == len(set(texts)) == 6 * 3  # each, and its halves


def test_sample():
    assert sorted(sample_texts(Corpus(iter(["a text", "b text", "a text"])), 3)) == ["a text", "b text"]
    assert sample_texts(Corpus(iter(SENTENCES)), 5) == sample_texts(Corpus(iter(SENTENCES)), 5)
    for texts, number, message in (
        (SENTENCES, 1, "sample 1: expected at least 2"),
        (["one", "one"], 9, "1 text; .* at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            sample_texts(Corpus(iter(texts)), number)
