"""Rows of any file: what is a row, what its columns are, and what stands for a row but is none."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from selfembed.data.corpus import Corpus
from selfembed.data.ledger import Ledger
from selfembed.data.rows import Columns, column_names, file_place, read_rows
from selfembed.errors import InputError

ROWS = [{"id": str(i), "text": text} for i, text in enumerate(["one small text", "ünïcode, too", "a third"])]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))


def every(columns: Columns) -> tuple[str, ...]:
    return columns.names


def write(file: Path, rows: list[dict]) -> Path:
    name = file.name.split(".")[1]
    if name == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        content = sink.getvalue().to_pybytes()
    elif name in ("csv", "tsv"):
        mark = "," if name == "csv" else "\t"
        lines = [
            mark.join(rows[0]),
            *(mark.join(f'"{v}"' if "," in v and mark == "," else v for v in r.values()) for r in rows),
        ]
        content = "\n".join(lines).encode()
    else:
        content = (json.dumps(rows) if name == "json" else "\n".join(map(json.dumps, rows))).encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(file.suffix, bytes)
    file.write_bytes(pack(content))
    return file


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(suffix: str, packed: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"rows.{suffix}{packed}", ROWS)
    ledger = Ledger()
    assert list(read_rows(file, every, ledger)) == ROWS
    assert list(read_rows(file, lambda columns: ["text"], ledger)) == [{"text": row["text"]} for row in ROWS]
    assert column_names(file) == ("id", "text")
    assert ledger.files == 2 and ledger.skipped == {}


# ---- TSV has no quoting


def tsv(tmp_path: Path, *lines: str) -> list[str]:
    file = tmp_path / "a.tsv"
    file.write_text("\n".join(lines))
    return [row["text"] for row in read_rows(file, every, Ledger())]


@pytest.mark.parametrize(
    "texts",
    [
        ["Monday.", '"Nobody told us, said he.', "The mayor.", 'A crane lifted the bell."', "A shame."],
        ['"Yes", he said.', 'He said "yes"', '12" wide', 'odd " one', '"', '""', "5' 3\""],
        ['"Nobody told us.', '"Nor us.', "plain"],
        ['"A whole quotation."', "plain", '"Another one."'],
    ],
)
@pytest.mark.parametrize("place", ["last", "first", "alone"])
def test_typewriter_quotes_are_characters_in_tsv(texts: list[str], place: str, tmp_path: Path) -> None:
    form = {"last": "{i}\t{text}", "first": "{text}\t{i}", "alone": "{text}"}[place]
    header = {"last": "id\ttext", "first": "text\tid", "alone": "text"}[place]
    assert tsv(tmp_path, header, *(form.format(i=i, text=text) for i, text in enumerate(texts))) == texts


def test_tsv_that_a_csv_writer_quoted_is_read_as_written(tmp_path: Path) -> None:
    texts = ['He said "yes",\nthen\tleft', "plain", "two\n\nlines", "a\ttab", 'the "end"', "'single'"]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC):
        for columns in (["id", "text"], ["text", "id"]):
            with open(tmp_path / "a.tsv", "w", newline="") as file:
                writer = csv.DictWriter(file, columns, delimiter="\t", quoting=quoting)
                writer.writeheader()
                writer.writerows({"id": i, "text": text} for i, text in enumerate(texts))
            rows = list(read_rows(tmp_path / "a.tsv", every, Ledger()))
            assert [row["text"] for row in rows] == texts, (quoting, columns)
            assert [row["id"] for row in rows] == [str(i) for i in range(len(texts))]


def test_malformed_tsv_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text('id\ttext\n1\tgood\n\n2\n3\tgood "x\n4\tx\ty\n5\tend')
    with pytest.raises(InputError, match="a.tsv', line 4: malformed TSV .1 fields under a header of 2."):
        list(read_rows(file, every, Ledger()))
    ledger = Ledger(on_bad="skip")
    place = file_place(file)
    rows = [(place.number, row["text"]) for row in read_rows(file, every, ledger, place)]
    assert rows == [(2, "good"), (5, 'good "x'), (7, "end")] and ledger.skipped == {"malformed TSV": 2}


def test_rows_that_quotes_glue_in_csv_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        'id,text\n1,The bridge.\n2,"Nobody told us.\n3,The mayor.\n4,A crane lifted the bell."\n5,A shame.\n'
    )
    with pytest.raises(InputError, match="line 5: malformed CSV .a quote opened 2 lines before.*double that quote"):
        list(read_rows(file, every, Ledger()))
    file.write_text(
        'text,label\nThe bridge.,good\n"Nobody told us.,bad\nThe mayor.,good\nA bell.",bad\nA shame.,good\n'
    )
    with pytest.raises(InputError, match="line 5: malformed CSV .a quote opened 2 lines before"):
        list(read_rows(file, every, Ledger()))
    file.write_text('text,label\nA,good\n"Dear sir,\nI write, as ever,\nyours, Ann",good\n')
    assert [row["text"] for row in read_rows(file, every, Ledger())][1].endswith("yours, Ann")
    file.write_text('id,text\n1,"A letter\nDear sir, yes\n\n2, or rather 3, came\n"\n2,b\n')
    assert [row["text"] for row in read_rows(file, every, Ledger())][0].startswith("A letter\nDear")


# ---- columns


def test_columns_are_chosen_over_many_rows(tmp_path: Path) -> None:
    late = [{"id": f"doc-{i}"} for i in range(30)] + [{"id": "x", "text": f"Real text {i}."} for i in range(5)]
    file = write(tmp_path / "a.jsonl", late)
    corpus = Corpus(file)
    assert list(corpus) == [f"Real text {i}." for i in range(5)]
    assert corpus.report.skipped == {"row without 'text'": 30}
    later = [{"n": 1, "body": None}, {"n": 2}, {"body": "words"}, {"n": 3, "body": "more"}]
    assert list(Corpus(write(tmp_path / "b.json", later))) == ["words", "more"]


def test_a_column_with_a_number_among_its_strings_may_hold_the_texts(tmp_path: Path) -> None:
    rows = [{"id": "a", "body": 3}, {"id": "b", "body": "good text"}]
    with pytest.raises(InputError, match="no column 'text' and several columns of strings; the columns are .id., "):
        Corpus(write(tmp_path / "a.jsonl", rows)).texts()
    ages = [{"age": 3, "body": "one"}, {"age": "unknown", "body": "two"}, {"age": 4, "body": "three"}]
    assert list(Corpus(write(tmp_path / "b.jsonl", ages))) == ["one", "two", "three"]


def test_all_columns_are_those_of_late_rows_too(tmp_path: Path) -> None:
    rows = [{"id": str(i)} for i in range(1_500)] + [{"id": "x", "title": "late"}]
    file = write(tmp_path / "a.jsonl", rows)
    assert list(read_rows(file, every, Ledger()))[-1] == rows[-1]
    rows[0]["title"] = "early"
    assert list(read_rows(write(file, rows), lambda columns: ["id"], Ledger()))[-1] == {"id": "x"}


@pytest.mark.parametrize("suffix", ["txt", "csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_says_so(suffix: str, mark: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    content = {"jsonl": '{"text": "harbour"}\n', "json": '[{"text": "harbour"}]'}.get(suffix, "text\nharbour\n")
    file.write_bytes(f"\ufeff{content}".encode(mark))
    with pytest.raises(InputError, match="invalid utf-8 .begins as UTF-16 does.; convert it to UTF-8, or give"):
        Corpus(file).texts()
    assert list(Corpus(file, encoding="utf-16"))[-1].endswith("harbour")


@pytest.mark.parametrize(
    "lines",
    [
        ["The bridge was closed on Monday.", "The harbour froze."],
        ["Fresh bread smells better than perfume", "A crane"],
        ["他说今天天气很好", "好"],
        ["Is it?", "Yes"],
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_text_is_no_header(lines: list[str], suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 1: begins with .*which reads like a text; expected a header") as caught:
        Corpus(file).texts()
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)
    assert list(Corpus(file, column=lines[0])) == lines[1:]  # whoever insists


@pytest.mark.parametrize("header", ["body", "Review Text", "customer_feedback", "0", "text"])
def test_a_name_is_a_header(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\nThe harbour froze.\n")
    assert list(Corpus(tmp_path / "a.csv")) == ["The harbour froze."]


# ---- what stands for a file


@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.txt.gz", "a.jsonl.zst"]
)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "Git LFS pointer.*git lfs pull"),
        ("/annex/objects/SHA256E-s1--00.txt\n", "git-annex pointer.*git annex get"),
    ],
)
def test_a_pointer_is_no_text(name: str, content: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=f"{name}'.*{said}") as caught:
        Corpus(folder / name).texts()
    assert "\n" not in str(caught.value)
    (folder / "b.txt").write_text("kept")
    corpus = Corpus(folder, on_bad="skip")
    assert list(corpus) == ["kept"] and corpus.report.skipped == {said.split(".*")[0]: 1}
