"""Pairs out of unlabelled text: what each source cuts, and that the two sides share no characters."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from selfembed import InputError
from selfembed.data.pair_sources import SOURCES, draw_pairs, sentences
from selfembed.data.passages import PassageRow

# Every word occurs once, so that a word on both sides is a character on both sides.
NUMBERS = [f"w{i}" for i in range(400)]


def of(text: str, document: int = 0, title: str = "") -> PassageRow:
    return PassageRow(text=text, words=len(text.split()), title=title, title_from="", document=document)


def passage(start: int, document: int, title: str = "", length: int = 40) -> PassageRow:
    words = NUMBERS[start : start + length]
    text = " ".join(f"{word.capitalize()}." if i % 10 == 9 else word.capitalize() for i, word in enumerate(words))
    return of(text, document, title)


PASSAGES = [
    passage(0, 0, "First title"),
    passage(40, 0, "First title"),
    passage(80, 1, "Second title"),
    passage(120, 2),
    passage(160, 2),
    passage(200, 3, "Fourth title"),
]


@pytest.mark.parametrize("source", sorted(SOURCES.keys() - {"crop"}))
def test_the_sides_of_a_pair_share_no_words(source):
    pairs = draw_pairs(PASSAGES, 60, weights={source: 1.0})
    assert len(pairs) == 60 and {pair.source for pair in pairs} == {source}
    for pair in pairs:
        sides = [set(side.lower().replace(".", "").split()) for side in (pair.query, pair.passage)]
        assert sides[0] and sides[1] and not sides[0] & sides[1]
        assert PASSAGES[pair.index].document == pair.document


def test_crops_are_of_one_passage_and_lose_words():
    for pair in draw_pairs(PASSAGES, 60, weights={"crop": 1.0}):
        own = PASSAGES[pair.index].text.split()
        for side in (pair.query, pair.passage):
            places = [own.index(word) for word in side.split()]
            assert places == sorted(places)


def test_neighbours_are_of_one_document():
    for pair in draw_pairs(PASSAGES, 30, weights={"neighbour": 1.0}):
        assert pair.document in (0, 2)
        assert {pair.query, pair.passage} == {one.text for one in PASSAGES if one.document == pair.document}


def test_a_title_that_begins_the_text_is_not_in_the_passage():
    text = "Gzip files: they hold compressed data of any kind and size."
    pairs = draw_pairs([of(text, 0, "Gzip files")], 1, weights={"title": 1.0})
    assert (pairs[0].query, pairs[0].passage) == ("Gzip files", "they hold compressed data of any kind and size.")


def test_the_first_sentence_is_taken_every_other_time_and_the_rest_is_in_order():
    pairs = draw_pairs(PASSAGES[:1], 200, weights={"sentence": 1.0})
    parts = sentences(PASSAGES[0].text)
    assert 90 < sum(pair.query == parts[0] for pair in pairs) < 160  # half, and a quarter of the other half
    for pair in pairs:
        assert pair.passage == " ".join(part for part in parts if part != pair.query)


def test_every_passage_is_used_before_any_comes_again():
    counts = Counter(pair.index for pair in draw_pairs(PASSAGES, 13, weights={"parts": 1.0}))
    assert sorted(counts.values()) == [2, 2, 2, 2, 2, 3]


def test_weights_and_seed():
    weights = {"title": 1.0, "sentence": 3.0}
    pairs = draw_pairs(PASSAGES, 600, weights=weights, seed=3)
    assert pairs == draw_pairs(PASSAGES, 600, weights=weights, seed=3) != draw_pairs(PASSAGES, 600, weights=weights)
    # Two of six passages have no title and give a sentence in its place: (4 x 1/4) of 6.
    assert 70 < Counter(pair.source for pair in pairs)["title"] < 130


def test_a_corpus_without_titles_of_short_lines():
    lines = [of(f"the {word} line of a file with short lines in it", i) for i, word in enumerate("abcdef")]
    assert {pair.source for pair in draw_pairs(lines, 12, weights={"title": 1.0, "sentence": 1.0, "parts": 0.1})} == {
        "parts"
    }
    assert draw_pairs(lines, 12, weights={"title": 1.0}) == []
    assert draw_pairs([of("short", 0)], 5, weights=dict.fromkeys(SOURCES, 1.0)) == []


def test_sentences_in_scripts_with_and_without_spaces():
    assert sentences('He said "no." Then he left, e.g. here.') == ['He said "no.', "Then he left, e.g. here."]
    assert sentences("我们走。你好！再见。") == ["我们走。", "你好！", "再见。"]
    text = "这本书很有意思。" * 3
    cut = SOURCES["sentence"]([of(text, 0)], 0, random.Random(0))
    assert cut == ("这本书很有意思。", "这本书很有意思。 这本书很有意思。")


def test_equal_sides_make_no_pair():
    assert draw_pairs([of("same words here. same words here.", 0)], 3, weights={"sentence": 1.0}) == []


def test_bad_weights():
    with pytest.raises(InputError, match="source 'titel': expected 'title', 'sentence'.*did you mean 'title'"):
        draw_pairs(PASSAGES, 1, weights={"titel": 1.0})
    for weights in ({}, {"title": -1.0, "crop": 1.0}, {"title": 0.0}):
        with pytest.raises(InputError, match="expected shares"):
            draw_pairs(PASSAGES, 1, weights=weights)
