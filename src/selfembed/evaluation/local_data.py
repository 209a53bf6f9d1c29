"""mteb's own tasks over data in a local folder, and how that data stands to mteb's.

A task's folder holds a file a split (``test.parquet``), in sub-folders where there are several languages; a retrieval
task's holds ``corpus``, ``queries`` and ``qrels``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.text.summarization import AbsTaskSummarization

from selfembed.errors import InputError
from selfembed.evaluation.own_data import reranking_split, retrieval_split
from selfembed.evaluation.tables import find_file, read_columns

Verdict = Literal["exact", "near", "not MTEB's", "unchecked"]

_NEAR = 0.03  # the largest relative difference of a count, total or mean in data that is still the same data
_SHOWN = 3  # differences named in words


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """How a task's local data stands to the descriptive statistics that mteb publishes.

    Attributes:
        verdict: ``exact``: all figures are the same; ``near``: counts, totals and means within 3 %; ``not MTEB's``:
            beyond; ``unchecked``: mteb publishes none.
        differences: the largest of them in words, ours before mteb's.
    """

    verdict: Verdict
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([self.verdict, *self.differences])


def load_local(task: AbsTask, folder: Path) -> DataCheck:
    """Gives a fresh mteb task the data of a folder, in the form its evaluation expects, and checks it.

    The files may be in that form already, or in the form of mteb's data set on the hub, which the task's own
    ``dataset_transform`` then brings into it. Splits and languages that are not there are taken off the task.

    Args:
        task: not loaded yet; is changed.
        folder: with the task's files.

    Raises:
        InputError: no file of a split to evaluate on, a damaged file, a missing column, or a kind of task that cannot
            be read from files.
    """
    if isinstance(task, AbsTaskRetrieval):
        raw: Any = _retrieval(task, folder)
        forms = [raw]
    elif (needed := _needed_columns(task)) is None:
        raise InputError(
            f"task {task.metadata.name}: tasks of the kind {task.metadata.type} cannot be read from local files; "
            "expected STS, pair classification, classification, clustering, summarization, retrieval or reranking"
        )
    else:
        raw = _splits(task, folder)
        forms = [form for form in (raw, _transformed(task, raw)) if form is not None and _fits(task, form, needed)]
        if not forms:
            first = next(iter(_parts(task, raw)))[1]
            raise InputError(
                f"{folder}: has the columns {', '.join(map(repr, first.column_names))}; expected "
                f"{', '.join(map(repr, needed))} for {task.metadata.name}: rename them"
            )
    checks = []
    for form in forms:
        task.dataset = form
        checks.append(_check(task))
    best = min(range(len(forms)), key=lambda i: checks[i][0])
    task.dataset = forms[best]
    task.data_loaded = True
    return checks[best][1]


def _needed_columns(task: AbsTask) -> dict[str, type | None] | None:
    """Columns that a task's evaluation reads -> list where a row holds many, str where one; None: not known."""
    if isinstance(task, AbsTaskSTS):
        return {task.column_names[0]: str, task.column_names[1]: str, "score": None}
    if isinstance(task, AbsTaskClassification):
        return {task.input_column_name: str, task.label_column_name: None}
    if isinstance(task, AbsTaskPairClassification):
        return dict.fromkeys((task.input1_column_name, task.input2_column_name, task.label_column_name))
    if isinstance(task, AbsTaskClustering):
        return {task.input_column_name: str, task.label_column_name: None}
    if isinstance(task, AbsTaskClusteringLegacy):
        return {task.input_column_name: list, task.label_column_name: list}
    if isinstance(task, AbsTaskSummarization):
        lists = (task.human_summaries_column_name, task.machine_summaries_column_name, task.relevancy_column_name)
        return {task.text_column_name: str, **dict.fromkeys(lists, list)}
    return None


def _needed_splits(task: AbsTask) -> list[str]:
    trained = [task.train_split] if isinstance(task, AbsTaskClassification) else []
    return list(dict.fromkeys([*task.eval_splits, *trained]))


