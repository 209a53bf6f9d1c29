"""Tasks over a user's own data, as mteb task objects; they are scored by mteb's own code like any other task."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
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
from mteb.abstasks.task_metadata import TaskMetadata

from selfembed.data.corpus import Corpus
from selfembed.data.files import stem
from selfembed.data.ledger import Ledger
from selfembed.data.rows import column_names, read_rows
from selfembed.data.words import count_words, first_sentence
from selfembed.errors import InputError
from selfembed.evaluation.tables import (
    Columns,
    choose_columns,
    find_file,
    is_table,
    read_columns,
    require_texts,
)
from selfembed.ground.hashing import content_hash

SEED = 0  # of the split of labelled texts and of the sample of self-retrieval
_PAIR = {"sentence1": ("text1", "sentence1"), "sentence2": ("text2", "sentence2")}
_SCORED = {**_PAIR, "score": ("score",)}
_JUDGED = {**_PAIR, "labels": ("label", "labels")}
_LABELLED = {"text": ("text", "sentence", "sentences"), "label": ("label", "labels")}
_RANKED = {"query": ("query",), "positive": ("positive",), "negative": ("negative",)}
_DOCUMENTS = {"id": ("id", "_id"), "text": ("text",)}
_JUDGEMENTS = {
    "query-id": ("query-id", "query_id", "qid"),
    "corpus-id": ("corpus-id", "corpus_id", "did"),
    "score": ("score",),
}
_ANSWERS = {"query": ("query",), "document": ("document", "text"), "relevance": ("relevance", "score")}
_QUERY_WORDS, _REST_WORDS = 3, 10  # at least; shorter ones say too little. A title may be one word


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
    _texts(columns, file, "sentence1", "sentence2")
    columns["score"] = _numbers(columns["score"], file)
    low, high = min(columns["score"]), max(columns["score"])
    if low == high:
        raise InputError(f"{file}: every score is {low:g}; expected scores that differ: nothing can be ranked")
    bounds = {"min_score": low, "max_score": high}
    return _task(AbsTaskSTS, name or stem(file), "STS", "cosine_spearman", _one_split(columns), columns, **bounds)


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
    _texts(columns, file, "sentence1", "sentence2")
    columns["labels"] = _whole_numbers(columns["labels"], file)
    if set(columns["labels"]) != {0, 1}:
        raise InputError(f"{file}: labels {sorted(set(columns['labels']))}; expected both 0 and 1, and nothing else")
    kind = "PairClassification"
    return _task(AbsTaskPairClassification, name or stem(file), kind, "max_ap", _one_split(columns), columns)


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
        splits = {split: _labelled(_needed(path, split)) for split in ("train", "test")}
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
    return _task(AbsTaskClassification, name or stem(path), "Classification", "accuracy", dataset, splits, note=note)


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
    return _task(
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
    split = _judged_split(place) if is_table(place) and not place.is_dir() else retrieval_split(place, "test")
    fingerprint = [list(split["corpus"]["text"]), list(split["queries"]["text"]), split["relevant_docs"]]
    dataset = {"default": {"test": split}}
    name = name or (place.name if place.is_dir() else stem(place))
    return _task(AbsTaskRetrieval, name, "Retrieval", "ndcg_at_10", dataset, fingerprint)


def reranking_task(file: str | Path, *, name: str | None = None) -> AbsTask:
    """Queries, each with texts that answer it and texts that do not: mean average precision.

    Args:
        file: with the columns ``query``, ``positive`` and ``negative``, the last two lists of texts.
        name: of the task; None takes the file's.

    Raises:
        InputError: a column is missing, or a text is empty.
    """
    file = Path(file)
    columns = choose_columns(read_columns(file), file, _RANKED)
    split = _ranked_split(columns, file)
    left_out = len(columns["query"]) - len(split["queries"])
    note = f"{left_out:,} left out that have not both positives and negatives, as in mteb" if left_out else ""
    fingerprint = [list(split["corpus"]["text"]), list(split["queries"]["text"]), split["relevant_docs"]]
    dataset = {"default": {"test": split}}
    return _task(AbsTaskRetrieval, name or stem(file), "Reranking", "map_at_1000", dataset, fingerprint, note=note)


def self_retrieval_task(
    corpus: Iterable[str | tuple[str, str]],
    *,
    name: str = "SelfRetrieval",
    queries: int = 1_000,
    documents: int = 10_000,
) -> AbsTask:
    """No labels: the title or first sentence of a text is to find the text's rest: nDCG@10.

    It says whether an embedder tells the texts of this corpus apart, not what human judges would say; a trained
    embedder may have seen the texts.

    Args:
        corpus: a `selfembed.data.corpus.Corpus` or any texts; a pair is a title and its text (`titled_texts`). Used
            are those with a title, or a first sentence of at least 3 words, and 10 words after it; of texts with the
            same title or beginning the first.
        name: of the task.
        queries: at most, drawn with a fixed seed.
        documents: at most, drawn with a fixed seed; the queries' own are among them.

    Raises:
        InputError: fewer than 2 texts can be used.
    """
    pairs: dict[str, str] = {}
    rests: set[str] = set()
    total = 0
    for text in corpus:
        total += 1
        first, rest = first_sentence(text) if isinstance(text, str) else _title_and_rest(*text)
        least = _QUERY_WORDS if isinstance(text, str) else 1
        long_enough = count_words(first) >= least and count_words(rest) >= _REST_WORDS
        if long_enough and first not in pairs and rest not in rests:
            pairs[first] = rest
            rests.add(rest)
    if len(pairs) < 2:
        raise InputError(
            f"self-retrieval: {len(pairs)} of {total:,} texts have a title, or a first sentence of {_QUERY_WORDS} "
            f"words, and {_REST_WORDS} words after it; expected at least 2: give longer texts"
        )
    draw = random.Random(SEED)
    chosen = draw.sample(sorted(pairs), min(documents, len(pairs)))
    asked = chosen[:queries]
    split = {
        "corpus": Dataset.from_dict({"id": [f"d{i}" for i in range(len(chosen))], "text": [pairs[q] for q in chosen]}),
        "queries": Dataset.from_dict({"id": [f"q{i}" for i in range(len(asked))], "text": asked}),
        "relevant_docs": {f"q{i}": {f"d{i}": 1} for i in range(len(asked))},
        "top_ranked": None,
    }
    fingerprint = [chosen, [pairs[query] for query in chosen], len(asked)]
    note = f"{len(asked):,} queries, {len(chosen):,} documents"
    if len(pairs) < total:
        note += f"; {total - len(pairs):,} of {total:,} texts are too short or begin as another does"
    dataset = {"default": {"test": split}}
    return _task(AbsTaskRetrieval, name, "Retrieval", "ndcg_at_10", dataset, fingerprint, note=note)


def titled_texts(sources: Iterable[str]) -> Iterator[str | tuple[str, str]]:
    """The texts of a corpus, for self-retrieval: with their titles where there are some.

    Args:
        sources: as `Corpus` takes them. A file of rows with the columns ``title`` and ``text``, or a folder of
            nothing else, gives pairs of the two, each text whole; all else is cut into passages without titles.

    Raises:
        InputError: a file is damaged, or as `Corpus`.
    """
    untitled = []
    for source in sources:
        place = Path(source)
        files = sorted(filter(Path.is_file, place.rglob("*"))) if place.is_dir() else [place]
        if not files or not all({"title", "text"} <= set(column_names(file)) for file in files):
            untitled.append(source)
            continue
        for file in files:
            for row in read_rows(file, lambda columns: ("title", "text"), Ledger()):
                title, text = ("" if row.get(name) is None else str(row[name]).strip() for name in ("title", "text"))
                yield (title, text) if title else text
    if untitled:
        yield from Corpus(untitled)


def _title_and_rest(title: str, text: str) -> tuple[str, str]:
    """Without the title, where the text begins with it again: a text is to be found by meaning, not by its words."""
    return title.strip(), text.strip().removeprefix(title.strip()).strip()


def folder_task(folder: Path) -> AbsTask:
    """A folder of no task that mteb knows, read as what its columns say.

    Raises:
        InputError: the columns fit no kind of task.
    """
    if find_file(folder, "corpus"):
        return retrieval_task(folder)
    file = _needed(folder, "test")
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


def retrieval_split(folder: Path, split: str) -> dict[str, Any]:
    """Corpus, queries and judgements of a folder, as mteb's retrieval evaluation takes them.

    Raises:
        InputError: a file or column is missing, or no query has a relevant document.
    """
    parts = {}
    for part in ("corpus", "queries"):
        file = _needed(folder, part)
        columns = read_columns(file)
        chosen = choose_columns(columns, file, _DOCUMENTS)
        chosen["id"] = [str(value) for value in chosen["id"]]
        repeated = next((value for value, count in Counter(chosen["id"]).items() if count > 1), None)
        if repeated is not None:
            raise InputError(f"{file}: the id {repeated!r} is there twice; expected one row an id: remove one")
        if part == "corpus" and "title" in columns:
            chosen["title"] = [value or "" for value in columns["title"]]
        parts[part] = Dataset.from_dict({**chosen, "text": [value or "" for value in chosen["text"]]})
    file = find_file(folder / "qrels", split) or _needed(folder, "qrels")
    judged = choose_columns(read_columns(file), file, _JUDGEMENTS)
    relevant: dict[str, dict[str, int]] = {}
    scores = _whole_numbers(judged["score"], file)
    for query, document, score in zip(judged["query-id"], judged["corpus-id"], scores, strict=True):
        relevant.setdefault(str(query), {})[str(document)] = score
    known = [i for i, query in enumerate(parts["queries"]["id"]) if query in relevant]
    documents = set(parts["corpus"]["id"])
    good = [{name for name, score in relevant[parts["queries"][i]["id"]].items() if score > 0} for i in known]
    if not any(documents & names for names in good):
        raise InputError(f"{file}: no query has a relevant document in the corpus; expected ids of queries and corpus")
    return {**parts, "queries": parts["queries"].select(known), "relevant_docs": relevant, "top_ranked": None}


def _judged_split(file: Path) -> dict[str, Any]:
    """A file of judgements as mteb's retrieval evaluation takes it; each distinct text is one query or document."""
    columns = choose_columns(read_columns(file), file, _ANSWERS)
    _texts(columns, file, "query", "document")
    ids = {
        part: {text: f"{part[0]}{i}" for i, text in enumerate(dict.fromkeys(columns[part]))}
        for part in ("query", "document")
    }
    relevant: dict[str, dict[str, int]] = {}
    scores = _whole_numbers(columns["relevance"], file)
    for query, document, score in zip(columns["query"], columns["document"], scores, strict=True):
        relevant.setdefault(ids["query"][query], {})[ids["document"][document]] = score
    if max(scores) <= 0:
        raise InputError(f"{file}: no document has a relevance above 0; expected at least one for every query")
    queries, documents = (
        Dataset.from_dict({"id": list(known.values()), "text": list(known)}) for known in ids.values()
    )
    return {"corpus": documents, "queries": queries, "relevant_docs": relevant, "top_ranked": None}


