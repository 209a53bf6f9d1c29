"""Tasks over the user's own data, as mteb task objects; they are scored by mteb's own code like any other task."""

from __future__ import annotations

import random
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

from selfembed.data.files import stem
from selfembed.errors import InputError
from selfembed.evaluation.beir_files import RANKED, judged_split, ranked_split, retrieval_split
from selfembed.evaluation.column_files import Columns, choose_columns, find_file, is_table, read_columns
from selfembed.evaluation.own_task import own_task
from selfembed.evaluation.values import needed_file, numbers_in, require_text_columns, whole_numbers

_SEED = 0  # of the split of labelled texts
_PAIR = {"sentence1": ("text1", "sentence1"), "sentence2": ("text2", "sentence2")}
_SCORED = {**_PAIR, "score": ("score",)}
_JUDGED = {**_PAIR, "labels": ("label", "labels")}
_LABELLED = {"text": ("text", "sentence", "sentences"), "label": ("label", "labels")}


def sts_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Makes a task of pairs of texts with scores of similarity; its metric is Spearman's correlation with the cosine.

    Args:
        file: A file of rows with the columns `text1, text2, score` (or `sentence1, sentence2, score`), one pair a row.
        name: The task's name; None takes the file's.

    Raises:
        InputError: The file cannot be read, a column is missing, a text is empty, a score is no number, or all scores
            are equal.
    """
    file = Path(file)
    columns = choose_columns(read_columns(file), file, _SCORED)
    require_text_columns(columns, file, "sentence1", "sentence2")
    columns["score"] = numbers_in(columns["score"], file)
    low, high = min(columns["score"]), max(columns["score"])
    if low == high:
        raise InputError(
            f"{file}: every score is {low:g}, so nothing can be ranked; expected scores that differ; give other scores"
        )
    bounds = {"min_score": low, "max_score": high}
    return own_task(AbsTaskSTS, name or stem(file), "STS", "cosine_spearman", _one_split(columns), columns, **bounds)


def pair_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Makes a task of pairs of texts that belong together (1) or not (0); its metric is average precision.

    Args:
        file: A file of rows with the columns `text1, text2, label` (or `sentence1, sentence2, labels`).
        name: The task's name; None takes the file's.

    Raises:
        InputError: The file cannot be read, a column is missing, a text is empty, a label is neither 0 nor 1, or one
            of the two is absent.
    """
    file = Path(file)
    columns = choose_columns(read_columns(file), file, _JUDGED)
    require_text_columns(columns, file, "sentence1", "sentence2")
    columns["labels"] = whole_numbers(columns["labels"], file)
    if set(columns["labels"]) != {0, 1}:
        raise InputError(
            f"{file}: labels {sorted(set(columns['labels']))}; expected both 0 and 1, and nothing else; correct them"
        )
    kind = "PairClassification"
    return own_task(AbsTaskPairClassification, name or stem(file), kind, "max_ap", _one_split(columns), columns)


def classification_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Makes a task of labelled texts to classify; its metric is the accuracy of mteb's logistic regression.

    The regression learns from 8 texts of each label; the score is the mean of 10 draws.

    Args:
        file: A file of rows with the columns `text, label`, or a folder with such a `train` and `test` file. One file
            is split in halves, label by label, with a fixed seed.
        name: The task's name; None takes the file's.

    Raises:
        InputError: A file cannot be read, a column is missing, a text is empty, there is only one label, or a label
            has only one text.
    """
    path, note = Path(file), ""
    if path.is_dir():
        splits = {split: _labelled(needed_file(path, split)) for split in ("train", "test")}
    else:
        columns = _labelled(path)
        splits = _halves(columns, path)
        used, total = sum(len(split["text"]) for split in splits.values()), len(columns["text"])
        note = f"{total - used:,} of {total:,} texts repeat another of their label" if used < total else ""
    for split, columns in splits.items():
        if len(set(columns["label"])) < 2:
            raise InputError(
                f"{path}: the only label in {split} is {columns['label'][0]!r}; expected two or more; add texts of "
                "another"
            )
    # numbers, since mteb's scores for two labels want them to be 0 and 1
    known = sorted({label for columns in splits.values() for label in columns["label"]}, key=str)
    number = {label: i for i, label in enumerate(known)}
    for columns in splits.values():
        columns["label"] = [number[label] for label in columns["label"]]
    dataset = DatasetDict({split: Dataset.from_dict(columns) for split, columns in splits.items()})
    name = name or stem(path)
    return own_task(AbsTaskClassification, name, "Classification", "accuracy", dataset, splits, note=note)


def clustering_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Makes a task of labelled texts to cluster; its metric is the V-measure of mteb's k-means against the labels.

    The score is the mean of 10 draws.

    Args:
        file: A file of rows with the columns `text, label`.
        name: The task's name; None takes the file's.

    Raises:
        InputError: The file cannot be read, a column is missing, a text is empty, or there is only one label.
    """
    path = Path(file)
    columns = _labelled(path)
    if len(set(columns["label"])) < 2:
        raise InputError(
            f"{path}: the only label is {columns['label'][0]!r}; expected two or more; add texts of another"
        )
    columns = {"sentences": columns["text"], "labels": columns["label"]}
    # mteb embeds 4 % of its large sets; a small one is taken whole.
    size = {
        "max_fraction_of_documents_to_embed": None,
        "max_documents_per_cluster": min(len(columns["labels"]), AbsTaskClustering.max_documents_per_cluster),
    }
    return own_task(
        AbsTaskClustering, name or stem(path), "Clustering", "v_measure", _one_split(columns), columns, **size
    )