def _subset_folders(task: AbsTask, folder: Path) -> dict[str, Path]:
    """Language -> folder; files right in the task's folder are the only language asked for, else English."""
    if not task.metadata.is_multilingual:
        return {"default": folder}
    found = {subset: folder / subset for subset in task.hf_subsets if (folder / subset).is_dir()}
    if not found:
        languages = task.metadata.hf_subsets_to_langscripts
        english = [subset for subset in task.hf_subsets if languages[subset] == ["eng-Latn"]]
        chosen = task.hf_subsets if len(task.hf_subsets) == 1 else english
        if len(chosen) != 1:
            raise InputError(
                f"{folder}: task {task.metadata.name} has {len(task.hf_subsets)} languages; expected a sub-folder for "
                f"each that is there ({', '.join(list(task.hf_subsets)[:3])}, ...)"
            )
        found = {chosen[0]: folder}
    return found


def _narrow(task: AbsTask, splits: set[str], subsets: list[str], folder: Path) -> None:
    """Takes off the task what is not there.

    Raises:
        InputError: nothing to evaluate on is left.
    """
    kept = [split for split in task.eval_splits if split in splits]
    lacking = [split for split in _needed_splits(task) if split not in splits and split not in task.eval_splits]
    if not kept or lacking:
        missing = lacking or task.eval_splits
        raise InputError(
            f"{folder}: no file of the split {missing[0]!r}, which {task.metadata.name} needs; expected "
            f"{missing[0]}.parquet, .jsonl or .csv there"
        )
    task.filter_eval_splits(kept)
    if task.metadata.is_multilingual:
        task.filter_languages(None, hf_subsets=subsets)


def _splits(task: AbsTask, folder: Path) -> Any:
    """Files as the data sets that mteb's loading would give."""
    loaded: dict[str, DatasetDict] = {}
    for subset, place in _subset_folders(task, folder).items():
        files = {split: file for split in _needed_splits(task) if (file := find_file(place, split))}
        loaded[subset] = DatasetDict({split: Dataset.from_dict(read_columns(file)) for split, file in files.items()})
    splits = set.intersection(*(set(data) for data in loaded.values()))
    _narrow(task, splits, list(loaded), folder)
    return loaded if task.metadata.is_multilingual else loaded["default"]


def _retrieval(task: AbsTask, folder: Path) -> Any:
    folders = _subset_folders(task, folder)
    split = task.eval_splits[0]
    _narrow(task, {split}, list(folders), folder)
    data = {}
    for subset, place in folders.items():
        ranked = find_file(place, split)
        rerank = task.metadata.type == "Reranking" and ranked is not None
        data[subset] = {split: reranking_split(ranked) if rerank else retrieval_split(place, split)}
    return data


def _transformed(task: AbsTask, raw: Any) -> Any:
    """The data after the task's own transformation; None where there is none or it does not apply."""
    if type(task).dataset_transform is AbsTask.dataset_transform:
        return None
    task.dataset = DatasetDict(raw) if isinstance(raw, DatasetDict) else {k: DatasetDict(v) for k, v in raw.items()}
    try:
        task.dataset_transform()
    except Exception:  # made for other columns than ours: then ours must fit as they are
        return None
    return task.dataset


def _parts(task: AbsTask, data: Any) -> Iterator[tuple[str, Dataset]]:
    """All splits of all languages with their split's name."""
    for part in data.values() if task.metadata.is_multilingual else [data]:
        for split in _needed_splits(task):
            if split in part:
                yield split, part[split]


def _fits(task: AbsTask, data: Any, needed: dict[str, type | None]) -> bool:
    for _, rows in _parts(task, data):
        if not needed.keys() <= set(rows.column_names):
            return False
        first = rows[0]
        if any(kind is not None and not isinstance(first[column], kind) for column, kind in needed.items()):
            return False
    return True


