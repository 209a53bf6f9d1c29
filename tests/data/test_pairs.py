"""Labelled examples: every form reads alike, bad rows are named, batches and mined negatives are what they claim."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from runs import plain_embedder
from tiny import SENTENCES

from selfembed.data.pairs import batches, in_batches, instructed, pools, read_examples, read_sets, with_mined_negatives
from selfembed.errors import InputError

ROWS = [
    {"anchor": f"who, {name}?", "positive": text, "negative_2": f"2 {name}", "negative_1": f"1 {name}"}
    for name, text in zip(("fox", "keeper", "null"), SENTENCES, strict=False)
]


def write(folder: Path, kind: str, rows: list[dict]) -> Path:
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
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


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "folder", "splits"])
def test_every_form_reads_alike(kind, tmp_path):
    read = read_examples(write(tmp_path, kind, ROWS))
    given = read_examples(Dataset.from_list(ROWS))
    assert read.rows.column_names == ["query", "positive", "negative_1", "negative_2"]
    assert read.rows.to_list() == [
        {"query": r["anchor"], "positive": r["positive"], "negative_1": r["negative_1"], "negative_2": r["negative_2"]}
        for r in ROWS
    ]
    assert read.fingerprint == given.fingerprint and read.negatives == 2
    assert read.name == (f"pairs.{kind}" if kind in ("folder", "splits") else "pairs")


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
        ("a.jsonl", "", "a.jsonl: is empty; expected at least one example"),
        ("a.jsonl", "\n", "cannot be read as pairs"),
        ("a.jsonl", '{"query": "q", "positi', "cannot be read as pairs"),
        ("a.csv", "query,positive\n", "corresponds to no data"),
        ("a.csv", "query,positive\na,b\na,b,c\n", "cannot be read as pairs"),
        ("a.csv", "query,positive\na\n", "row 1 has .* as 'positive'"),
        ("a.parquet", "no parquet", "cannot be read as pairs"),
        ("a.docx", "text", "expected a file of rows"),
        ("absent.jsonl", None, "there is no such file"),
        ("folder", None, "cannot be read as pairs"),
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
    with pytest.raises(InputError, match="no/such-set: cannot be read as pairs"):
        read_examples("no/such-set")
    with pytest.raises(InputError, match="a int; expected a file"):
        read_examples(7)
    with pytest.raises(InputError, match="no split 'train' among 'test'"):
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


def numbered(name: str, rows: int, negatives: int = 0) -> Dataset:
    columns = {"query": [f"{name} q{i}" for i in range(rows)], "positive": [f"{name} p{i}" for i in range(rows)]}
    for number in range(1, negatives + 1):
        columns[f"negative_{number}"] = [f"{name} n{number} {i}" for i in range(rows)]
    return Dataset.from_dict(columns)


def test_sets_with_fewer_negatives_are_filled_up():
    few = numbered("a", 6).to_dict()
    few["query"][1] = few["query"][0]  # two positives of one query
    sets = read_sets({"a": Dataset.from_dict(few), "b": numbered("b", 4, 2)})
    (rows,), filled = pools(sets, homogeneous=False, seed=0)
    assert filled == 12 and rows.column_names == ["query", "positive", "negative_1", "negative_2"]
    for row in list(rows)[:6]:
        own = {p for q, p in zip(few["query"], few["positive"], strict=True) if q == row["query"]}
        negatives = {row["negative_1"], row["negative_2"]}
        assert len(negatives) == 2 and negatives <= set(few["positive"]) - own
    assert rows.select(range(6, 10)).to_list() == sets[1].rows.to_list()
    again, other = (pools(sets, homogeneous=False, seed=seed)[0][0] for seed in (0, 1))
    assert again.to_list() == rows.to_list() != other.to_list()
    apart, _ = pools(sets, homogeneous=True, seed=0)
    assert [part.to_list() for part in apart] == [rows.to_list()[:6], rows.to_list()[6:]]
    lonely = Dataset.from_dict({"query": ["q", "q"], "positive": ["p0", "p1"]})
    with pytest.raises(InputError, match="no text can stand as a negative of 'q'"):
        pools(read_sets({"a": lonely, "b": numbered("b", 4, 1)}), homogeneous=False, seed=0)


def test_negatives_to_be_replaced_are_filled_in():
    sets = read_sets({"a": numbered("a", 6), "b": numbered("b", 4)})
    (rows,), filled = pools(sets, homogeneous=False, seed=0, least_negatives=1)
    assert filled == 10 and rows.column_names == ["query", "positive", "negative_1"]
    assert all(row["negative_1"] != row["positive"] for row in rows)


def test_no_positive_of_a_batch_is_mined_as_a_negative_in_it():
    rows = numbered("a", 6, 1)
    mined = numbered("a", 6).add_column("negative_1", [f"a p{(i + 1) % 6}" for i in range(6)])
    order = [[0, 1, 2], [3, 5, 0], [1]]
    found = in_batches(rows, mined, order)
    assert found["positive"][:] == [f"a p{row}" for batch in order for row in batch]
    assert found["negative_1"][:] == ["a n1 0", "a n1 1", "a p3", "a p4", "a n1 5", "a p1", "a p2"]


def test_batches():
    sets = read_sets({"a": numbered("a", 24), "b": numbered("b", 8)})
    (mixed_pool,), (apart, _) = pools(sets, homogeneous=False, seed=0)[0], pools(sets, homogeneous=True, seed=0)
    options = {"steps": 16, "batch_size": 4, "seed": 0}
    found = batches(apart, **options)
    kinds = [{row < 24 for row in batch} for batch in found]
    assert all(len(kind) == 1 for kind in kinds)
    assert sum(kind == {True} for kind in kinds) == 12, "two epochs of 6 and 2 batches: in proportion to size"
    for epoch in (found[:8], found[8:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(32)), "every row once an epoch"
    assert found[:8] != found[8:]
    assert found == batches(apart, **options) != batches(apart, **{**options, "seed": 1})
    assert found[:5] == batches(apart, **{**options, "steps": 5}), "a short run begins as a long one"
    mixed = batches([mixed_pool], **options)
    assert any(len({row < 24 for row in batch}) == 2 for batch in mixed)
    assert sorted(row for batch in mixed[:8] for row in batch) == list(range(32))


def test_no_text_comes_twice_in_a_batch():
    rows = Dataset.from_dict(
        {"query": [f"q{i // 2}" for i in range(12)], "positive": [f"p{i % 6}" for i in range(12)]}
    )
    for batch in batches([rows], steps=20, batch_size=3, seed=0):
        texts = [text for row in batch for text in rows[row].values()]
        assert len(texts) == len(set(texts)) == 6
    with pytest.raises(InputError, match="batch_size 7: the pairs have 12 rows, and no text may come twice"):
        batches([rows], steps=2, batch_size=7, seed=0)
    small, same = rows.select(range(4)), Dataset.from_dict({"query": ["q"] * 9, "positive": list("abcdefghi")})
    for pool, size in ((small, 4), (same, 9)):
        with pytest.raises(InputError, match=f"batch_size 5: a set of pairs has {size} rows"):
            batches([numbered("b", 40), pool], steps=2, batch_size=5, seed=0)


def test_mined_negatives_are_the_nearest_that_are_no_answers(tiny_backbone_dir, capfd):
    embedder, _, _ = plain_embedder(tiny_backbone_dir)
    queries = [" ".join(text.split()[:5]) for text in SENTENCES[:12]]
    queries[1] = queries[0]  # has two positives
    rows = Dataset.from_dict({"query": queries, "positive": SENTENCES[:12], "negative_1": SENTENCES[12:24]})
    fresh, found = with_mined_negatives(rows, embedder, margin=0.0, batch_size=4)
    assert fresh.column_names == rows.column_names
    assert fresh["query"] == rows["query"] and fresh["positive"] == rows["positive"]
    query_NE, text_NE = (embedder.encode(rows[name], normalize_embeddings=True) for name in ("query", "positive"))
    similarity_NN = query_NE @ text_NE.T
    mined = 0
    for i, row in enumerate(fresh):
        own = [j for j in range(12) if queries[j] == queries[i]]
        assert row["negative_1"] not in [SENTENCES[j] for j in own]
        bound = min(similarity_NN[i, j] for j in own)
        allowed = [j for j in range(12) if j not in own and similarity_NN[i, j] <= bound]
        if allowed:
            mined += 1
            assert row["negative_1"] == SENTENCES[max(allowed, key=lambda j: similarity_NN[i, j])]
        else:
            assert row["negative_1"] == rows[i]["negative_1"]
    assert found == mined > 0
    again, _ = with_mined_negatives(rows, embedder, margin=0.0, batch_size=4)
    assert again.to_list() == fresh.to_list() and np.isfinite(similarity_NN).all()
    assert "%|" not in capfd.readouterr().err, "no progress bars"
