"""Which texts of a corpus are used, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset


def choose_texts(texts: Dataset, count: int, *, skip: int = 0, seed: int) -> Dataset:
    """Takes the ``count`` texts after the first ``skip`` of a seeded shuffle, starting over where the corpus ends.

    Args:
        texts: the rows of a corpus.
        count: of rows; all where there are fewer.
        skip: rows that were used before.
        seed: of the shuffle.
    """
    return texts.select(choose_rows(len(texts), count, skip=skip, seed=seed))


def choose_rows(rows: int, count: int, *, skip: int = 0, seed: int) -> np.ndarray:
    """The numbers of the rows that :func:`choose_texts` takes, each once at most."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[np.arange(skip, skip + min(count, rows)) % rows]