def reranking_split(file: Path) -> dict[str, Any]:
    """Queries with good and bad candidates, as mteb's retrieval evaluation takes them.

    Raises:
        InputError: a column is missing, or a text is empty.
    """
    return _ranked_split(choose_columns(read_columns(file), file, _RANKED), file)


def _ranked_split(columns: Columns, file: Path) -> dict[str, Any]:
    _texts(columns, file, "query")
    documents: dict[str, list[str]] = {"id": [], "text": []}
    queries: dict[str, list[str]] = {"id": [], "text": []}
    relevant: dict[str, dict[str, int]] = {}
    ranked: dict[str, list[str]] = {}
    for number, (query, good, bad) in enumerate(zip(*columns.values(), strict=True)):
        if not (isinstance(good, list) and isinstance(bad, list) and good and bad):
            continue  # as mteb: a query needs both
        name = f"test_query{number}"
        queries["id"].append(name)
        queries["text"].append(query)
        # mteb's own names, which decide where scores are equal
        names = [f"apositive_{name}_{i:05}" for i in range(len(good))]
        names += [f"negative_{name}_{i:05}" for i in range(len(bad))]
        documents["id"] += names
        documents["text"] += require_texts([*good, *bad], file, "positive or negative")
        ranked[name] = names
        relevant[name] = {other: int(i < len(good)) for i, other in enumerate(names)}
    if not ranked:
        raise InputError(f"{file}: no query has both positive and negative texts; expected lists of texts")
    return {
        "corpus": Dataset.from_dict(documents),
        "queries": Dataset.from_dict(queries),
        "relevant_docs": relevant,
        "top_ranked": ranked,
    }


