"""Batches: every example or text in its turn, none twice where the others of a batch are negatives."""

from __future__ import annotations

import pytest
from datasets import Dataset
from tiny import SENTENCES

from selfembed.data.batches import batches, pools, text_order
from selfembed.data.pairs import read_sets
from selfembed.errors import InputError


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


def test_the_order_of_texts():
    texts = ["x" * length for length in (3, 9, 1, 7, 5, 2, 8, 4, 6)]
    order = text_order(texts, steps=5, batch_size=4, seed=0)
    assert len(order) == 20 and order == text_order(texts, steps=5, batch_size=4, seed=0)
    steps = [order[k : k + 4] for k in range(0, 20, 4)]
    for step in steps:
        lengths = [len(texts[i]) for i in step]
        assert lengths == sorted(lengths, reverse=True)
    assert sorted(order[:8]) == list(range(8)), "every text comes once before any comes twice"
    assert set(order[8:]) == set(range(9))
    other = text_order(texts, steps=5, batch_size=4, seed=1)
    assert other[:8] == order[:8] and other != order
    assert text_order(texts, steps=2, batch_size=4, seed=0, distinct=True) == order[:8], "where nothing repeats"


@pytest.mark.parametrize("texts", range(2, 14))
@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_no_text_twice_in_a_step_where_rounds_meet(texts, batch_size):
    if batch_size > texts:
        with pytest.raises(InputError, match=f"batch_size {batch_size}: expected at most {texts}, since"):
            text_order(SENTENCES[:texts], steps=3, batch_size=batch_size, seed=0, distinct=True)
        return
    order = text_order(SENTENCES[:texts], steps=40, batch_size=batch_size, seed=0, distinct=True)
    for k in range(0, len(order), batch_size):
        assert len(set(order[k : k + batch_size])) == batch_size
    counts = [order.count(row) for row in range(texts)]
    assert len(order) == 40 * batch_size and max(counts) - min(counts) <= 2, "each in its turn"


def test_a_text_that_a_corpus_has_twice():
    texts = ["a", "b", "a", "c", "b", "a"]
    order = text_order(texts, steps=30, batch_size=3, seed=0, distinct=True)
    for k in range(0, 90, 3):
        assert {texts[row] for row in order[k : k + 3]} == {"a", "b", "c"}
    with pytest.raises(InputError, match="batch_size 4: expected at most 3, since so many different texts"):
        text_order(texts, steps=1, batch_size=4, seed=0, distinct=True)
    assert len(set(text_order(texts, steps=2, batch_size=3, seed=0))) == 6, "where it does no harm"
