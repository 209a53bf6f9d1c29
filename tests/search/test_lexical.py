"""Words and BM25, against the formula by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from selfembed.errors import InputError
from selfembed.search.lexical import LANGUAGES, LexicalIndex, Words

TEXTS = ["the red fox", "a fox and a fox in the snow", "green snow", "nothing of it"]


def test_words():
    assert Words("english").of("The foxes RUNNING in the snow_drift, x 42!") == ["fox", "run", "snow_drift", "42"]
    assert Words("none").of("The foxes") == ["the", "foxes"]
    assert Words("german").of("Die Häuser und das Haus") == ["haus", "haus"]
    assert Words("none").of("東京 tower") == ["東", "京", "tower"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages(language):
    assert Words(language).of("zebra quartz")


def test_bm25_by_hand(tmp_path):
    LexicalIndex.write(tmp_path / "x", TEXTS, "english")
    index = LexicalIndex(tmp_path / "x", "english")
    score_N = index.scores(index.words.of("fox fox snow"))
    lengths, mean = [2, 3, 2, 1], 2.0  # words that are left of each text

    def of(frequency: int, containing: int, length: int) -> float:
        idf = math.log(1 + (len(TEXTS) - containing + 0.5) / (containing + 0.5))
        return idf * frequency / (frequency + 1.5 * (1 - 0.75 + 0.75 * length / mean))

    expected = [
        2 * of(1, 2, lengths[0]),
        2 * of(2, 2, lengths[1]) + of(1, 2, lengths[1]),
        of(1, 2, lengths[2]),
        0,
    ]
    np.testing.assert_allclose(score_N, expected, rtol=1e-5)


def test_no_known_word(tmp_path):
    LexicalIndex.write(tmp_path / "x", TEXTS, "english")
    index = LexicalIndex(tmp_path / "x", "english")
    assert index.scores(index.words.of("zebra")) is None and index.words.of("of the") == []


def test_stop_words_alone(tmp_path):
    LexicalIndex.write(tmp_path / "x", ["the of", "and"], "english")
    index = LexicalIndex(tmp_path / "x", "english")
    assert index.scores(["fox"]) is None


def test_equal_texts_make_equal_files_in_any_process(tmp_path):
    LexicalIndex.write(tmp_path / "here", TEXTS, "english")
    code = (
        "import sys, pathlib; from selfembed.search.lexical import LexicalIndex; "
        f"LexicalIndex.write(pathlib.Path(sys.argv[1]), {TEXTS!r}, 'english')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, timeout=120)
    for file in (tmp_path / "here").iterdir():
        assert file.read_bytes() == (tmp_path / "there" / file.name).read_bytes(), file.name


def test_bad_language():
    with pytest.raises(InputError, match="language 'klingon': expected 'english', 'danish'"):
        Words("klingon")


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(InputError, match=r'^package bm25s: not installed; .*pip install "selfembed\[search\]"$'):
        Words("english")
