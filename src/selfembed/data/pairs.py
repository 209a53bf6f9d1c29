"""Labelled examples: a query, a text that answers it (positive), and perhaps texts that do not (hard negatives)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset

from selfembed.data import hub
from selfembed.data.files import ROWS, kind, stem
from selfembed.data.ledger import Ledger, Place, numbered
from selfembed.data.mining import other_positives
from selfembed.data.rows import Choose, Columns, read_rows, with_columns
from selfembed.errors import InputError
from selfembed.ground.hashing import content_hash, texts_hash

_QUERY = ("query", "anchor", "question")
_POSITIVE = ("positive", "answer", "pos")
_NEGATIVE = re.compile(r"(?:hard_)?negative(?:_?(\d+))?|neg")
_LABEL = (
    "label", "labels", "relevance", "relevant", "is_relevant", "is_answer", "is_correct", "is_duplicate", "correct",
    "match", "target", "gold_label", "judgement", "judgment", "class", "gold", "y", "score",
)  # fmt: skip
_PERHAPS_LABEL = ("class", "gold", "y", "score")  # labels where they are 1 and 0; else how alike, a teacher's, a topic
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
_MOST_LABELLED = 8  # negatives of a row that labels make


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A set of labelled examples.

    Args:
        name: Name of the set.
        rows: Rows with the columns `query, positive` and, where there are any, `negative_1, negative_2, ...`.
        fingerprint: Content hash of the rows, whatever file they came from.
        instruction: What the text that is sought shall do for the query; put before queries only.
        notes: What reading labels left out or filled in: what -> how often.
        hub_id: Id of the data set on the hub that they were read from; None where they were not.
    """

    name: str
    rows: Dataset
    fingerprint: str
    instruction: str | None = None
    notes: Mapping[str, int] = field(default_factory=dict)
    hub_id: str | None = None

    @property
    def negatives(self) -> int:
        """Number of hard negatives of every row."""
        negatives: int = self.rows.num_columns - 2
        return negatives

    @property
    def queries(self) -> list[str]:
        """The queries as they are embedded: `instruction: query`."""
        before = f"{self.instruction}: " if self.instruction else ""
        return [before + query for query in self.rows["query"]]

    def to_dict(self) -> dict[str, Any]:
        """Describes the set for records, without the rows."""
        return {
            "name": self.name,
            "rows": len(self.rows),
            "negatives": self.negatives,
            "instruction": self.instruction,
            "fingerprint": self.fingerprint,
            **({"notes": dict(self.notes)} if self.notes else {}),
        }


