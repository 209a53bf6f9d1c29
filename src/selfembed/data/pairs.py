"""Labelled examples: a query, a text that answers it (positive), and perhaps texts that do not (hard negatives)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler, ProportionalBatchSampler
from sentence_transformers.util import mine_hard_negatives
from torch.utils.data import ConcatDataset

from selfembed.errors import InputError
from selfembed.ground.files import cache_dir, writing
from selfembed.ground.hashing import content_hash, texts_hash

_QUERY = ("query", "anchor", "question")
_POSITIVE = ("positive", "answer", "pos")
_NEGATIVE = re.compile(r"(?:hard_)?negative(?:_?(\d+))?|neg")
_BUILDERS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_ROWS_AT_ONCE = 1_000
_FILL_DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A set of labelled examples.

    Args:
        name: of the set.
        rows: with the columns ``query, positive`` and, where there are any, ``negative_1, negative_2, ...``.
        fingerprint: content hash of the rows, whatever file they came from.
        instruction: what is asked of a text, said before every query and before no other text.
    """

    name: str
    rows: Dataset
    fingerprint: str
    instruction: str | None = None

    @property
    def negatives(self) -> int:
        """Hard negatives of every row."""
        return self.rows.num_columns - 2

    @property
    def queries(self) -> list[str]:
        """As they are embedded: ``instruction: query``."""
        before = f"{self.instruction}: " if self.instruction else ""
        return [before + query for query in self.rows["query"]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rows": len(self.rows),
            "negatives": self.negatives,
            "instruction": self.instruction,
            "fingerprint": self.fingerprint,
        }


def read_examples(source: Any, *, name: str | None = None) -> Examples:
    """Reads and checks one set.

    Args:
        source: a file (.jsonl, .json, .csv, .tsv, .parquet), a folder that ``datasets`` saved, a hub id (``ID`` or
            ``ID:CONFIG``) or a ``datasets.Dataset``; of several splits ``train``. The columns are the query
            (``query``, ``anchor`` or ``question``), the positive (``positive``, ``answer`` or ``pos``) and perhaps
            hard negatives (``negative``, ``negative_1``, ``negative_2`` ..., ``hard_negative``, ``neg``); others
            are not read.
        name: of the set; None takes the file's without its suffix, or the id's part after the slash.

    Raises:
        InputError: it cannot be read, has no rows, lacks a column, a text is empty, or a negative equals its positive.
    """
    is_file = isinstance(source, str | os.PathLike) and Path(source).is_file()
    where = str(source) if isinstance(source, str | os.PathLike) else name or "pairs"
    rows = _in_our_columns(_load(source), where)
    if not len(rows):
        raise InputError(f"{where}: has no rows; expected at least one example")
    _check(rows, where)
    texts = (text for row in _rows(rows) for text in row)
    fingerprint = content_hash(rows.column_names, texts_hash(texts))
    name = name or (Path(source).stem if is_file else where.rstrip("/").rpartition("/")[2])
    return Examples(name=name, rows=rows, fingerprint=fingerprint)


def read_sets(sources: Any) -> tuple[Examples, ...]:
    """Reads one set or several.

    Args:
        sources: what :func:`read_examples` takes, a list of such, or a mapping of names to such.

    Raises:
        InputError: a set is bad, or two have one name.
    """
    if isinstance(sources, Mapping) and not isinstance(sources, DatasetDict):
        named = list(sources.items())
    else:
        several = sources if isinstance(sources, list | tuple) else [sources]
        named = [(None, source) for source in several]
    sets = tuple(read_examples(source, name=name) for name, source in named)
    names = [one.name for one in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"pairs {name!r}: two sets have this name; rename a file, or name them in Python")
    return sets


