from __future__ import annotations

import numpy as np
import pytest

from selfembed.encoding.token_budget import TokenBudget, batches_within, budget_on
from selfembed.errors import InputError


def words(texts: list[str]) -> np.ndarray:
    return np.array([len(text.split()) for text in texts])


def test_padded_tokens_stay_within_the_budget() -> None:
    draw = np.random.default_rng(0)
    texts = [" ".join(["word"] * int(size)) for size in draw.integers(1, 60, size=1_300)]
    texts[7] = " ".join(["word"] * 300)  # longer than the budget: by itself
    found = list(batches_within(texts, TokenBudget(batch_size=16, tokens=120), words))
    assert sorted(row for rows in found for row in rows) == list(range(len(texts)))
    for rows in found:
        padded = len(rows) * max(words([texts[row] for row in rows]))
        assert len(rows) <= 16 and (padded <= 120 or rows == [7])
    assert found[0] == [7] and max(map(len, found)) == 16


def test_padding_is_by_tokens_not_by_characters() -> None:
    texts = ["aaaaaaaaaaaa", "a b c d e f", "bbbbbbbbbbb b", "a b c d e"]
    assert list(batches_within(texts, TokenBudget(batch_size=2, tokens=100), words)) == [[1, 3], [2, 0]]
    assert list(batches_within(texts, TokenBudget(batch_size=2), words)) == [[2, 0], [1, 3]]


def test_short_texts_are_cut_by_number() -> None:
    texts = ["a b c d e"] * 5
    assert [len(rows) for rows in batches_within(texts, TokenBudget(batch_size=3, tokens=5), words)] == [1] * 5
    assert [len(rows) for rows in batches_within(texts, TokenBudget(batch_size=3, tokens=5, short=9), words)] == [3, 2]


def test_texts_without_tokens_are_cut_by_number() -> None:
    found = list(batches_within(["a"] * 5, TokenBudget(batch_size=2, tokens=10), lambda texts: np.zeros(len(texts))))
    assert [len(rows) for rows in found] == [2, 2, 1]


def test_a_device_has_its_budget() -> None:
    assert budget_on("cpu").tokens < budget_on("cuda").tokens
    assert budget_on("cpu", batch_size=3, tokens=None) == TokenBudget(batch_size=3)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"tokens": 0}])
def test_nothing_fits_in_no_budget(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="0.*: expected at least 1"):
        TokenBudget(**settings)
