"""Labelled examples: a query, a text that answers it (positive), and perhaps texts that do not (hard negatives)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
from selfembed.provenance import cache_dir, content_hash, texts_hash, writing

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
    fingerprint = content_hash(rows.column_names, texts_hash(_texts(rows)))
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


def joined(sets: Sequence[Examples], *, seed: int) -> tuple[Dataset, int]:
    """The rows of all sets, one set after the other, queries with their instruction.

    A batch needs as many negatives of every row: where sets differ, those of the set that has most are kept and the
    others are filled up with positives of other queries of the same set, drawn from ``seed``.

    Returns:
        The rows, with columns ``query, positive, negative_1, ...``, and how many negatives were filled in.

    Raises:
        InputError: a set that must be filled up has one query only.
    """
    most = max(one.negatives for one in sets)
    parts, filled = [], 0
    for one in sets:
        columns = {"query": one.queries, **{name: list(one.rows[name]) for name in one.rows.column_names[1:]}}
        for number in range(one.negatives + 1, most + 1):
            columns[f"negative_{number}"] = _other_positives(columns, one.name, seed=seed + number)
            filled += len(one.rows)
        parts.append(Dataset.from_dict(columns))
    return concatenate_datasets(parts), filled


def batches(
    rows: Dataset, sizes: Sequence[int], *, steps: int, batch_size: int, homogeneous: bool, seed: int
) -> list[list[int]]:
    """Which rows make which batch: no text twice in a batch, long rows first, so that they are padded little.

    The batches are those of sentence-transformers' samplers, reshuffled whenever all rows were seen; they do not
    depend on the size of mini-batches.

    Args:
        rows: of all sets, as :func:`joined` leaves them.
        sizes: rows of each set.
        steps: batches wanted.
        batch_size: rows of a batch.
        homogeneous: whether all rows of a batch shall be of one set; sets then have batches in proportion to size.
        seed: of the shuffles.

    Raises:
        InputError: there are too few different rows for a batch.
    """
    limits = np.cumsum([0, *sizes]).tolist()
    parts = [rows.select(range(*span)) for span in zip(limits, limits[1:], strict=False)] if homogeneous else [rows]
    for part in parts:
        if len(part) < batch_size:
            raise InputError(_too_few(len(part), batch_size, homogeneous))
    samplers = [
        NoDuplicatesBatchSampler(part, batch_size, drop_last=True, generator=torch.Generator(), seed=seed + number)
        for number, part in enumerate(parts)
    ]
    sampler = ProportionalBatchSampler(ConcatDataset(parts), samplers, generator=torch.Generator(), seed=seed)
    found: list[list[int]] = []
    epoch = 0
    while len(found) < steps:
        sampler.set_epoch(epoch)
        new = list(islice(sampler, steps - len(found)))
        if not new:
            raise InputError(_too_few(len(rows), batch_size, homogeneous))
        found += new
        epoch += 1
    length_N = [sum(map(len, row)) for row in zip(*(rows[name] for name in rows.column_names), strict=True)]
    return [sorted(batch, key=lambda row: -length_N[row]) for batch in found]


def with_mined_negatives(
    rows: Dataset, embedder: SentenceTransformer, *, margin: float, batch_size: int
) -> tuple[Dataset, int]:
    """The same rows with negatives that the embedder now takes for near to the query.

    They are positives of other queries, the nearest first; one whose similarity is within ``margin`` (a share of the
    positive's) of the positive's or above counts as a possible answer and is passed over (NV-Retriever, arXiv
    2407.15831); of several positives the farthest decides. A row for which not enough are found keeps its negatives
    or, where it has none, takes a positive of another query at random.

    Returns:
        The rows, and for how many of them new negatives were found.
    """
    count = max(1, rows.num_columns - 2)
    names = [f"negative_{number}" for number in range(1, count + 1)]
    mined = mine_hard_negatives(
        rows.select_columns(["query", "positive"]),
        embedder,
        num_negatives=count,
        relative_margin=margin,
        output_format="n-tuple",
        batch_size=batch_size,
        verbose=False,
    )
    columns = zip(*(mined[name] for name in mined.column_names), strict=True)
    by_pair = {(query, positive): negatives for query, positive, *negatives in columns}
    pairs = list(zip(rows["query"], rows["positive"], strict=True))
    if rows.num_columns > 2:
        before = list(zip(*(rows[name] for name in names), strict=True))
    else:
        before = [(text,) for text in _other_positives(rows.to_dict(), "pairs", seed=0)]
    after = [by_pair.get(pair, old) for pair, old in zip(pairs, before, strict=True)]
    fresh = {name: list(column) for name, column in zip(names, zip(*after, strict=True), strict=True)}
    dataset = Dataset.from_dict({"query": rows["query"], "positive": rows["positive"], **fresh})
    return dataset, sum(pair in by_pair for pair in pairs)


def _too_few(rows: int, batch_size: int, homogeneous: bool) -> str:
    kind = "a set of pairs has" if homogeneous else "the pairs have"
    return (
        f"batch_size {batch_size}: {kind} {rows} rows, and no text may come twice in a batch; lower batch_size"
        f"{', take batches=mixed' if homogeneous else ''} or give more pairs"
    )


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
    number = 0
    for batch in rows.iter(_ROWS_AT_ONCE):
        for values in zip(*batch.values(), strict=True):
            number += 1
            for column, value in zip(batch, values, strict=True):
                if not isinstance(value, str) or not value.strip():
                    raise InputError(
                        f"{where}: row {number} has {value!r} as {column!r}; expected a text: correct or remove it"
                    )
            if values[1] in values[2:]:
                raise InputError(
                    f"{where}: row {number} has its positive as a negative too ({values[1][:60]!r}); "
                    "correct or remove it"
                )


def _texts(rows: Dataset) -> Iterator[str]:
    for batch in rows.iter(_ROWS_AT_ONCE):
        for values in zip(*batch.values(), strict=True):
            yield from values


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
