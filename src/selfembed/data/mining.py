"""Hard negatives: mined with an embedder, or drawn among what answers other queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

_DRAWS = 100
_ROWS_AT_ONCE = 1_000


def row_values(rows: Dataset) -> Iterator[tuple[Any, ...]]:
    """Yields the values of each row, in the order of the columns."""
    for batch in rows.iter(_ROWS_AT_ONCE):
        yield from zip(*batch.values(), strict=True)


def with_mined_negatives(rows: Dataset, embedder: Any, *, margin: float) -> tuple[Dataset, int]:
    """Replaces negatives by texts that the embedder now takes for near to the query.

    They are positives of other queries, the nearest first. A text counts as a possible answer, and is passed over,
    where its similarity to the query comes within `margin` of the positive's or above it; of several positives the
    farthest decides. A row for which not enough are found keeps its negatives.

    Args:
        rows: Rows with the columns `query`, `positive` and negatives.
        embedder: A SentenceTransformer in its present state, or what stands in for it: vectors of all queries and
            positives.
        margin: Share of the positive's similarity.

    Returns:
        The rows, and for how many of them new negatives were found.

    References:
        NV-Retriever, arXiv 2407.15831.
    """
    from sentence_transformers.util import mine_hard_negatives

    with redirect_stderr(StringIO()):  # the miner draws progress bars unasked
        mined = mine_hard_negatives(
            rows.select_columns(["query", "positive"]),
            embedder,
            num_negatives=rows.num_columns - 2,
            relative_margin=margin,
            output_format="n-tuple",
            verbose=False,
        )
    negatives = {row[:2]: row[2:] for row in row_values(mined)}
    fresh = [row[:2] + negatives.get(row[:2], row[2:]) for row in row_values(rows)]
    columns = map(list, zip(*fresh, strict=True))
    dataset = Dataset.from_dict(dict(zip(rows.column_names, columns, strict=True)))
    return dataset, sum(row[:2] in negatives for row in fresh)


def in_batches(rows: Dataset, mined: Dataset, order: Sequence[Sequence[int]]) -> Dataset:
    """Lays out rows batch by batch, with mined negatives unless a row of the batch has one as query or positive.

    Args:
        rows: Rows with their own negatives; no text comes twice in a batch.
        mined: The same rows with mined negatives.
        order: Row numbers of each batch, see :func:`selfembed.data.batches.batches`.
    """
    pairs, negatives = rows.select_columns(["query", "positive"]), mined.select_columns(mined.column_names[2:])
    chosen = []
    for batch in order:
        taken = {text for column in pairs[batch].values() for text in column}
        found = zip(*negatives[batch].values(), strict=True)
        chosen += [row + (len(rows) if taken.isdisjoint(own) else 0) for row, own in zip(batch, found, strict=True)]
    return concatenate_datasets([rows, mined]).select(chosen)


def other_positives(columns: Mapping[str, Sequence[str | None]], *, seed: int) -> list[str | None]:
    """Draws for each row a positive of another query that is not in the row already.

    Args:
        columns: `query`, `positive` and perhaps negatives, some of which may be None.
        seed: Seed for the draws.

    Returns:
        A text for each row; None where none was found.
    """
    queries, positives = list(columns["query"]), list(columns["positive"])
    own: dict[str | None, set[str | None]] = {}
    for query, positive in zip(queries, positives, strict=True):
        own.setdefault(query, set()).add(positive)
    there = list(zip(*columns.values(), strict=True))
    random = np.random.default_rng(seed)
    drawn = []
    for query, row in zip(queries, there, strict=True):
        draws = (positives[i] for i in random.integers(len(positives), size=_DRAWS))
        drawn.append(next((text for text in draws if text not in own[query] and text not in row), None))
    return drawn
