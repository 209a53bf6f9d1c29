"""Which examples or texts make which batch: no text twice in a batch that holds its texts against each other."""

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
    """The rows that may come together in a batch, queries with their instruction.

    The trainer needs as many negatives of every row: where sets differ, those of the set that has most are kept and
    the others are filled up with positives of other queries of the same set, drawn from ``seed``.

    Args:
        sets: of labelled examples.
        homogeneous: whether each set is a pool of its own; else all are one.
        seed: of what is filled in.
        least_negatives: of a row, filled in where no set has as many.

    Returns:
        The pools, with columns ``query, positive, negative_1, ...``, and how many negatives were filled in.

    Raises:
        InputError: a set that must be filled up has one query only.
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
    """Which rows make which batch: no text twice in a batch, long rows first, so that they are padded little.

    The batches are those of sentence-transformers' samplers, reshuffled whenever all rows were seen, of each pool in
    proportion to its size; they do not depend on the size of mini-batches.

    Args:
        pools: see :func:`pools`.
        steps: batches wanted.
        batch_size: rows of a batch.
        seed: of the shuffles.

    Returns:
        Row numbers, counted through all pools.

    Raises:
        InputError: a pool has too few different rows for a batch.
    """
    samplers = [
        NoDuplicatesBatchSampler(rows, batch_size, drop_last=True, generator=torch.Generator(), seed=seed + number)
        for number, rows in enumerate(pools)
    ]
    for rows, sampler in zip(pools, samplers, strict=True):
        if next(iter(sampler), None) is None:
            who, instead = ("a set of pairs has", ", take batches=mixed") if len(pools) > 1 else ("the pairs have", "")
            raise InputError(
                f"batch_size {batch_size}: {who} {len(rows)} rows, and no text may come twice in a batch; "
                f"lower batch_size{instead} or give more pairs"
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
    """Which text when: the texts over and over, shuffled anew each time, cut into steps.

    Within a step texts go from long to short, so that the texts of a micro-batch are padded little. What a step
    consists of does not depend on the size of micro-batches.

    Args:
        texts: of a stage, in the order of their first use.
        steps: batches wanted.
        batch_size: texts of a step.
        seed: of every shuffle after the first, which :func:`selfembed.data.sampling.choose_texts` did.
        distinct: whether no text may come twice in a step, as where the others of a batch are negatives. One that
            would, because it stands in the corpus twice or was seen at the end of the round before, is left out or
            waits for the next step.
        length_N: of the texts, in any unit; None: their characters.

    Returns:
        ``steps * batch_size`` rows.

    Raises:
        InputError: there are fewer distinct texts than a step must have.
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
    """The rows cut into steps, in their order; one that a distinct step has already is the next step's first."""
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
    """The rows as they stand, and then over and over, shuffled anew each time."""
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
                "queries: give more pairs"
            )
        drawn.append(text)
    return drawn
