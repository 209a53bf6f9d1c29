"""Passages know their title and their document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfembed.data.corpus import Corpus
from selfembed.data.plain_text import file_title


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))


def passages(source: object, **options: object) -> list[tuple[str, str, str, int]]:
    corpus = Corpus(source, **options)
    found = corpus.passages()
    assert found["text"][:] == corpus.texts()["text"][:]
    return [(row["text"], row["title"], row["title_from"], row["document"]) for row in found]


def test_a_column_of_titles(tmp_path: Path) -> None:
    rows = [("Bridges", "one two three four"), ("Bridges", "five"), ("Boats", "six"), (None, "seven"), ("", "eight")]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"title": t, "text": x}) for t, x in rows))
    assert passages(tmp_path / "a.jsonl", passage_words=2) == [
        ("one two", "Bridges", "column", 0),
        ("three four", "Bridges", "column", 0),
        ("five", "Bridges", "column", 0),  # the next row of one document
        ("six", "Boats", "column", 1),
        ("seven", "", "", 2),
        ("eight", "", "", 3),
    ]
    (tmp_path / "b.csv").write_text("Title,text\nBridges,one\n")
    assert passages(tmp_path / "b.csv") == [("one", "Bridges", "column", 0)]


def test_headings_of_marked_up_text(tmp_path: Path) -> None:
    (tmp_path / "a_walk.md").write_text("Before.\n\n# The harbour #\n\nBoats lie there.\n\nBoats\n-----\nMany.\n")
    (tmp_path / "b.rst").write_text("=====\nRules\n=====\n\nKeep left.\n")
    assert passages(tmp_path) == [
        ("Before.", "a walk", "file name", 0),
        ("# The harbour #", "", "", 0),
        ("Boats lie there.", "The harbour", "heading", 0),
        ("Boats ----- Many.", "Boats", "heading", 0),
        ("===== Rules =====", "", "", 1),
        ("Keep left.", "Rules", "heading", 1),
    ]


def test_first_lines_and_file_names(tmp_path: Path) -> None:
    (tmp_path / "part-00001.txt").write_text("Running text.\n\nMore.\n")
    (tmp_path / "part-00002.txt").write_text("The old bridge\n\nIt stood.\n\nIt fell.\n")
    (tmp_path / "part-00003.txt").write_text("A verse of\ntwo lines\n\nMore.\n")
    assert [row[1:] for row in passages(tmp_path)] == [
        ("", "", 0),
        ("", "", 0),
        ("", "", 1),
        ("The old bridge", "first line", 1),
        ("The old bridge", "first line", 1),
        ("", "", 2),
        ("", "", 2),
    ]
    texts = ["The old bridge\nIt stood for long.", "No title here.\nNo.", "one line"]
    assert [row[1:] for row in passages(iter(texts))] == [
        ("The old bridge", "first line", 0),
        ("", "", 1),
        ("", "", 2),
    ]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("how_to-boil.eggs.txt", "how to boil"),
        ("Harbour notes 2.md", "Harbour notes 2"),
        ("part-00001-of-00004.jsonl.gz", ""),
        ("train.txt", ""),
        ("data_3.txt", ""),
        ("旧桥.txt", "旧桥"),
        ("12.txt", ""),
    ],
)
def test_file_titles(name: str, title: str) -> None:
    assert file_title(Path(name)) == title


def test_documents_of_several_sources(tmp_path: Path) -> None:
    (tmp_path / "part-1.txt").write_text("a\n\nb")
    rows = passages([tmp_path / "part-1.txt", ["c", "d"], iter(["e f g"])], passage_words=1)
    assert [(text, document) for text, _, _, document in rows] == [
        ("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 3), ("f", 3), ("g", 3)
    ]  # fmt: skip
