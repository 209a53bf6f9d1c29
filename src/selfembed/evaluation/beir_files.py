"""Queries, documents and judgements from files, as mteb's retrieval evaluation takes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from datasets import Dataset

from selfembed.errors import InputError
from selfembed.evaluation.column_files import Columns, choose_columns, find_file, read_columns, require_texts
from selfembed.evaluation.values import needed_file, require_text_columns, whole_numbers

RANKED = {"query": ("query",), "positive": ("positive",), "negative": ("negative",)}
_DOCUMENTS = {"id": ("id", "_id"), "text": ("text",)}
_JUDGEMENTS = {
    "query-id": ("query-id", "query_id", "qid"),
    "corpus-id": ("corpus-id", "corpus_id", "did"),
    "score": ("score",),
}
_ANSWERS = {"query": ("query",), "document": ("document", "text"), "relevance": ("relevance", "score")}


def retrieval_split(folder: Path, split: str) -> dict[str, Any]:
    """Reads the corpus, queries and judgements of a folder, as mteb's retrieval evaluation takes them.

    Args:
        folder: The folder, in the form of BEIR.
        split: The split whose judgements are read.

    Raises:
        InputError: A file or column is missing, an id is there twice, a text or title is none, a score is no whole
            number, or no query has a relevant document.
    """
    parts = {}
    for part in ("corpus", "queries"):
        file = needed_file(folder, part)
        columns = read_columns(file)
        chosen = choose_columns(columns, file, _DOCUMENTS)
        chosen["id"] = [str(value) for value in chosen["id"]]
        repeated = next((value for value, count in Counter(chosen["id"]).items() if count > 1), None)
        if repeated is not None:
            raise InputError(f"{file}: the id {repeated!r} is there twice; expected one row an id; remove one")
        if part == "corpus" and "title" in columns:
            chosen["title"] = _texts_or_none(columns["title"], file, "title")
        parts[part] = Dataset.from_dict({**chosen, "text": _texts_or_none(chosen["text"], file, "text")})
    file = find_file(folder / "qrels", split) or needed_file(folder, "qrels")
    judged = choose_columns(read_columns(file), file, _JUDGEMENTS)
    relevant: dict[str, dict[str, int]] = {}
    scores = whole_numbers(judged["score"], file)
    for query, document, score in zip(judged["query-id"], judged["corpus-id"], scores, strict=True):
        relevant.setdefault(str(query), {})[str(document)] = score
    known = [i for i, query in enumerate(parts["queries"]["id"]) if query in relevant]
    documents = set(parts["corpus"]["id"])
    good = [{name for name, score in relevant[parts["queries"][i]["id"]].items() if score > 0} for i in known]
    if not any(documents & names for names in good):
        raise InputError(
            f"{file}: no query has a relevant document in the corpus; expected ids of both; correct the ids"
        )
    return {**parts, "queries": parts["queries"].select(known), "relevant_docs": relevant, "top_ranked": None}


def _texts_or_none(values: list[Any], file: Path, column: str) -> list[str]:
    """Returns the texts of a column, "" where a row has none."""
    for row, value in enumerate(values, 1):
        if value is not None and not isinstance(value, str):
            raise InputError(f"{file}: row {row} has {value!r} as {column!r}; expected a text; correct or remove it")
    return [value or "" for value in values]


def judged_split(file: Path) -> dict[str, Any]:
    """Reads a file of judgements as mteb's retrieval evaluation takes it; equal texts are one query or document.

    Raises:
        InputError: A column is missing, a text is empty, a relevance is no whole number, or no document is relevant.
    """
    columns = choose_columns(read_columns(file), file, _ANSWERS)
    require_text_columns(columns, file, "query", "document")
    ids = {
        part: {text: f"{part[0]}{i}" for i, text in enumerate(dict.fromkeys(columns[part]))}
        for part in ("query", "document")
    }
    relevant: dict[str, dict[str, int]] = {}
    scores = whole_numbers(columns["relevance"], file)
    for query, document, score in zip(columns["query"], columns["document"], scores, strict=True):
        relevant.setdefault(ids["query"][query], {})[ids["document"][document]] = score
    if max(scores) <= 0:
        raise InputError(
            f"{file}: no document has a relevance above 0; expected one for every query; correct the judgements"
        )
    queries, documents = (
        Dataset.from_dict({"id": list(known.values()), "text": list(known)}) for known in ids.values()
    )
    return {"corpus": documents, "queries": queries, "relevant_docs": relevant, "top_ranked": None}


def reranking_split(file: Path) -> dict[str, Any]:
    """Reads queries with good and bad candidates, as mteb's retrieval evaluation takes them.

    Raises:
        InputError: A column is missing, a text is empty, or no query has both kinds of candidates.
    """
    return ranked_split(choose_columns(read_columns(file), file, RANKED), file)


def ranked_split(columns: Columns, file: Path) -> dict[str, Any]:
    """Arranges columns of queries, good and bad candidates, as mteb's retrieval evaluation takes them.

    Queries without good or without bad candidates are left out.

    Raises:
        InputError: A text is empty, or no query has both kinds of candidates.
    """
    require_text_columns(columns, file, "query")
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
        raise InputError(
            f"{file}: no query has both positive and negative texts; expected lists of texts; add what is missing"
        )
    return {
        "corpus": Dataset.from_dict(documents),
        "queries": Dataset.from_dict(queries),
        "relevant_docs": relevant,
        "top_ranked": ranked,
    }
