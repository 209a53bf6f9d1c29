"""Taggers: spans, universal tags, and the two routes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from selfembed.errors import InputError
from selfembed.targets.tagger import UNIVERSAL_TAGS, HantaTagger, SpacyTagger, load_tagger
from selfembed.targets.tagger import _known_form as known_form
from selfembed.targets.tagger import _sentences as sentences

TEXTS = [
    "The red fox's record shows that they don't record it. O'Brien of AT&T said 1,000.5 “full-time” jobs vanished!",
    "Overall, he served as president of Willamette from 1853 to 1860, with Thomas Milton Gatch replacing him.",
    "Quirkless blorptastic gnomes frobnicated in St. Petersburg? Émigré naïveté… 😀 東京 " + "x" * 300,
]


@pytest.fixture(scope="module")
def hanta() -> HantaTagger:
    pytest.importorskip("HanTa")
    return HantaTagger()


def words_and_tags(tagger, text: str) -> list[tuple[str, str]]:
    (spans,) = tagger.tag([text])
    return [(text[start:end], tag) for start, end, tag in spans]


def test_hanta_tags(hanta):
    tagged = words_and_tags(hanta, TEXTS[0])
    assert tagged[:8] == [
        ("The", "DET"), ("red", "ADJ"), ("fox", "NOUN"), ("'s", "PART"), ("record", "NOUN"), ("shows", "VERB"),
        ("that", "SCONJ"), ("they", "PRON"),
    ]  # fmt: skip
    assert " ".join(word for word, _ in tagged[8:]) == (
        "do n't record it . O'Brien of AT&T said 1,000.5 “ full - time ” jobs vanished !"
    )
    assert dict(tagged[8:])["record"] == "VERB"
    assert dict(tagged)["O'Brien"] == "PROPN"
    assert dict(tagged)["1,000.5"] == "NUM"


def test_hanta_spans_are_ordered_and_cover_all_but_white_space(hanta):
    for text, spans in zip(TEXTS, hanta.tag(TEXTS), strict=True):
        assert {tag for *_, tag in spans} <= UNIVERSAL_TAGS
        assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:], strict=False))
        assert "".join(text[start:end] for start, end, _ in spans) == "".join(text.split())


def test_hanta_equals_its_own_tag_sent(hanta):
    for text in TEXTS:
        for sentence in sentences(text):
            words = [known_form(word) for *_, word in sentence]
            ours = [hanta._model.int2tag[code] for code in hanta.tag_words(words)]
            assert ours == hanta._model.tag_sent(words, taglevel=0)


@pytest.mark.parametrize("text", ["cafe\u0301 naïve", "पुराना पुल", "می\u200cخواهم", "שָׁלוֹם", "สภาท่าเรือ"])
def test_combining_marks_do_not_break_words(hanta, text):
    assert [word for word, _ in words_and_tags(hanta, text)] == text.split()


def test_marks_apart_or_in_a_letter_tag_alike(hanta):
    apart, one = (words_and_tags(hanta, f"The {word} opened.") for word in ("cafe\u0301", "café"))
    assert [tag for _, tag in apart] == [tag for _, tag in one]
    assert list(hanta.tag(["x\u0301" * 5_000]))[0][0][:2] == (0, 10_000), "a long one is quick"


def test_hanta_takes_texts_without_words(hanta):
    assert list(hanta.tag(["", " \n", "?!"])) == [[], [], [(0, 1, "PUNCT"), (1, 2, "PUNCT")]]


def test_hanta_travels_to_other_processes(hanta):
    other = pickle.loads(pickle.dumps(hanta))
    assert other.name == hanta.name
    assert list(other.tag(TEXTS)) == list(hanta.tag(TEXTS))


def test_auto_is_the_papers_tagger_or_hanta(hanta, monkeypatch):
    monkeypatch.setattr("selfembed.targets.tagger.find_spec", lambda name: None)
    assert load_tagger().name == hanta.name


def test_spacy_pipeline_from_a_folder(tmp_path: Path):
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("attribute_ruler")
    ruler.add([[{"LOWER": "fox"}]], {"POS": "NOUN"})
    ruler.add([[{"LOWER": "red"}]], {"POS": "ADJ"})
    nlp.to_disk(tmp_path / "rules")

    tagger = load_tagger(str(tmp_path / "rules"))

    assert words_and_tags(tagger, "A red fox") == [("A", "X"), ("red", "ADJ"), ("fox", "NOUN")]
    assert tagger._unneeded == ["sentencizer"]
    assert tagger.name.startswith("spacy:en_pipeline-") and spacy.__version__ in tagger.name
    assert pickle.loads(pickle.dumps(tagger)).name == tagger.name


def test_spacy_pipeline_without_parts_of_speech_raises(tmp_path: Path):
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("attribute_ruler")  # no patterns
    nlp.to_disk(tmp_path / "mute")
    with pytest.raises(InputError, match=r"mute.*sentencizer.*morphologizer"):
        SpacyTagger(tmp_path / "mute")


def test_missing_pipeline_raises():
    with pytest.raises(InputError, match="no_such_pipeline.*hanta"):
        load_tagger("no_such_pipeline")