def retrieval_task(place: str | Path, *, name: str | None = None) -> AbsTask:
    """Makes a task of queries and documents with judgements of relevance; its metric is nDCG@10.

    Args:
        place: A file of rows with the columns `query, document, relevance`, one judgement a row; its documents are all
            that is searched. Or a folder in the form of BEIR: `corpus` (`_id, text`, perhaps `title`), `queries`
            (`_id, text`) and `qrels`, or `qrels/test` (`query-id, corpus-id, score`), each .jsonl, .csv, .tsv or
            .parquet.
        name: The task's name; None takes the file's or folder's.

    Raises:
        InputError: A file or column is missing, a relevance is no whole number, or no query has a relevant document.
    """
    place = Path(place)
    split = judged_split(place) if is_table(place) and not place.is_dir() else retrieval_split(place, "test")
    fingerprint = [list(split["corpus"]["text"]), list(split["queries"]["text"]), split["relevant_docs"]]
    dataset = {"default": {"test": split}}
    name = name or (place.name if place.is_dir() else stem(place))
    return own_task(AbsTaskRetrieval, name, "Retrieval", "ndcg_at_10", dataset, fingerprint)


def reranking_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Makes a task of queries, each with texts that answer it and texts that do not; its metric is mean average
    precision.

    Args:
        file: A file of rows with the columns `query`, `positive` and `negative`, the last two lists of texts.
        name: The task's name; None takes the file's.

    Raises:
        InputError: The file cannot be read, a column is missing, a text is empty, or no query has both kinds of texts.
    """
    file = Path(file)
    columns = choose_columns(read_columns(file), file, RANKED)
    split = ranked_split(columns, file)
    left_out = len(columns["query"]) - len(split["queries"])
    note = f"{left_out:,} left out that have not both positives and negatives, as in mteb" if left_out else ""
    fingerprint = [list(split["corpus"]["text"]), list(split["queries"]["text"]), split["relevant_docs"]]
    dataset = {"default": {"test": split}}
    return own_task(AbsTaskRetrieval, name or stem(file), "Reranking", "map_at_1000", dataset, fingerprint, note=note)


def folder_task(folder: Path) -> AbsTask:
    """Makes a task of a folder that is not named like any task of mteb's; its columns say which kind.

    Raises:
        InputError: The columns fit no kind of task, or the files cannot be used.
    """
    if find_file(folder, "corpus"):
        return retrieval_task(folder)
    file = needed_file(folder, "test")
    columns = read_columns(file)
    if columns.keys() >= {"query", "positive", "negative"}:
        return reranking_task(file, name=folder.name)
    pair = any(columns.keys() >= {f"{kind}1", f"{kind}2"} for kind in ("text", "sentence"))
    if pair:
        return (sts_task if "score" in columns else pair_task)(file, name=folder.name)
    if "label" in columns and find_file(folder, "train"):
        return classification_task(folder, name=folder.name)
    if "label" in columns or "labels" in columns:
        return clustering_task(file, name=folder.name)
    raise InputError(
        f"{file}: columns {', '.join(map(repr, columns))} fit no kind of task; expected text1, text2, score; or text, "
        "label; or query, positive, negative; or a folder with corpus, queries and qrels; rename the columns"
    )


def _one_split(columns: Columns) -> DatasetDict:
    return DatasetDict({"test": Dataset.from_dict(columns)})


def _labelled(file: Path) -> Columns:
    columns = choose_columns(read_columns(file), file, _LABELLED)
    require_text_columns(columns, file, "text")
    for row, label in enumerate(columns["label"], 1):
        if label is None or label == "" or not isinstance(label, str | int):
            raise InputError(
                f"{file}: row {row} has the label {label!r}; expected a word or a whole number; correct or remove it"
            )
    if len({isinstance(label, str) for label in columns["label"]}) > 1:
        raise InputError(f"{file}: some labels are words and some are numbers; expected one kind; correct them")
    return columns


def _halves(columns: Columns, file: Path) -> dict[str, Columns]:
    """Splits each label's texts in half, to learn from and to be judged on; repeated texts are kept once."""
    rows: dict[Any, dict[str, None]] = {}
    for text, label in zip(columns["text"], columns["label"], strict=True):
        rows.setdefault(label, {})[text] = None
    draw = random.Random(_SEED)
    splits: dict[str, Columns] = {split: {"text": [], "label": []} for split in ("train", "test")}
    for label, texts in sorted(rows.items(), key=lambda item: str(item[0])):
        if len(texts) < 2:
            raise InputError(
                f"{file}: the label {label!r} has one text; expected two or more, to learn from and judge on; add one"
            )
        shuffled = draw.sample(list(texts), len(texts))
        for split, part in (("train", shuffled[: len(texts) // 2]), ("test", shuffled[len(texts) // 2 :])):
            splits[split]["text"] += part
            splits[split]["label"] += [label] * len(part)
    return splits
