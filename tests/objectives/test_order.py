"""Which text comes when, and under which number."""

from __future__ import annotations

import pytest
from torch import nn

from selfembed.objectives.objective import Budget, Material, Prepared
from selfembed.objectives.order import rows_in_order, training_order


def test_training_order():
    budget = Budget(steps=5, batch_size=4, micro_batch_size=2)
    lengths = [3, 9, 1, 7, 5, 2, 8, 4, 6]
    order = training_order(lengths, budget, seed=0)
    assert len(order) == 20 and order == training_order(lengths, budget, seed=0)
    steps = [order[k : k + 4] for k in range(0, 20, 4)]
    assert all([lengths[i] for i in step] == sorted((lengths[i] for i in step), reverse=True) for step in steps)
    assert sorted(order[:8]) == list(range(8)), "every text comes once before any comes twice"
    assert set(order[8:]) == set(range(9))
    assert training_order(lengths, budget, seed=1)[:8] == order[:8]
    assert training_order(lengths, budget, seed=1) != order


def material(texts: list[str], budget: Budget, **columns: list[str]) -> Material:
    nothing = dict.fromkeys(("backbone", "reading", "make_embedder", "make_head", "corpus"))
    return Material(**nothing, texts=texts, columns=columns, budget=budget)


@pytest.mark.parametrize("label", ["text", "turn"])
def test_labels(label):
    texts = ["no", "one fox", "two", "nothing at all", "three"]
    prepared = Prepared(loss=nn.Identity(), rows=[1, 2, 4], label=label)
    rows = rows_in_order(material(texts, Budget(steps=4, batch_size=2)), prepared)
    assert rows.column_names == ["text", "label"]
    assert set(rows["text"]) == {"one fox", "two", "three"}
    if label == "turn":
        assert rows["label"][:] == list(range(8))
    else:
        assert [texts[number] for number in rows["label"]] == rows["text"][:]


def test_further_columns_stay_beside_their_text_and_count_as_length():
    texts, queries = ["a long text", "b", "c"], ["", "a query that is longer than all", "of c"]
    given = material(texts, Budget(steps=1, batch_size=2), query=queries)
    rows = rows_in_order(given, Prepared(loss=nn.Identity(), rows=[1, 2]))
    assert rows.to_dict() == {"query": queries[1:], "text": ["b", "c"], "label": [1, 2]}


def test_as_many_texts_as_the_budget_has_turns_are_cut_into_steps_as_they_come():
    texts = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
    rows = rows_in_order(material(texts, Budget(steps=2, batch_size=3)), Prepared(loss=nn.Identity()))
    assert rows["label"][:] == [2, 1, 0, 5, 4, 3]
