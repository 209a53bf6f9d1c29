"""Which texts of a corpus are used, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset


def choose_texts(texts: Dataset, count: int, *, skip: int = 0, seed: int) -> Dataset:
    """Takes `count` texts of a seeded shuffle, after the first `skip`; starts over where the corpus ends.

    Args:
        texts: The rows of a corpus.
        count: Number of rows; all are taken where there are fewer.
        skip: Number of rows that were used before.
        seed: Seed for the shuffle.
    """
    return texts.select(choose_rows(len(texts), count, skip=skip, seed=seed))


def choose_rows(rows: int, count: int, *, skip: int = 0, seed: int) -> np.ndarray:
    """Gives the numbers of the rows that :func:`choose_texts` takes, each once at most."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[np.arange(skip, skip + min(count, rows)) % rows]
