"""Retrieval without labels: the title or first sentence of a text shall find the text's rest."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Dataset
from mteb.abstasks import AbsTask, AbsTaskRetrieval

from selfembed.data.corpus import Corpus
from selfembed.data.ledger import Ledger
from selfembed.data.rows import column_names, read_rows
from selfembed.data.words import count_words, first_sentence
from selfembed.errors import InputError
from selfembed.evaluation.own_task import own_task

_SEED = 0
_QUERY_WORDS, _REST_WORDS = 3, 10  # at least; shorter ones say too little. A title may be one word


def self_retrieval_task(
    corpus: Iterable[str | tuple[str, str]],
    *,
    name: str = "SelfRetrieval",
    queries: int = 1_000,
    documents: int = 10_000,
) -> AbsTask:
    """Makes a task without labels: the title or first sentence of a text shall find the text's rest, scored by
    nDCG@10.

    It tells whether an embedder keeps the texts of this corpus apart, not what human judges would say. A trained
    embedder may have seen the texts.

    Args:
        corpus: A :class:`~selfembed.data.corpus.Corpus` or any texts; a pair is a title and its text, see
            :func:`titled_texts`. A text is used if it has a title, or a first sentence of at least 3 words, and at
            least 10 words after it; of texts with the same title or beginning the first is used.
        name: The task's name.
        queries: The largest number of queries, drawn with a fixed seed.
        documents: The largest number of documents, drawn with a fixed seed; those of the queries are among them.

    Raises:
        InputError: Fewer than 2 texts can be used.
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
            f"words, and {_REST_WORDS} words after it; expected at least 2; give longer texts"
        )
    draw = random.Random(_SEED)
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
    return own_task(AbsTaskRetrieval, name, "Retrieval", "ndcg_at_10", dataset, fingerprint, note=note)


def titled_texts(sources: Iterable[str]) -> Iterator[str | tuple[str, str]]:
    """Yields the texts of a corpus for self-retrieval, with their titles where there are some.

    Args:
        sources: Sources as :class:`~selfembed.data.corpus.Corpus` takes them. A file of rows with the columns `title`
            and `text`, or a folder of nothing else, gives pairs of the two, each text whole; everything else is cut
            into passages without titles.

    Yields:
        A text, or a title and its text.

    Raises:
        InputError: A file is damaged, or a source is one that `Corpus` refuses.
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
    """Takes the title off the text where it begins it: a text shall be found by meaning, not by its words."""
    return title.strip(), text.strip().removeprefix(title.strip()).strip()