def instructed(sets: Sequence[Examples], instructions: Mapping[str, str]) -> tuple[Examples, ...]:
    """The sets with their instructions, by name; those without one keep plain queries.

    Raises:
        InputError: an instruction is empty, or for none of them.
    """
    names = list(dict.fromkeys(one.name for one in sets))
    for name, text in instructions.items():
        if name not in names:
            raise InputError(f"instruction {name!r}: no pairs of that name; expected one of {', '.join(names)}")
        if not text.strip():
            raise InputError(f"instruction {name!r}: empty; give a text, or leave it out")
    return tuple(replace(one, instruction=instructions.get(one.name)) for one in sets)


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
            columns[f"negative_{number}"] = _other_positives(columns, one.name, seed=seed + number)
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
    length_N = [sum(map(len, row)) for rows in pools for row in _rows(rows)]
    return [sorted(batch, key=lambda row: -length_N[row]) for batch in found]


def with_mined_negatives(
    rows: Dataset, embedder: SentenceTransformer, *, margin: float, batch_size: int
) -> tuple[Dataset, int]:
    """The same rows with negatives that the embedder now takes for near to the query.

    They are positives of other queries, the nearest first; one whose similarity is within ``margin`` (a share of the
    positive's) of the positive's or above counts as a possible answer and is passed over (NV-Retriever, arXiv
    2407.15831); of several positives the farthest decides. A row for which not enough are found keeps its negatives.

    Returns:
        The rows, and for how many of them new negatives were found.
    """
    with redirect_stderr(StringIO()):  # the miner draws progress bars unasked
        mined = mine_hard_negatives(
            rows.select_columns(["query", "positive"]),
            embedder,
            num_negatives=rows.num_columns - 2,
            relative_margin=margin,
            output_format="n-tuple",
            batch_size=batch_size,
            verbose=False,
        )
    negatives = {row[:2]: row[2:] for row in _rows(mined)}
    fresh = [row[:2] + negatives.get(row[:2], row[2:]) for row in _rows(rows)]
    columns = map(list, zip(*fresh, strict=True))
    dataset = Dataset.from_dict(dict(zip(rows.column_names, columns, strict=True)))
    return dataset, sum(row[:2] in negatives for row in fresh)


def in_batches(rows: Dataset, mined: Dataset, order: Sequence[Sequence[int]]) -> Dataset:
    """The rows batch by batch, with mined negatives but where those are a query or positive of another row there.

    Args:
        rows: in whose batches no text comes twice.
        mined: the same rows with mined negatives.
        order: rows of each batch, see :func:`batches`.
    """
    pairs, negatives = rows.select_columns(["query", "positive"]), mined.select_columns(mined.column_names[2:])
    chosen = []
    for batch in order:
        taken = {text for column in pairs[batch].values() for text in column}
        found = zip(*negatives[batch].values(), strict=True)
        chosen += [row + (len(rows) if taken.isdisjoint(own) else 0) for row, own in zip(batch, found, strict=True)]
    return concatenate_datasets([rows, mined]).select(chosen)


def _load(source: Any) -> Dataset:
    """A source as ``datasets`` reads it."""
    if isinstance(source, Dataset):
        return source
    if isinstance(source, DatasetDict):
        return _train_split(source, "pairs")
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"pairs: a {type(source).__name__}; expected a file, a data set's id or folder, or a Dataset")
    path = Path(source).expanduser()
    if path.is_dir():
        return _train_split(_reading(source, lambda: load_from_disk(str(path))), source)
    builder = _BUILDERS.get(path.suffix.lower())
    if builder is None and path.is_file():
        raise InputError(f"{source}: expected a file of rows; give one of {', '.join(_BUILDERS)}")
    if builder and not path.is_file():
        raise InputError(f"{source}: there is no such file; give the path of one, or the id of a data set")
    if builder and not path.stat().st_size:
        raise InputError(f"{source}: is empty; expected at least one example")
    options: dict[str, Any] = {"split": "train", "cache_dir": str(cache_dir() / "datasets")}
    if builder:
        options["data_files"] = str(path)
    if builder == "csv":
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        options |= {"sep": separator, "keep_default_na": False}
    name, _, config = str(source).partition(":")
    with writing(cache_dir()):
        if builder:
            return _reading(source, lambda: load_dataset(builder, **options))
        return _reading(source, lambda: load_dataset(name, config or None, **options))


