"""Which examples or texts make which batch: no text twice in a batch whose texts are compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler, ProportionalBatchSampler
from torch.utils.data import ConcatDataset

from selfembed.data.mining import other_positives, row_values
from selfembed.data.pairs import Examples
from selfembed.errors import InputError


def pools(
    sets: Sequence[Examples], *, homogeneous: bool, seed: int, least_negatives: int = 0
) -> tuple[list[Dataset], int]:
    """Collects the rows that may come together in a batch, queries with their instruction.

    The trainer needs equally many negatives in every row. Where sets differ, the set that has most keeps its own and
    the others are filled up with positives of other queries of the same set.

    Args:
        sets: Sets of labelled examples.
        homogeneous: Whether each set is a pool of its own; otherwise all sets are one pool.
        seed: Seed for drawing what is filled in.
        least_negatives: Negatives that every row gets at least.

    Returns:
        The pools, with columns `query, positive, negative_1, ...`, and how many negatives were filled in.

    Raises:
        InputError: A set that must be filled up has one query only.
    """
    most = max(least_negatives, *(one.negatives for one in sets))
    parts, filled = [], 0
    for one in sets:
        columns = {"query": one.queries, **{name: list(one.rows[name]) for name in one.rows.column_names[1:]}}
        for number in range(one.negatives + 1, most + 1):
            columns[f"negative_{number}"] = _drawn(columns, one.name, seed=seed + number)
            filled += len(one.rows)
        parts.append(Dataset.from_dict(columns))
    return parts if homogeneous else [concatenate_datasets(parts)], filled


def batches(pools: Sequence[Dataset], *, steps: int, batch_size: int, seed: int) -> list[list[int]]:
    """Draws which rows make which batch: no text twice in a batch, long rows first, so that little is padding.

    The batches are those of sentence-transformers' samplers: each pool gives batches in proportion to its size, and
    all are reshuffled whenever every row was used. They do not depend on the size of mini-batches.

    Args:
        pools: The rows that may come together, see :func:`pools`.
        steps: Number of batches.
        batch_size: Rows of a batch.
        seed: Seed for the shuffles.

    Returns:
        The row numbers of each batch, counted through all pools.

    Raises:
        InputError: A pool has too few different rows for a batch.
    """
    samplers = [
        NoDuplicatesBatchSampler(rows, batch_size, drop_last=True, generator=torch.Generator(), seed=seed + number)
        for number, rows in enumerate(pools)
    ]
    for rows, sampler in zip(pools, samplers, strict=True):
        if next(iter(sampler), None) is None:
            several = len(pools) > 1
            who, instead = ("a set of pairs has", ", use `batches='mixed'`") if several else ("the pairs have", "")
            raise InputError(
                f"batch_size {batch_size}: {who} {len(rows)} rows, and no text may come twice in a batch; "
                f"expected a smaller batch; lower `batch_size`{instead} or give more pairs"
            )
    sampler = ProportionalBatchSampler(ConcatDataset(pools), samplers, generator=torch.Generator(), seed=seed)
    found: list[list[int]] = []
    for epoch in count():
        if len(found) == steps:
            break
        sampler.set_epoch(epoch)
        found += islice(sampler, steps - len(found))
    length_N = [sum(map(len, row)) for rows in pools for row in row_values(rows)]
    return [sorted(batch, key=lambda row: -length_N[row]) for batch in found]


def text_order(
    texts: Sequence[str],
    *,
    steps: int,
    batch_size: int,
    seed: int,
    distinct: bool = False,
    length_N: Sequence[int] | None = None,
) -> list[int]:
    """Decides which text is read when: the texts over and over, shuffled anew each time, cut into steps.

    Within a step texts go from long to short, so that little of a micro-batch is padding. What a step consists of does
    not depend on the size of micro-batches.

    Args:
        texts: The texts of a stage, in the order of their first use.
        steps: Number of batches.
        batch_size: Texts of a step.
        seed: Seed for every shuffle after the first; :func:`selfembed.data.sampling.choose_texts` did that one.
        distinct: Whether no text may come twice in a step, as is needed where the others of a batch are negatives. A
            text that stands in the corpus twice is then used once, and one that ended the last round waits for the
            next step.
        length_N: Lengths of the texts in any unit; None takes their characters.

    Returns:
        `steps * batch_size` row numbers.

    Raises:
        InputError: `distinct`, and there are fewer different texts than a step reads.
    """
    rows = np.arange(len(texts))
    if distinct:
        rows = np.array(list({text: row for row, text in reversed(list(enumerate(texts)))}.values())[::-1])
        if len(rows) < batch_size:
            raise InputError(
                f"batch_size {batch_size}: expected at most {len(rows)}, since so many different texts are there and "
                "none may come twice in a batch; lower it, or give more texts"
            )
    steps_SB = np.array(_cut(_rounds(rows, seed), steps, batch_size, distinct=distinct))
    lengths_SB = np.array([len(text) for text in texts] if length_N is None else length_N)[steps_SB]
    return np.take_along_axis(steps_SB, np.argsort(-lengths_SB, axis=1, kind="stable"), axis=1).ravel().tolist()


def _cut(rows: Iterator[int], steps: int, batch_size: int, *, distinct: bool) -> list[list[int]]:
    """Cuts rows into steps, in their order; a row that a distinct step has already is the first of the next one."""
    waiting: list[int] = []
    cut = []
    for _ in range(steps):
        step, waiting = waiting, []
        there = set(step) if distinct else set()
        while len(step) < batch_size:
            row = next(rows)
            if row not in there:
                step.append(row)
            elif row not in waiting:
                waiting.append(row)
            if distinct:
                there.add(row)
        cut.append(step)
    return cut


def _rounds(rows: np.ndarray, seed: int) -> Iterator[int]:
    """Yields the rows as they stand, and then over and over, shuffled anew each time."""
    random = np.random.default_rng(seed)
    yield from rows.tolist()
    while True:
        yield from rows[random.permutation(len(rows))].tolist()


def _drawn(columns: Mapping[str, Sequence[str]], name: str, *, seed: int) -> list[str]:
    drawn = []
    for query, text in zip(columns["query"], other_positives(columns, seed=seed), strict=True):
        if text is None:
            raise InputError(
                f"pairs {name}: no text can stand as a negative of {query[:60]!r}; expected positives of other "
                "queries; give more pairs"
            )
        drawn.append(text)
    return drawn