def _check(task: AbsTask) -> tuple[float, DataCheck]:
    """The largest relative difference to mteb's figures, and the verdict."""
    published = task.metadata.descriptive_stats or {}
    differences: list[tuple[float, str]] = []
    compared = 0
    for split in _needed_splits(task):
        for subset in task.hf_subsets if task.metadata.is_multilingual else [None]:
            theirs = published.get(split, {})
            if subset is not None:
                theirs = theirs.get("hf_subset_descriptive_stats", {}).get(subset, {})
            if not theirs:
                continue
            # The one method that every mteb task class implements; the public one writes into mteb's own folder.
            with redirect_stderr(io.StringIO()):  # its progress bars, which cannot be turned off
                ours = task._calculate_descriptive_statistics_from_split(split, hf_subset=subset)
            mine, other = _figures(ours), _figures(theirs)
            # Published figures are of two ages: older ones count (a, b) and (b, a) as two pairs, mteb's code as one.
            if "unique_pairs" in mine and other.get("unique_pairs") == _ordered_pairs(task, split, subset):
                mine["unique_pairs"] = other["unique_pairs"]
            for name in mine.keys() & other.keys():
                compared += 1
                if difference := _difference(mine[name], other[name]):
                    where = f"{split} {name}" if subset is None else f"{split} ({subset}) {name}"
                    where = where.replace("text_statistics.", " ").replace("_statistics.", " ").replace("_", " ")
                    where = " ".join(where.split())
                    text = f"{where} {_number(mine[name])}, MTEB {_number(other[name])}"
                    # extremes say which single text is the longest, not how alike two sets are
                    differences.append((0.0 if ".min_" in f".{name}" or ".max_" in f".{name}" else difference, text))
    if not compared:
        return 0.0, DataCheck(verdict="unchecked", differences=("mteb publishes no statistics of this task",))
    if not differences:
        return 0.0, DataCheck(verdict="exact")
    differences.sort(key=lambda item: (-item[0], item[1]))
    words = [text for _, text in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        words.append(f"and {len(differences) - _SHOWN} more figures")
    largest = differences[0][0]
    verdict: Verdict = "near" if largest <= _NEAR else "not MTEB's"
    # 1e-12: data with the same figures but for its extremes is still not exact
    return max(largest, 1e-12), DataCheck(verdict=verdict, differences=tuple(words))


def _ordered_pairs(task: AbsTask, split: str, subset: str | None) -> int:
    """Distinct pairs, their order regarded."""
    rows = (task.dataset if subset is None else task.dataset[subset])[split]
    first, second = (
        task.column_names
        if isinstance(task, AbsTaskSTS)
        else (
            task.input1_column_name,
            task.input2_column_name,
        )
    )
    return len(set(zip(rows[first], rows[second], strict=True)))


def _figures(statistics: Any, prefix: str = "") -> dict[str, Any]:
    """Nested statistics as name -> number, or as the sorted counts of labels, whose names are a matter of taste."""
    found: dict[str, Any] = {}
    for key, value in statistics.items():
        name = f"{prefix}{'label_statistics' if key == 'labels_statistics' else key}"
        if key == "labels" and isinstance(value, dict):
            found[f"{prefix}texts per label"] = sorted((entry["count"] for entry in value.values()), reverse=True)
        elif isinstance(value, dict) and key != "hf_subset_descriptive_stats":
            found.update(_figures(value, f"{name}."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found


def _difference(ours: Any, theirs: Any) -> float:
    """0 where equal; else relative to mteb's."""
    if isinstance(ours, list):
        length = max(len(ours), len(theirs))
        padded = [values + [0] * (length - len(values)) for values in (ours, theirs)]
        return sum(abs(a - b) for a, b in zip(*padded, strict=True)) / max(sum(theirs), 1)
    if math.isclose(ours, theirs, rel_tol=1e-9):
        return 0.0
    return abs(ours - theirs) / max(abs(theirs), 1)


def _number(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[-1]:,} to {value[0]:,} ({len(value)} labels)"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
