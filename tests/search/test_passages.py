"""Which files there are, and where in them a passage stands."""

from __future__ import annotations

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from datasets import Dataset

from selfembed.data.corpus import Corpus
from selfembed.errors import InputError
from selfembed.search.passages import Reading, Skipped, find_sources, read_passages


def read(given, **reading):
    """All passages as (file's name, unit, place, number, text), and what was skipped."""
    skipped, settings = Skipped(), Reading(**reading)
    found = [
        (os.path.basename(source.name), p.unit, p.place, p.number, p.text)
        for source in find_sources(given, settings, skipped)
        for p in read_passages(source, settings, skipped)
    ]
    return found, skipped.counts


def words(count: int, first: int = 0) -> list[str]:
    return [f"w{i}" for i in range(first, first + count)]


def test_lines_of_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("\n\none two\nthree\n\n  \nfour\n\n" + "\n".join(words(25)) + "\n")
    found, skipped = read(tmp_path, passage_words=10)
    assert [(line, number, text) for _, _, line, number, text in found] == [
        (3, 1, "one two three"),
        (7, 2, "four"),
        (9, 3, " ".join(words(10))),
        (19, 4, " ".join(words(10, 10))),
        (29, 5, " ".join(words(5, 20))),
    ]
    assert {unit for _, unit, *_ in found} == {"line"} and skipped == {}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_lines_of_compressed_text(tmp_path, suffix):
    content = ("\ufeffone\r\n\r\ntwo " + "x" * 70_000 + " three\r\nfour").encode()
    packed = gzip.compress(content) if suffix == ".gz" else zstandard.compress(content)
    (tmp_path / f"a.md{suffix}").write_bytes(packed)
    with pytest.raises(InputError, match="characters without a space"):
        read(tmp_path)
    content = ("\ufeffone\r\n\r\ntwo " + "xyz " * 40_000 + "three\r\nfour").encode()  # a line of several pieces
    packed = gzip.compress(content) if suffix == ".gz" else zstandard.compress(content)
    (tmp_path / f"a.md{suffix}").write_bytes(packed)
    found, _ = read(tmp_path, passage_words=None)
    assert [(unit, line) for _, unit, line, _, _ in found] == [("line", 1), ("line", 3)]
    assert found[1][4].endswith("xyz three four")


def test_rows(tmp_path):
    long = " ".join(words(23))
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n' + json.dumps({"text": long}) + "\n")
    (tmp_path / "b.csv").write_text('text,x\n"two\nlines",1\nthree,2\n')
    pq.write_table(pa.table({"text": ["four", "five"]}), tmp_path / "c.parquet")
    found, _ = read(tmp_path, passage_words=10)
    assert found == [
        ("a.jsonl", "row", 1, 1, "one"),
        ("a.jsonl", "row", 2, 1, " ".join(words(10))),
        ("a.jsonl", "row", 2, 2, " ".join(words(10, 10))),
        ("a.jsonl", "row", 2, 3, " ".join(words(3, 20))),
        ("b.csv", "row", 1, 1, "two lines"),
        ("b.csv", "row", 2, 1, "three"),
        ("c.parquet", "row", 1, 1, "four"),
        ("c.parquet", "row", 2, 1, "five"),
    ]


def test_rows_that_cannot_be_counted_are_not_called_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": "two"}\n')
    (tmp_path / "b.txt").write_bytes(b"bad \xff line\n\ngood line\n")
    found, skipped = read(tmp_path, on_bad="skip")
    assert [entry[1] for entry in found] == ["text", "passage"] and sum(skipped.values()) == 2


@pytest.mark.parametrize("count", [1, 9, 10, 11, 12, 21, 22, 35])
def test_rows_are_cut_as_a_corpus_cuts_them(tmp_path, count):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": " ".join(words(count))}) + "\n")
    found, _ = read(tmp_path, passage_words=10)
    assert [entry[4] for entry in found] == list(Corpus(tmp_path, passage_words=10).stream())
    assert [entry[2:4] for entry in found] == [(1, number) for number in range(1, len(found) + 1)]


def test_same_texts_as_a_corpus_of_the_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("z.txt", "sub/a.md", "b.rst"):
        (tmp_path / name).write_text("\n\n".join(" ".join(words(n, n)) for n in (3, 130, 250)))
    assert sorted(entry[4] for entry in read(tmp_path)[0]) == sorted(Corpus(tmp_path).stream())


def test_what_is_left_out_is_counted(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".hidden.txt").write_text("b")
    (tmp_path / "c.pdf").write_bytes(b"d")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path)
    found, skipped = read([tmp_path, tmp_path / "a.txt", str(tmp_path / "*.txt")])
    assert len(found) == 1
    assert skipped["file type not read: .pdf"] == 1 and skipped["linked folder"] == 1
    assert skipped["hidden file or folder"] == 1 and skipped["not a regular file"] == 1


def test_saved_data_set_and_iterables(tmp_path):
    Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(str(tmp_path / "saved"))
    found, _ = read([tmp_path, iter(["three"]), Dataset.from_dict({"text": ["four"]})])
    assert [(name, unit, place) for name, unit, place, _, _ in found] == [
        ("saved", "row", 1),
        ("saved", "row", 2),
        ("list_iterator 2", "row", 1),
        ("Dataset 3", "row", 1),
    ]


@pytest.mark.parametrize(
    ("reading", "message"),
    [({"passage_words": 0}, "passage_words"), ({"encoding": "klingon"}, "encoding"), ({"on_bad": "x"}, "on_bad")],
)
def test_bad_settings(tmp_path, reading, message):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match=message):
        read(tmp_path, **reading)


def test_bad_sources(tmp_path):
    (tmp_path / "a.pdf").write_text("a")
    with pytest.raises(InputError, match="of a type that is not read"):
        read(tmp_path / "a.pdf")
    with pytest.raises(InputError, match="no such file or folder"):
        read(str(tmp_path / "none.txt"))
