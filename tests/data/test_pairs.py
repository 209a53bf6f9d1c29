"""Labelled examples: every form reads alike, bad rows are named, batches and mined negatives are what they claim."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
import zstandard
from datasets import Dataset, DatasetDict
from tiny import SENTENCES

from selfembed.data.batches import pools
from selfembed.data.pairs import instructed, read_examples, read_sets
from selfembed.errors import InputError

ROWS = [
    {"anchor": f"who, {name}?", "positive": text, "negative_2": f"2 {name}", "negative_1": f"1 {name}"}
    for name, text in zip(("fox", "keeper", "null"), SENTENCES, strict=False)
]


def write(folder: Path, kind: str, rows: list[dict]) -> Path:
    path = folder / f"pairs.{kind}"
    plain, _, packed = kind.partition(".")
    if packed:
        pack = gzip.compress if packed == "gz" else zstandard.compress
        path.write_bytes(pack(write(folder, plain, rows).read_bytes()))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "clone":
        path.mkdir()
        write(path, "jsonl", rows).rename(path / "train.jsonl")
        write(path, "jsonl", rows[:1]).rename(path / "test.jsonl")
    elif kind == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif kind == "folder":
        Dataset.from_list(rows).save_to_disk(path)
    elif kind == "splits":
        DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    "kind",
    ["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "csv.zst", "parquet.gz", "folder", "splits", "clone"],
)
def test_every_form_reads_alike(kind, tmp_path):
    read = read_examples(write(tmp_path, kind, ROWS))
    given = read_examples(Dataset.from_list(ROWS))
    assert read.rows.column_names == ["query", "positive", "negative_1", "negative_2"]
    assert read.rows.to_list() == [
        {"query": r["anchor"], "positive": r["positive"], "negative_1": r["negative_1"], "negative_2": r["negative_2"]}
        for r in ROWS
    ]
    assert read.fingerprint == given.fingerprint and read.negatives == 2
    assert read.name == (f"pairs.{kind}" if kind in ("folder", "splits", "clone") else "pairs")


def test_fingerprint_is_of_content():
    base = read_examples(Dataset.from_list(ROWS)).fingerprint
    assert read_examples(Dataset.from_list(ROWS[::-1])).fingerprint != base
    assert read_examples(Dataset.from_list(ROWS).remove_columns("negative_2")).fingerprint != base
    assert read_examples(Dataset.from_list(ROWS).rename_column("anchor", "question")).fingerprint == base
    assert read_examples(Dataset.from_list(ROWS).add_column("note", ["a", "b", "c"])).fingerprint == base


def test_names_that_are_found():
    rows = [{"hard_negative": "n", "answer": "p", "question": "q", "negative_10": "n10", "negative_9": "n9"}]
    read = read_examples(Dataset.from_list(rows))
    assert list(read.rows[0].items()) == [
        ("query", "q"), ("positive", "p"), ("negative_1", "n"), ("negative_2", "n9"), ("negative_3", "n10")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q"}, "pairs.jsonl: no column 'positive' or 'answer' or 'pos' among 'query'"),
        ({"positive": "p"}, "no column 'query' or 'anchor' or 'question'"),
        ({"query": " ", "positive": "p"}, "pairs.jsonl: row 2 has ' ' as 'query'; expected a text"),
        ({"query": "q", "positive": None}, "row 2 has None as 'positive'"),
        ({"query": "q", "positive": "p", "negative": ""}, "row 2 has '' as 'negative_1'"),
        ({"query": "q", "positive": "p", "negative": "p"}, "row 2 has its positive as a negative too"),
    ],
)
def test_bad_rows_are_named(row, message, tmp_path):
    good = {name: f"good {name}" for name in row}
    with pytest.raises(InputError, match=message) as caught:
        read_examples(write(tmp_path, "jsonl", [good, row, good]))
    assert "\n" not in str(caught.value)


def test_numbers_and_lists_are_no_texts():
    for value in (7, ["a", "b"]):
        with pytest.raises(InputError, match="row 1 has .* as 'positive'; expected a text"):
            read_examples(Dataset.from_list([{"query": "q", "positive": value}]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl: has no rows; expected at least one example"),
        ("a.jsonl", "\n", "a.jsonl: has no rows"),
        ("a.jsonl", '{"query": "q", "positi', "line 1: malformed JSON"),
        ("a.jsonl", '["q", "p"]', "row 1 is a list; expected an object"),
        ("a.csv", "query,positive\n", "a.csv: has no rows"),
        ("a.csv", "query,positive\na,b\na,b,c\n", "line 3: malformed CSV .3 fields under a header of 2"),
        ("a.csv", "query,positive\na\n", "line 2: malformed CSV .1 fields"),
        ("a.parquet", "no parquet", "unreadable file"),
        ("a.jsonl.gz", "no gzip", "unreadable file"),
        ("a.tsv", "version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        ("a.docx", "text", "expected a file of rows"),
        ("absent.jsonl", None, "there is no such file"),
        ("folder", None, "no data set is saved there"),
    ],
)
def test_bad_files_are_one_line(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    elif name == "folder":
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=message) as caught:
        read_examples(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_bad_sources():
    with pytest.raises(InputError, match="pairs: has no rows; expected at least one example"):
        read_examples(Dataset.from_dict({"query": [], "positive": []}))
    with pytest.raises(InputError, match="'no/such-set': is no file or folder here"):
        read_examples("no/such-set")
    with pytest.raises(InputError, match="a int; expected a file"):
        read_examples(7)
    with pytest.raises(InputError, match="pairs: no split 'train'; expected one of 'test'"):
        read_examples(DatasetDict({"test": Dataset.from_list(ROWS)}))
    with pytest.raises(InputError, match="two sets have this name"):
        read_sets([Dataset.from_list(ROWS), Dataset.from_list(ROWS)])


def test_instructions_are_for_queries_alone():
    sets = read_sets({"a": Dataset.from_list(ROWS), "b": Dataset.from_list(ROWS)})
    first, second = instructed(sets, {"a": "Find the sentence"})
    assert first.queries[0] == "Find the sentence: who, fox?" and second.queries[0] == "who, fox?"
    (rows,), filled = pools([first, second], homogeneous=False, seed=0)
    assert filled == 0
    assert rows["query"][:3] == first.queries and rows["query"][3:] == second.queries
    for name in ("positive", "negative_1", "negative_2"):
        assert rows[name] == [*first.rows[name], *second.rows[name]]
    with pytest.raises(InputError, match="instruction 'c': no pairs of that name; expected one of a, b"):
        instructed(sets, {"c": "x"})
    with pytest.raises(InputError, match="instruction 'a': empty"):
        instructed(sets, {"a": " "})


LABELLED = [
    ("How tall is it?", "42 metres.", 1),
    ("How tall is it?", "Born in 1901.", 0),
    ("How tall is it?", "Many beaches.", 0),
    ("Who paints?", "The sailors.", 1),
    ("Who paints?", "The crew, too.", 1),
    ("Who paints?", "Sold by the litre.", 0),
    ("Why?", "Nobody knows.", 0),
]


@pytest.mark.parametrize("kind", ["tsv", "csv.gz", "jsonl", "parquet"])
@pytest.mark.parametrize("form", [int, str, bool])
@pytest.mark.parametrize("name", ["label", "Label", "relevance", "score", "y"])
def test_rows_labelled_0_are_negatives(kind, form, name, tmp_path):
    rows = [{"question": q, "answer": a, name: form(label)} for q, a, label in LABELLED]
    if form is str and kind == "csv.gz":
        rows = [{**row, name: {"1": "true", "0": "False"}[row[name]]} for row in rows]
    examples = read_examples(write(tmp_path, kind, rows))
    assert examples.rows.column_names == ["query", "positive", "negative_1", "negative_2"]
    found = [tuple(row.values()) for row in examples.rows]
    assert found[0] == ("How tall is it?", "42 metres.", "Born in 1901.", "Many beaches.")
    assert [row[:3] for row in found[1:]] == [
        ("Who paints?", "The sailors.", "Sold by the litre."),
        ("Who paints?", "The crew, too.", "Sold by the litre."),
    ]
    assert [row[3] for row in found[1:]] == ["42 metres."] * 2, "drawn from the other query"
    assert examples.notes == {
        "rows labelled 0 without a positive": 1,
        "negatives drawn from other queries": 2,
    }
    assert examples.to_dict()["notes"] == examples.notes
    assert examples.fingerprint == read_examples(examples.rows).fingerprint


def test_labels_that_are_all_1_say_nothing():
    rows = Dataset.from_list([{"query": q, "positive": a, "label": 1} for q, a, label in LABELLED if label])
    examples = read_examples(rows)
    assert examples.negatives == 0 and len(examples.rows) == 3 and examples.notes == {}
    assert examples.fingerprint == read_examples(rows.remove_columns("label")).fingerprint
    graded = rows.remove_columns("label").add_column("score", [0.25, 1.0, 0.0])
    assert read_examples(graded).fingerprint == examples.fingerprint, "a score is no label"
    topics = rows.remove_columns("label").add_column("class", ["ships", "bread", "ships"])
    assert read_examples(topics).fingerprint == examples.fingerprint, "a topic is no label"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 0], "row 2 has 2 as 'label'; expected 1 where the text answers the query and 0 where not"),
        (["entailment", "neutral", "entailment"], "row 1 has 'entailment' as 'label'"),
        ([1, None, 0], "row 2 has None as 'label'"),
        ([0, 0, 0], "no row is labelled 1"),
    ],
)
def test_other_labels_are_refused(labels, message, tmp_path):
    rows = [{"query": "q", "positive": f"p{i}", "label": label} for i, label in enumerate(labels)]
    with pytest.raises(InputError, match=message) as caught:
        read_examples(write(tmp_path, "jsonl", rows))
    assert "\n" not in str(caught.value)


def test_a_text_labelled_both_ways_is_refused():
    rows = [{"query": "q", "positive": "p", "label": label} for label in (0, 1)]
    with pytest.raises(InputError, match="'p' is labelled 1 and 0 for 'q'; correct or remove one"):
        read_examples(Dataset.from_list(rows))
    only = [{"query": "q", "positive": f"p{label}", "label": label} for label in (0, 1)]
    assert read_examples(Dataset.from_list(only)).rows[0] == {"query": "q", "positive": "p1", "negative_1": "p0"}