def _task(
    base: type[AbsTask], name: str, kind: str, main_score: str, dataset: Any, content: Any, **settings: Any
) -> Any:
    """An object of a mteb task class over data in memory; subclassing is how mteb wants new tasks made.

    Its ``note``, if given, stands below its score.
    """
    metadata = TaskMetadata(
        name=name,
        description=f"own data: {kind}",
        dataset={"path": f"local/{name}", "revision": content_hash(content)[:40]},
        type=kind,
        modalities=["text"],
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],  # mteb asks for one; nothing depends on it
        main_score=main_score,
    )
    task = type(f"Own{kind}", (base,), {"metadata": metadata, **settings})()
    task.dataset = dataset
    task.data_loaded = True
    return task


def _one_split(columns: Columns) -> DatasetDict:
    return DatasetDict({"test": Dataset.from_dict(columns)})


def _needed(folder: Path, name: str) -> Path:
    file = find_file(folder, name)
    if file is None:
        raise InputError(f"{folder}: has no file {name!r}; expected {name}.parquet, .jsonl, .csv or .tsv")
    return file


def _labelled(file: Path) -> Columns:
    columns = choose_columns(read_columns(file), file, _LABELLED)
    _texts(columns, file, "text")
    for row, label in enumerate(columns["label"], 1):
        if label is None or label == "" or not isinstance(label, str | int):
            raise InputError(f"{file}: row {row} has the label {label!r}; expected a word or a whole number")
    return columns


def _halves(columns: Columns, file: Path) -> dict[str, Columns]:
    """Half of each label's texts to learn from, half to be judged on; of repeated texts one is kept."""
    rows: dict[Any, dict[str, None]] = {}
    for text, label in zip(columns["text"], columns["label"], strict=True):
        rows.setdefault(label, {})[text] = None
    draw = random.Random(SEED)
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


def _texts(columns: Columns, file: Path, *names: str) -> None:
    for name in names:
        require_texts(columns[name], file, name)


def _whole_numbers(values: list[Any], file: Path) -> list[int]:
    numbers = _numbers(values, file)
    for row, number in enumerate(numbers, 1):
        if number != int(number):
            raise InputError(f"{file}: row {row} has {number:g} where a whole number should be; correct or remove it")
    return [int(number) for number in numbers]


def _numbers(values: list[Any], file: Path) -> list[float]:
    numbers = []
    for row, value in enumerate(values, 1):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{file}: row {row} has {value!r} where a number should be; correct or remove that row")
        numbers.append(number)
    return numbers