def _reading(source: Any, read: Any) -> Any:
    """What a library reads, its errors as one line."""
    try:
        return read()
    except Exception as error:  # whatever the builders, the network and the hub raise
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        said = (str(reason).strip().splitlines() or [type(reason).__name__])[0][:300]
        raise InputError(
            f"{source}: cannot be read as pairs ({said}); check the spelling, whether the file is empty or damaged, "
            "and for an id the network"
        ) from error


def _train_split(data: Any, source: Any) -> Dataset:
    if not isinstance(data, DatasetDict):
        return data
    if "train" not in data:
        raise InputError(f"{source}: no split 'train' among {', '.join(map(repr, data))}; give a split, saved alone")
    return data["train"]


def _in_our_columns(rows: Dataset, where: str) -> Dataset:
    """The columns of a set under our names, in our order."""
    names = {}
    for ours, others in (("query", _QUERY), ("positive", _POSITIVE)):
        found = next((name for name in others if name in rows.column_names), None)
        if found is None:
            raise InputError(
                f"{where}: no column {' or '.join(map(repr, others))} among "
                f"{', '.join(map(repr, rows.column_names)) or 'none'}; expected 'query', 'positive' and perhaps "
                "'negative': rename the columns"
            )
        names[found] = ours
    matches = [match for name in rows.column_names if (match := _NEGATIVE.fullmatch(name))]
    for number, match in enumerate(sorted(matches, key=lambda match: int(match[1] or 0)), 1):
        names[match[0]] = f"negative_{number}"
    chosen = rows.select_columns(list(names))
    changed = {theirs: ours for theirs, ours in names.items() if theirs != ours}
    # in two steps, since our name of one column may be theirs of another
    chosen = chosen.rename_columns({name: f"_{ours}" for name, ours in changed.items()})
    return chosen.rename_columns({f"_{ours}": ours for ours in changed.values()}).select_columns(list(names.values()))


def _check(rows: Dataset, where: str) -> None:
    """Refuses texts that are none, and negatives that are positives."""
    for number, (query, positive, *negatives) in enumerate(_rows(rows), 1):
        for column, value in zip(rows.column_names, (query, positive, *negatives), strict=True):
            if not isinstance(value, str) or not value.strip():
                raise InputError(
                    f"{where}: row {number} has {value!r} as {column!r}; expected a text: correct or remove it"
                )
        if positive in negatives:
            raise InputError(
                f"{where}: row {number} has its positive as a negative too ({positive[:60]!r}); correct or remove it"
            )


def _rows(rows: Dataset) -> Iterator[tuple[Any, ...]]:
    """The values of each row, in the order of the columns."""
    for batch in rows.iter(_ROWS_AT_ONCE):
        yield from zip(*batch.values(), strict=True)


def _other_positives(columns: Mapping[str, Sequence[str]], name: str, *, seed: int) -> list[str]:
    """For each row the positive of another, that is no positive of the same query and no negative it has already."""
    queries, positives = list(columns["query"]), list(columns["positive"])
    own: dict[str, set[str]] = {}
    for query, positive in zip(queries, positives, strict=True):
        own.setdefault(query, set()).add(positive)
    there = list(zip(*columns.values(), strict=True))
    random = np.random.default_rng(seed)
    drawn = []
    for query, row in zip(queries, there, strict=True):
        draws = (positives[i] for i in random.integers(len(positives), size=_FILL_DRAWS))
        text = next((text for text in draws if text not in own[query] and text not in row), None)
        if text is None:
            raise InputError(
                f"pairs {name}: no text can stand as a negative of {query[:60]!r}; expected positives of other "
                "queries: give more pairs"
            )
        drawn.append(text)
    return drawn
