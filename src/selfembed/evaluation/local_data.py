"""The tasks of mteb over data in a local folder.

A task's folder holds one file for each split (`test.parquet`), in sub-folders where there are several languages; the
folder of a retrieval task holds `corpus`, `queries` and `qrels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from selfembed.evaluation.beir_files import reranking_split, retrieval_split
from selfembed.evaluation.column_files import find_file, read_columns
from selfembed.evaluation.data_check import DataCheck, check_data


def load_local(task: AbsTask, folder: Path) -> DataCheck:
    """Gives a fresh task of mteb's the data of a folder, in the form that its evaluation expects, and checks the data.

    The files may be in that form already, or in the form of mteb's data set on the hub, which the task's own
    `dataset_transform` then brings into it. Splits and languages that are not there are taken off the task.

    Args:
        task: A task without data; it is changed.
        folder: The folder with the task's files.

    Returns:
        How the data stands to the figures that mteb publishes.

    Raises:
        InputError: A split to evaluate on has no file, a file is damaged, a column is missing, a language has no
            folder, or tasks of this kind cannot be read from files.
    """
    if isinstance(task, AbsTaskRetrieval):
        raw: Any = _retrieval(task, folder)
        forms = [raw]
    elif (needed := _needed_columns(task)) is None:
        raise InputError(
            f"task {task.metadata.name}: tasks of the kind {task.metadata.type} cannot be read from local files; "
            "expected STS, pair classification, classification, clustering, summarization, retrieval or reranking; "
            "leave it out"
        )
    else:
        raw = _splits(task, folder)
        forms = [form for form in (raw, _transformed(task, raw)) if form is not None and _fits(task, form, needed)]
        if not forms:
            first = next(iter(_parts(task, raw)))[1]
            raise InputError(
                f"{folder}: has the columns {', '.join(map(repr, first.column_names))}; expected "
                f"{', '.join(map(repr, needed))} for {task.metadata.name}; rename them"
            )
    checks = []
    for form in forms:
        task.dataset = form
        checks.append(check_data(task, _needed_splits(task)))
    best = min(range(len(forms)), key=lambda i: checks[i][0])
    task.dataset = forms[best]
    task.data_loaded = True
    return checks[best][1]


def _needed_columns(task: AbsTask) -> dict[str, type | None] | None:
    """Returns the columns that a task's evaluation reads: list where a row holds many, str where one; else None."""
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
    """Returns the folder of each language; files outside of any are of the only language asked for, else English."""
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
                f"each that is there ({', '.join(list(task.hf_subsets)[:3])}, ...); move the files into one"
            )
        found = {chosen[0]: folder}
    return found


def _narrow(task: AbsTask, splits: set[str], subsets: list[str], folder: Path) -> None:
    """Takes splits and languages off the task that are not there.

    Raises:
        InputError: No split to evaluate on is left, or one to learn from is missing.
    """
    kept = [split for split in task.eval_splits if split in splits]
    lacking = [split for split in _needed_splits(task) if split not in splits and split not in task.eval_splits]
    if not kept or lacking:
        missing = lacking or task.eval_splits
        raise InputError(
            f"{folder}: no file of the split {missing[0]!r}, which {task.metadata.name} needs; expected "
            f"{missing[0]}.parquet, .jsonl or .csv there; add it"
        )
    task.filter_eval_splits(kept)
    if task.metadata.is_multilingual:
        task.filter_languages(None, hf_subsets=subsets)


def _splits(task: AbsTask, folder: Path) -> Any:
    """Reads files as the data sets that mteb's loading would give."""
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
        if ranked is not None and task.metadata.type == "Reranking":
            data[subset] = {split: reranking_split(ranked)}
        else:
            data[subset] = {split: retrieval_split(place, split)}
    return data


def _transformed(task: AbsTask, raw: Any) -> Any:
    """Returns the data after the task's own transformation; None where there is none or it does not apply."""
    if type(task).dataset_transform is AbsTask.dataset_transform:
        return None
    task.dataset = DatasetDict(raw) if isinstance(raw, DatasetDict) else {k: DatasetDict(v) for k, v in raw.items()}
    try:
        task.dataset_transform()
    except Exception:  # made for other columns than ours: then ours must fit as they are
        return None
    return task.dataset


def _parts(task: AbsTask, data: Any) -> Iterator[tuple[str, Dataset]]:
    """Yields all splits of all languages with their split's name."""
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
