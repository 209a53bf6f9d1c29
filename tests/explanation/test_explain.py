"""`explain` in Python finds what the explanations' own functions find, and says it in lines and in JSON."""

from __future__ import annotations

import json

import pytest
from runs import short_train
from tiny import SENTENCES, save_tiny

import selfembed
from selfembed.errors import InputError
from selfembed.explanation.aligned_tokens import EXAMPLES, aligned_tokens, load_explained
from selfembed.explanation.reading import read_texts, sample_texts
from selfembed.explanation.similarity import explain_similarity
from selfembed.recipes import choose_stages, find_recipe


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    raw = save_tiny("llama", folder / "raw", tied=False)
    short_train(raw, folder / "out", recipe=choose_stages(find_recipe("text2token"), ["data_driven"]))
    return folder / "out"


def test_two_texts(out):
    found = selfembed.explain(out, SENTENCES[:2], k=4)
    known = load_explained(out)
    parts = (known.head, known.tokenizer)
    assert [words.raw for words in found.texts] == aligned_tokens(known.raw, *parts, SENTENCES[:2], k=4)
    assert [words.trained for words in found.texts] == aligned_tokens(known.embedder, *parts, SENTENCES[:2], k=4)
    assert found.similarity == explain_similarity(known.embedder, *parts, *SENTENCES[:2], k=4)
    assert found.hits is found.space is None
    value = json.loads(json.dumps(found.to_dict()))
    assert set(value) == {"texts", "similarity"} and set(value["texts"][0]) == {"text", "raw", "trained"}
    lines = found.lines()
    assert lines[0] == SENTENCES[0] and lines[1].startswith("  raw backbone")
    assert "Why the embedder finds these two alike, or not:" in lines


def test_corpus(out):
    corpus = selfembed.Corpus(iter(SENTENCES))
    told = []
    found = selfembed.explain(out, corpus=corpus, sample=9, k=3, progress=lambda *report: told.append(report))
    known = read_texts(load_explained(out), sample_texts(corpus, 9), k=3)
    assert (found.hits, found.space.rows()) == (known.hits, known.space.rows()) and found.texts == []
    assert set(found.to_dict()) == {"texts", "hit_miss", "spectrum"} and told[-1][0] == "trained vectors"
    assert not any("occurs in the text, case" in line for line in found.lines())


def test_without_texts_the_examples(out):
    assert [words.text for words in selfembed.explain(out, k=1).texts] == list(EXAMPLES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": "one string"}, "texts: one string; expected a list"),
        ({"texts": ["a", " "]}, "text 2: empty"),
        ({"k": 0}, "k 0: expected at least 1"),
        ({"corpus": iter(["only this"])}, "expected at least 2 different ones"),
    ],
)
def test_bad_input(given, message, out):
    with pytest.raises(InputError, match=message):
        selfembed.explain(out, **given)
    with pytest.raises(InputError, match="no such folder"):
        selfembed.explain(out / "none")
