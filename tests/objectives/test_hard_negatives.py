"""Hard negatives: what is mined, planted cases; the columns that they make."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from materials import material_of
from tiny import SENTENCES, save_tiny

from selfembed import Corpus, InputError, load_backbone
from selfembed.data.pair_sources import Pair
from selfembed.encoding.encode import encode
from selfembed.objectives import hard_negatives as mining
from selfembed.objectives.hard_negatives import hard_negatives
from selfembed.objectives.objective import Budget
from selfembed.objectives.text_pairs import TextPairs

TITLED = Dataset.from_dict(
    {
        "text": [f"{SENTENCES[n // 2]} {SENTENCES[16 + n]} A story." for n in range(16)],
        "title": [f"Story of {' '.join(SENTENCES[n // 2].split()[-4:])}" for n in range(16)],
    }
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(save_tiny("llama", tmp_path_factory.mktemp("negatives") / "model"))


def pairs_of(*passages):
    """The first searches; a passage is (text, document)."""
    return [
        Pair("wooden boat in winter" if n == 0 else f"query{n} query{n}", text, n, document, "title")
        for n, (text, document) in enumerate(passages)
    ]


def test_the_nearest_by_words_come_first():
    pairs = pairs_of(
        ("a wooden boat in winter storms", 0),
        ("bread and butter", 1),
        ("a boat on the lake", 2),
        ("a wooden boat on the lake", 3),
        ("music", 4),
    )
    assert hard_negatives(pairs, count=1, margin=0.05)[0] == [3]
    assert hard_negatives(pairs, count=5, margin=0.05)[0] == [3, 2], "what shares no word is no hard negative"
    assert hard_negatives(pairs, count=5, margin=0.05)[1] == [], "nor has a query that finds nothing any"


def test_the_own_document_never():
    pairs = pairs_of(("a wooden boat in winter storms", 0), ("a wooden boat on the lake", 0), ("a boat at sea", 1))
    assert hard_negatives(pairs, count=5, margin=0.0)[0] == [2]


def test_what_comes_within_the_margin_never(monkeypatch):
    scores = np.array([1.0, 1.0, 0.97, 0.94, -2.0], np.float32)
    monkeypatch.setattr(mining, "cosines", lambda *given: iter([scores] * 5))
    pairs = pairs_of(*((f"text {n}", n) for n in range(5)))
    for margin, expected in ((0.0, [2, 3, 4]), (0.05, [3, 4]), (0.5, [4])):
        assert hard_negatives(pairs, count=9, margin=margin, embedder=object())[0] == expected
    assert hard_negatives(pairs, count=9, margin=0.05, embedder=object())[4] == [], "below -2 - 5 % there is none"


def test_two_that_were_cut_from_one_passage_are_one():
    pairs = pairs_of(("a wooden boat in winter storms", 0), ("a wooden boat", 1), ("wooden boat a lake", 1))
    pairs[2] = Pair("other words", pairs[2].passage, 1, 1, "parts")
    assert hard_negatives(pairs, count=5, margin=0.01)[0] == [1]


def test_the_embedder_mines_by_cosine(backbone, monkeypatch):
    embedder = material_of(backbone.folder).embedder
    pairs = [Pair(" ".join(text.split()[:4]), text, n, n // 2, "title") for n, text in enumerate(SENTENCES[:20])]
    monkeypatch.setattr(mining, "_QUERIES", 3)
    found = hard_negatives(pairs, count=2, margin=0.1, embedder=embedder)
    query_PD, passage_PD = (
        encode(embedder, texts, normalize_embeddings=True)
        for texts in ([pair.query for pair in pairs], [pair.passage for pair in pairs])
    )
    cosine_PP = query_PD @ passage_PD.T
    for n, rows in enumerate(found):
        allowed = [m for m in range(20) if m // 2 != n // 2 and cosine_PP[n, m] < 0.9 * cosine_PP[n, n]]
        assert rows == sorted(allowed, key=lambda m: -cosine_PP[n, m])[:2]
    assert any(found)


@pytest.mark.parametrize("miner", ["bm25", "embedder"])
def test_columns_of_negatives(backbone, miner):
    corpus = Corpus(TITLED)
    texts = list(corpus.texts()["text"])
    given = material_of(backbone.folder, texts, corpus=corpus, places=range(16), budget=Budget(steps=4, batch_size=4))
    objective = TextPairs(negatives=2, miner=miner, margin=0.0)
    assert objective.columns == ("query", "negative_1", "negative_2", "text")
    cut = objective.cut(given)
    without = TextPairs().cut(given)
    assert (cut.texts, cut.columns["query"]) == (without.texts, without.columns["query"])
    prepared = objective.prepare(cut)
    counted = prepared.notes["negatives"]
    assert counted["miner"] == miner and sum(counted["pairs_by_number_found"].values()) == 16
    document_N, negative_NH = prepared.loss.document_N.tolist(), prepared.loss.negative_document_NH.tolist()
    found = 0
    for row, (own, others) in enumerate(zip(document_N, negative_NH, strict=True)):
        for name, document in zip(("negative_1", "negative_2"), others, strict=True):
            text, place = cut.columns[name][row], cut.column_places[name][row]
            if document < 0:
                assert (place, text) == (-1, cut.columns["query"][row])
            else:
                found += 1
                assert document != own and document == place // 2 and text in cut.texts
    assert found == sum(int(number) * count for number, count in counted["pairs_by_number_found"].items()) > 0


def test_looked_at_only_the_lengths_count(backbone):
    given = material_of(
        backbone.folder,
        corpus=Corpus(TITLED),
        places=range(16),
        budget=Budget(steps=1, batch_size=16),
        look=True,
        make_embedder=lambda: pytest.fail("nothing is embedded"),
    )
    cut = TextPairs(negatives=2, miner="embedder").cut(given)
    assert list(cut.columns) == ["query", "negative_1", "negative_2"]
    assert set(cut.columns["negative_2"]) == set(cut.texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": -1}, "negatives -1: expected at least 0"),
        ({"miner": "bm26"}, "miner 'bm26': expected 'bm25' or 'embedder'; did you mean 'bm25'"),
        ({"margin": 1.0}, "margin 1.0: expected a number from 0 to below 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        TextPairs(**options)