def read_examples(source: Any, *, name: str | None = None) -> Examples:
    """Reads and checks one set of labelled examples.

    Args:
        source: A file of rows (.jsonl, .json, .csv, .tsv, .parquet, each also with .gz or .zst), a folder that
            `datasets` saved or that was cloned from the hub, a hub id (`ID` or `ID:CONFIG`) or a
            `datasets.Dataset`. Of several splits `train` is read. The columns are the query (`query`, `anchor` or
            `question`), the positive (`positive`, `answer` or `pos`) and perhaps hard negatives
            (`negative`, `negative_1`, `negative_2` ..., `hard_negative`, `neg`). Where a column says whether
            the text answers the query (`label`, `relevance` ...; 1 or 0), rows labelled 0 are hard negatives of
            the rows with the same query that are labelled 1. Other columns are not read.
        name: Name of the set; None takes the file's name without its suffix, or what follows the slash of an id.

    Raises:
        InputError: The source cannot be read, has no rows or lacks a column; a text is empty, or a row's positive is
            one of its negatives too; or a label is neither 0 nor 1, or contradicts another.
    """
    is_file = isinstance(source, str | os.PathLike) and Path(source).expanduser().is_file()
    where = str(source) if isinstance(source, str | os.PathLike) else name or "pairs"
    columns, rows, labels = _read(source, where)
    if not rows:
        raise InputError(f"{where}: has no rows; expected at least one example")
    _check(rows, columns, where)
    notes: dict[str, int] = {}
    if labels is not None:
        columns, rows = _by_label(columns, rows, labels, notes, where)
    fingerprint = content_hash(columns, texts_hash(text for row in rows for text in row))
    name = name or (stem(Path(source)) if is_file else where.rstrip("/").rpartition("/")[2])
    dataset = Dataset.from_dict(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    named = hub.hub_id(source) if isinstance(source, str) and not Path(source).expanduser().exists() else None
    hub_id = named[0] if named else None
    return Examples(name=name, rows=dataset, fingerprint=fingerprint, notes=notes, hub_id=hub_id)


def read_sets(sources: Any) -> tuple[Examples, ...]:
    """Reads one set of labelled examples or several.

    Args:
        sources: One source as :func:`read_examples` takes it, a list of sources, or a mapping of names to sources.

    Raises:
        InputError: A set cannot be used, see :func:`read_examples`, or two sets have the same name.
    """
    if isinstance(sources, Mapping) and not isinstance(sources, datasets.DatasetDict):
        named = list(sources.items())
    else:
        several = sources if isinstance(sources, list | tuple) else [sources]
        named = [(None, source) for source in several]
    sets = tuple(read_examples(source, name=name) for name, source in named)
    names = [one.name for one in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"pairs {name!r}: two sets have this name; expected two names; rename a file, or name them in Python"
            )
    return sets


def instructed(sets: Sequence[Examples], instructions: Mapping[str, str]) -> tuple[Examples, ...]:
    """Gives the sets their instructions; a set without one keeps plain queries.

    Args:
        sets: Sets of labelled examples.
        instructions: Instructions by the names of sets.

    Raises:
        InputError: An instruction is empty, or no set has its name.
    """
    names = list(dict.fromkeys(one.name for one in sets))
    for name, text in instructions.items():
        if name not in names:
            raise InputError(f"instruction {name!r}: no pairs of that name; expected one of {', '.join(names)}")
        if not text.strip():
            raise InputError(f"instruction {name!r}: empty; expected a text; give one, or leave it out")
    return tuple(replace(one, instruction=instructions.get(one.name)) for one in sets)


Rows = list[tuple[Any, ...]]


def _read(source: Any, where: str) -> tuple[list[str], Rows, list[int] | None]:
    """Reads our names of the columns, the values of each row, and its label where there are labels."""
    names: dict[str, str] = {}
    label = ""

    def choose(columns: Columns) -> Sequence[str]:
        nonlocal label
        names.update(_our_names(columns.names, where))
        folded = {name.lower(): name for name in reversed(columns.names) if name not in names}
        label = next((folded[name] for name in _LABEL if name in folded), "")
        return [*names, *([label] if label else [])]

    rows: Rows = []
    labels: list[Any] = []
    for number, row in enumerate(_stream(source, choose, where), 1):
        if not isinstance(row, Mapping):
            raise InputError(f"{where}: row {number} is a {type(row).__name__}; expected an object with named fields")
        rows.append(tuple(row.get(name) for name in names))
        labels.append(row.get(label))
    if not label:
        return list(names.values()), rows, None
    found = [_truth(value) for value in labels]
    if label.lower() in _PERHAPS_LABEL and set(found) != {0, 1}:
        return list(names.values()), rows, None
    for number, (value, truth) in enumerate(zip(labels, found, strict=True), 1):
        if truth is None:
            raise InputError(
                f"{where}: row {number} has {value!r} as {label!r}; expected 1 where the text answers the query and 0 "
                "where not; correct it, or remove that column"
            )
    return list(names.values()), rows, [int(truth or 0) for truth in found]


def _stream(source: Any, choose: Choose, where: str) -> Iterator[Any]:
    """Yields rows of whatever a source is."""
    ledger, place = Ledger(), Place(repr(where), "row")
    if isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
        source = hub.of_split(source, "train", where)
    if isinstance(source, Dataset):
        return hub.dataset_rows(source, choose, place)
    if isinstance(source, datasets.IterableDataset):
        return with_columns(numbered(source, place), choose, place)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"pairs: a {type(source).__name__}; expected a file, a data set's id or folder, or a Dataset")
    path = Path(source).expanduser()
    if path.is_dir():
        if hub.is_saved(path):
            return hub.saved_rows(path, "train", choose, ledger, place)
        files = hub.cloned_files(path, "train")
        if files is None:
            raise InputError(f"{source}: no data set is saved there; expected a file of rows, or a data set's folder")
        return _of_files(files[0], choose, ledger)
    if path.is_file():
        if not kind(path, ROWS):
            raise InputError(f"{source}: expected a file of rows ({', '.join(ROWS)}, also .gz or .zst); convert it")
        return read_rows(path, choose, ledger)
    named = hub.hub_id(str(source))
    if named is None:
        raise InputError(
            f"{source}: there is no such file; expected a path, or the id of a data set; check the spelling"
        )
    return hub.hub_rows(*named, "train", choose, ledger, place)


