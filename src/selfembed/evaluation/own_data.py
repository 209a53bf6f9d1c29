"""Tasks over a user's own data, as mteb task objects; they are scored by mteb's own code like any other task."""

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
from selfembed.evaluation.own_task import own_task
from selfembed.evaluation.tables import Columns, choose_columns, find_file, is_table, read_columns
from selfembed.evaluation.values import needed_file, numbers_in, require_text_columns, whole_numbers

_SEED = 0  # of the split of labelled texts
_PAIR = {"sentence1": ("text1", "sentence1"), "sentence2": ("text2", "sentence2")}
_SCORED = {**_PAIR, "score": ("score",)}
_JUDGED = {**_PAIR, "labels": ("label", "labels")}
_LABELLED = {"text": ("text", "sentence", "sentences"), "label": ("label", "labels")}


def sts_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Pairs of texts with scores of similarity: Spearman's correlation with the cosine.

    Args:
        file: with the columns ``text1, text2, score`` (or ``sentence1, sentence2, score``), one pair a row.
        name: of the task; None takes the file's.

    Raises:
        InputError: a column is missing, a text empty, a score no number, or all scores are the same.
    """
    file = Path(file)
    columns = choose_columns(read_columns(file), file, _SCORED)
    require_text_columns(columns, file, "sentence1", "sentence2")
    columns["score"] = numbers_in(columns["score"], file)
    low, high = min(columns["score"]), max(columns["score"])
    if low == high:
        raise InputError(f"{file}: every score is {low:g}; expected scores that differ: nothing can be ranked")
    bounds = {"min_score": low, "max_score": high}
    return own_task(AbsTaskSTS, name or stem(file), "STS", "cosine_spearman", _one_split(columns), columns, **bounds)


def pair_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Pairs of texts that belong together (1) or not (0): average precision.

    Args:
        file: with the columns ``text1, text2, label`` (or ``sentence1, sentence2, labels``).
        name: of the task; None takes the file's.

    Raises:
        InputError: a column is missing, a text empty, a label neither 0 nor 1, or one of the two is absent.
    """
    file = Path(file)
    columns = choose_columns(read_columns(file), file, _JUDGED)
    require_text_columns(columns, file, "sentence1", "sentence2")
    columns["labels"] = whole_numbers(columns["labels"], file)
    if set(columns["labels"]) != {0, 1}:
        raise InputError(f"{file}: labels {sorted(set(columns['labels']))}; expected both 0 and 1, and nothing else")
    kind = "PairClassification"
    return own_task(AbsTaskPairClassification, name or stem(file), kind, "max_ap", _one_split(columns), columns)


def classification_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Labelled texts: accuracy of mteb's logistic regression on 8 texts a label, mean of 10 draws.

    Args:
        file: with the columns ``text, label``; or a folder with a ``train`` and a ``test`` file of them. One file is
            split in halves, label by label, with a fixed seed.
        name: of the task; None takes the file's.

    Raises:
        InputError: a column is missing, a text empty, there is one label only, or a label has one text only.
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
            raise InputError(f"{path}: only the label {columns['label'][0]!r} in {split}; expected two or more")
    # numbers, since mteb's scores for two labels want them to be 0 and 1
    known = sorted({label for columns in splits.values() for label in columns["label"]}, key=str)
    number = {label: i for i, label in enumerate(known)}
    for columns in splits.values():
        columns["label"] = [number[label] for label in columns["label"]]
    dataset = DatasetDict({split: Dataset.from_dict(columns) for split, columns in splits.items()})
    name = name or stem(path)
    return own_task(AbsTaskClassification, name, "Classification", "accuracy", dataset, splits, note=note)


def clustering_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Labelled texts: V-measure of mteb's k-means against the labels, mean of 10 draws.

    Args:
        file: with the columns ``text, label``.
        name: of the task; None takes the file's.

    Raises:
        InputError: a column is missing, a text empty, or there is one label only.
    """
    path = Path(file)
    columns = _labelled(path)
    if len(set(columns["label"])) < 2:
        raise InputError(f"{path}: only the label {columns['label'][0]!r}; expected two or more to tell apart")
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
    """Queries and documents with judgements of relevance: nDCG@10.

    Args:
        place: a file with the columns ``query, document, relevance``, a judgement a row, whose documents are all that
            is searched. Or a folder in the form of BEIR: ``corpus`` (``_id, text``, perhaps ``title``), ``queries``
            (``_id, text``) and ``qrels``, or ``qrels/test`` (``query-id, corpus-id, score``), each .jsonl, .csv, .tsv
            or .parquet.
        name: of the task; None takes the file's or folder's.

    Raises:
        InputError: a file or column is missing, a relevance is no whole number, or no query has a relevant document.
    """
    place = Path(place)
    split = judged_split(place) if is_table(place) and not place.is_dir() else retrieval_split(place, "test")
    fingerprint = [list(split["corpus"]["text"]), list(split["queries"]["text"]), split["relevant_docs"]]
    dataset = {"default": {"test": split}}
    name = name or (place.name if place.is_dir() else stem(place))
    return own_task(AbsTaskRetrieval, name, "Retrieval", "ndcg_at_10", dataset, fingerprint)


def reranking_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Queries, each with texts that answer it and texts that do not: mean average precision.

    Args:
        file: with the columns ``query``, ``positive`` and ``negative``, the last two lists of texts.
        name: of the task; None takes the file's.

    Raises:
        InputError: a column is missing, or a text is empty.
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
    """A folder of no task that mteb knows, read as what its columns say.

    Raises:
        InputError: the columns fit no kind of task.
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
        "label; or query, positive, negative; or a folder with corpus, queries and qrels"
    )


def _one_split(columns: Columns) -> DatasetDict:
    return DatasetDict({"test": Dataset.from_dict(columns)})


def _labelled(file: Path) -> Columns:
    columns = choose_columns(read_columns(file), file, _LABELLED)
    require_text_columns(columns, file, "text")
    for row, label in enumerate(columns["label"], 1):
        if label is None or label == "" or not isinstance(label, str | int):
            raise InputError(f"{file}: row {row} has the label {label!r}; expected a word or a whole number")
    return columns


def _halves(columns: Columns, file: Path) -> dict[str, Columns]:
    """Half of each label's texts to learn from, half to be judged on; of repeated texts one is kept."""
    rows: dict[Any, dict[str, None]] = {}
    for text, label in zip(columns["text"], columns["label"], strict=True):
        rows.setdefault(label, {})[text] = None
    draw = random.Random(_SEED)
    splits: dict[str, Columns] = {split: {"text": [], "label": []} for split in ("train", "test")}
    for label, texts in sorted(rows.items(), key=lambda item: str(item[0])):
        if len(texts) < 2:
            raise InputError(
                f"{file}: the label {label!r} has one text; expected two or more, to learn from and to judge on"
            )
        shuffled = draw.sample(list(texts), len(texts))
        for split, part in (("train", shuffled[: len(texts) // 2]), ("test", shuffled[len(texts) // 2 :])):
            splits[split]["text"] += part
            splits[split]["label"] += [label] * len(part)
    return splits
