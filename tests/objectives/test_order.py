"""Which text comes when, and under which number."""

from __future__ import annotations

import pytest
from torch import nn

from selfembed.errors import InputError
from selfembed.objectives.objective import Budget, Material, Prepared
from selfembed.objectives.order import rows_in_order, turns


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


def test_no_text_comes_twice_in_a_step_where_they_are_negatives():
    texts = [letter * (1 + number) for number, letter in enumerate("abcdefg")] + ["a"]
    budget = Budget(steps=9, batch_size=4)
    order = turns(material(texts, budget), None, distinct=True)
    assert len(order) == 36 and all(len({texts[row] for row in order[k : k + 4]}) == 4 for k in range(0, 36, 4))
    with pytest.raises(InputError, match="batch_size 8: expected at most 7"):
        turns(material(texts, Budget(steps=1, batch_size=8)), None, distinct=True)