def _of_files(files: Iterable[Path], choose: Choose, ledger: Ledger) -> Iterator[Any]:
    for file in files:
        yield from read_rows(file, choose, ledger)


def _our_names(columns: Sequence[str], where: str) -> dict[str, str]:
    """Maps a set's names of columns to ours, in our order."""
    names = {}
    for ours, others in (("query", _QUERY), ("positive", _POSITIVE)):
        found = next((name for name in others if name in columns), None)
        if found is None:
            raise InputError(
                f"{where}: no column {' or '.join(map(repr, others))} among "
                f"{', '.join(map(repr, columns)) or 'none'}; expected 'query', 'positive' and perhaps "
                "'negative'; rename the columns"
            )
        names[found] = ours
    matches = [match for name in columns if (match := _NEGATIVE.fullmatch(name))]
    for number, match in enumerate(sorted(matches, key=lambda match: int(match[1] or 0)), 1):
        names[match[0]] = f"negative_{number}"
    return names


def _truth(value: Any) -> int | None:
    """A label as 1 or 0; None for what is neither."""
    said = str(value).strip().lower()
    return 1 if said in _TRUE else 0 if said in _FALSE else None


def _by_label(
    columns: list[str], rows: Rows, labels: list[int], notes: dict[str, int], where: str
) -> tuple[list[str], Rows]:
    """The rows labelled 1, with the texts of those labelled 0 as negatives of the same query."""
    wrong: dict[str, dict[str, None]] = {}
    right: dict[str, set[str]] = {}
    for row, label in zip(rows, labels, strict=True):
        if label:
            right.setdefault(row[0], set()).add(row[1])
        else:
            wrong.setdefault(row[0], {})[row[1]] = None
    if not right:
        raise InputError(f"{where}: no row is labelled 1; expected texts that answer their query; correct the labels")
    for query, texts in wrong.items():
        for text in right.get(query, set()).intersection(texts):
            raise InputError(
                f"{where}: {text[:60]!r} is labelled 1 and 0 for {query[:60]!r}; correct or remove one of the rows"
            )
    most = min(_MOST_LABELLED, max((len(wrong.get(query, ())) for query in right), default=0))
    names = [*columns, *(f"negative_{len(columns) - 1 + i}" for i in range(most))]
    kept: list[list[str | None]] = []
    for row, label in zip(rows, labels, strict=True):
        if label:
            found = list(wrong.get(row[0], ()))[:most]
            kept.append([*row, *found, *[None] * (most - len(found))])
    filled = _filled(names, kept, where)
    left_out = {
        "rows labelled 0 without a positive": sum(len(texts) for query, texts in wrong.items() if query not in right),
        f"labelled negatives beyond {_MOST_LABELLED}": sum(max(0, len(wrong.get(q, ())) - most) for q in right),
        "negatives drawn from other queries": filled,
    }
    notes.update({what: count for what, count in left_out.items() if count})
    return names, [tuple(row) for row in kept]


def _filled(names: Sequence[str], rows: list[list[str | None]], where: str) -> int:
    """Fills missing negatives with positives of other queries, or again with a row's own; returns how many."""
    filled = 0
    for column in range(2, len(names)):
        if all(row[column] is not None for row in rows):
            continue
        drawn = other_positives(dict(zip(names, zip(*rows, strict=True), strict=True)), seed=column)
        for row, text in zip(rows, drawn, strict=True):
            if row[column] is None:
                row[column] = text or row[2]
                filled += 1
            if row[column] is None:
                raise InputError(
                    f"{where}: no text can stand as a negative of {str(row[0])[:60]!r}; expected rows of other queries"
                )
    return filled


def _check(rows: Rows, columns: Sequence[str], where: str) -> None:
    """Refuses texts that are none, and negatives that are positives."""
    for number, (query, positive, *negatives) in enumerate(rows, 1):
        for column, value in zip(columns, (query, positive, *negatives), strict=True):
            if not isinstance(value, str) or not value.strip():
                raise InputError(
                    f"{where}: row {number} has {value!r} as {column!r}; expected a text; correct or remove it"
                )
        if positive in negatives:
            raise InputError(
                f"{where}: row {number} has its positive as a negative too ({positive[:60]!r}); correct or remove it"
            )
