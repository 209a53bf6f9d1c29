"""Searching: what is planted is found, each side says its part, bad input is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from search_data import HashEncoder, hash_encoder, vector
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.search.folder import IndexSettings
from selfembed.search.index import Index

PLANTED = "A heron waded through the flooded orchard."


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "a.txt").write_text("\n\n".join(SENTENCES))
    Index.build(hash_encoder(), folder / "a.txt", folder / "index")
    return folder / "index"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Ten thousand passages, one of them planted."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    rows = [" ".join(rng.choice(words, 12)) for _ in range(9_999)]
    rows.insert(6_543, PLANTED)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    settings = IndexSettings(vectors="int8")
    return Index.build(hash_encoder(), folder / "rows.jsonl", folder / "index", settings=settings)


@pytest.mark.parametrize(
    ("mode", "query"),
    [
        ("dense", f"<{PLANTED}>"),  # means it, says none of its words
        ("lexical", "which herons wade where orchards flood"),
        ("hybrid", f"<{PLANTED}>"),
        ("hybrid", "which herons wade where orchards flood"),
    ],
)
def test_planted_passage_among_ten_thousand(large, mode, query):
    assert len(large) == 10_000
    found = large.search(query, 5, mode=mode)
    places = [(hit.text, hit.unit, hit.place) for hit in found]
    # What both sides have by chance may stand before what one side has for sure.
    assert (PLANTED, "row", 6_544) in places[: 1 if mode != "hybrid" else 5]


def test_both_sides_and_their_fusion(small):
    index = Index.open(small, encoder=hash_encoder())
    query = SENTENCES[3]  # the text itself: first on both sides
    found = index.search(query, 10, fusion="ranks")
    dense, lexical = (index.search(query, 60, mode=mode) for mode in ("dense", "lexical"))
    first = found[0]
    assert first.text == query and first.score == pytest.approx(2 / 61)
    assert first.sides["dense"].rank == first.sides["lexical"].rank == 1
    ranks = {name: {hit.row: hit.rank for hit in side} for name, side in (("dense", dense), ("lexical", lexical))}
    for hit in found:
        assert hit.score == pytest.approx(sum(1 / (60 + side[hit.row]) for side in ranks.values() if hit.row in side))
        assert {name: side.rank for name, side in hit.sides.items()} == {
            name: side.get(hit.row) for name, side in ranks.items()
        }
    unit = {hit.row: hit.score for hit in dense}
    for hit in found:
        assert hit.sides["dense"].score == pytest.approx(unit[hit.row], abs=1e-6)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_fused_by_standard_scores(small):
    index = Index.open(small, encoder=hash_encoder())
    found = index.search(SENTENCES[3], 10)
    sides = {"dense": 0.6, "lexical": 0.4}
    scores = {side: dict.fromkeys(range(60), 0.0) for side in sides}  # the index has fewer than a side puts forward
    for side, by_row in scores.items():
        by_row |= {hit.row: hit.score for hit in index.search(SENTENCES[3], 60, mode=side)}
    expected_N = sum(
        weight * (values_N - values_N.mean()) / values_N.std()
        for side, weight in sides.items()
        if len(values_N := np.array(list(scores[side].values())))
    )
    assert [hit.row for hit in found] == np.argsort(-expected_N, kind="stable")[:10].tolist()
    np.testing.assert_allclose([hit.score for hit in found], np.sort(expected_N)[::-1][:10], rtol=1e-4)
    assert found[0].text == SENTENCES[3]


def test_a_side_that_did_not_rank_a_hit_still_scores_it(large):
    hit = large.search(f"herons {SENTENCES[0]}", 1, mode="lexical")[0]
    assert hit.sides.keys() == {"lexical"}
    found = large.search("herons", 1)
    cosine = np.dot(vector(found[0].text), HashEncoder().queries(["herons"])[0])
    cosine /= np.linalg.norm(vector(found[0].text)) * np.linalg.norm(HashEncoder().queries(["herons"])[0])
    assert found[0].sides["dense"].score == pytest.approx(cosine, abs=1e-3)


def test_where_a_hit_stands(small, monkeypatch):
    monkeypatch.chdir(small.parent)
    hit = Index.open(small, encoder=hash_encoder()).search(SENTENCES[7], 1)[0]
    assert hit.where() == "a.txt, line 15" and hit.file == str(small.parent / "a.txt") and hit.passage == 8
    assert set(hit.to_dict()) == {
        "rank", "score", "text", "file", "unit", "place", "passage", "row", "sides", "stale",
    }  # fmt: skip


def test_lexical_search_needs_no_embedder(small):
    found = Index.open(small).search("violin concerto", mode="lexical")
    assert found[0].text == SENTENCES[7] and found.notes == []


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("", {}, "query: empty"),
        (" \n", {}, "query: empty"),
        (None, {}, "query: empty"),
        ("fox", {"k": 0}, "k 0: expected at least 1"),
        ("fox", {"mode": "magic"}, "mode 'magic': expected 'hybrid', 'dense' or 'lexical'"),
        ("of the and", {"mode": "lexical"}, "query 'of the and': only stop words or signs"),
        ("fox", {"fusion": "votes"}, "fusion 'votes': expected 'scores' or 'ranks'"),
        ("fox", {"sparse": True}, "sparse: the index was made without it; expected .*; leave it out"),
        ("fox", {"sparse": True, "mode": "dense"}, "sparse: is a part of mode 'hybrid'; expected .*; leave it out"),
    ],
)
def test_bad_queries(query, options, message, small):
    with pytest.raises(InputError, match=message) as error:
        Index.open(small, encoder=hash_encoder()).search(query, **options)
    assert len(str(error.value).splitlines()) == 1


def test_notes(small):
    index = Index.open(small, encoder=hash_encoder())
    found = index.search("of the and")
    assert found.notes == ["query 'of the and': only stop words or signs; ranked by meaning alone"]
    assert len(found) == 10
    found = index.search("zebra", mode="lexical")
    assert len(found) == 0 and found.notes == ["query 'zebra': no passage has one of its words"]
    found = index.search("fox", 61, mode="dense")
    assert len(found) == 60 and found.notes == ["k 61: the index has 60 passages; here are all"]


def test_source_that_changed_since(small, tmp_path):
    (tmp_path / "a.txt").write_text(SENTENCES[0])
    (tmp_path / "b.txt").write_text(SENTENCES[1])
    index = Index.build(hash_encoder(), tmp_path, tmp_path.parent / f"{tmp_path.name}-index")
    (tmp_path / "a.txt").write_text("something else")
    (tmp_path / "b.txt").unlink()
    found = index.search("lighthouse", 2)
    assert [hit.stale for hit in found] == [True, True] and len(found.notes) == 2
    assert found.notes[0].endswith("a.txt: changed since it was indexed; index the texts again")


def test_another_embedder(small):
    with pytest.raises(InputError, match="embedder; other is not hash; expected the same; index the texts again"):
        Index.open(small, encoder=hash_encoder(name="other", fingerprint="other")).search("fox")
    with pytest.raises(InputError, match="made by another embedder; hash has changed since"):
        Index.open(small, encoder=hash_encoder(fingerprint="other")).search("fox")
    with pytest.raises(InputError, match="its embedder hash is gone; expected .*; say where it is now"):
        Index.open(small).search("fox")


def copied(small, tmp_path):
    import shutil

    shutil.copytree(small, tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("name", ["vectors.npy", "passages.arrow", "lexical/vocab.index.json"])
def test_changed_underneath(name, small, tmp_path):
    folder = copied(small, tmp_path)
    file = folder / "data-1" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"its file data-1/{name} is changed since it was written; .*; index"):
        Index.open(folder)
    file.unlink()
    with pytest.raises(InputError, match="is missing; expected .*; index the texts again"):
        Index.open(folder, verify=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 99}', "\xff"])
def test_damaged_manifest(content, small, tmp_path):
    folder = copied(small, tmp_path)
    (folder / "index.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match="index the texts again"):
        Index.open(folder)


def test_no_index(tmp_path):
    with pytest.raises(InputError, match="has no index.json; expected one that selfembed index has made"):
        Index.open(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Index.open(tmp_path / "none")


def test_approximate_search_finds_nearly_what_exact_search_finds(tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed")
    texts = [f"{a} {b}" for a in SENTENCES for b in SENTENCES[:20]]
    exact = Index.build(hash_encoder(), iter(texts), tmp_path / "exact")
    settings = IndexSettings(approximate="faiss")
    near = Index.build(hash_encoder(), iter(texts), tmp_path / "near", settings=settings)
    same = [
        len({hit.row for hit in near.search(q, mode="dense")} & {hit.row for hit in exact.search(q, mode="dense")})
        for q in SENTENCES
    ]
    assert np.mean(same) > 9.5
