"""The domains that embedders are held against other searches on: texts to train on, and queries for other texts.

What is sought is never trained on: docstrings of other modules, other abstracts, other articles, other entries.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from selfembed.data import python_docs as docs
from selfembed.data.pair_sources import sentences
from selfembed.data.passages import PassageRow
from selfembed.errors import InputError

HELD_OUT = 1_000  # queries, where a domain has enough


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Passages to train on without labels, and a search to judge by.

    Args:
        name: Of the domain.
        question: What is searched with and for, in words.
        passages: To train on, those of one document one after the other.
        queries: Each seeks one document.
        documents: What is searched.
        relevant: The index of each query's document.
        itself: The index of the document that is the query itself, by the query's index; its ranking leaves it out.
    """

    name: str
    question: str
    passages: Sequence[PassageRow]
    queries: Sequence[str]
    documents: Sequence[str]
    relevant: Sequence[int]
    itself: Mapping[int, int] = field(default_factory=dict)


def passage(text: str, document: int, title: str | None = None) -> PassageRow:
    """A passage of a document."""
    return PassageRow(text=text, words=0, title=title or "", title_from="column" if title else "", document=document)


def python_docs(split: int = 0, held_out: int = 300) -> Domain:
    """The quickstart's search: the body of a docstring by its summary. Splits hold out other modules."""
    _, held = docs.split_pairs(docs.docstring_pairs(), held_out, split)
    numbers: dict[str, int] = {}
    passages = [
        passage(row["text"], numbers.setdefault(row["title"], len(numbers)), row["title"])
        for row in docs.titled_python_docs(held_out=[pair.qualified_name for pair in held])
    ]
    return Domain(
        name=f"python-docs-{split}" if split else "python-docs",
        question="docstring summary -> body",
        passages=passages,
        queries=[pair.summary for pair in held],
        documents=[pair.body for pair in held],
        relevant=range(len(held)),
    )


def biorxiv(data: Path) -> Domain:
    """Abstracts: the first sentence finds the rest of its abstract's first passage."""
    table = pq.read_table(data / "biorxiv" / "passages.parquet", columns=["id", "text"]).to_pydict()
    abstracts: dict[str, list[str]] = {}
    for name, text in zip(table["id"], table["text"], strict=True):
        abstracts.setdefault(name.rpartition("-")[0], []).append(text)
    names = sorted(abstracts)
    random.Random(0).shuffle(names)
    held: list[tuple[str, str]] = []
    kept: list[PassageRow] = []
    for number, name in enumerate(names):
        first, *others = sentences(abstracts[name][0])
        rest = " ".join(others)
        if len(held) < HELD_OUT and len(first.split()) >= 4 and len(rest.split()) >= 15:
            held.append((first, rest))
        else:
            kept += [passage(text, number) for text in abstracts[name]]
    return Domain(
        name="biorxiv",
        question="first sentence of an abstract -> the rest",
        passages=kept,
        queries=[query for query, _ in held],
        documents=[rest for _, rest in held],
        relevant=range(len(held)),
    )


def wikinews(data: Path, limit: int | None = None) -> Domain:
    """News: the title finds the first passage of its article among those of other articles."""
    table = pq.read_table(data / "wikinews" / "passages.parquet").to_pydict()
    articles: dict[str, list[tuple[str, str]]] = {}
    for name, title, text in zip(table["id"], table["title"], table["text"], strict=True):
        articles.setdefault(name.rpartition("-")[0], []).append((title, text))
    names = sorted(articles)
    random.Random(0).shuffle(names)
    held: dict[str, str] = {}
    for name in names[: 2 * HELD_OUT]:
        title, text = articles[name][0]
        held.setdefault(title, text)
    queries = list(held)[:HELD_OUT]
    passages = [
        passage(text, number, title)
        for number, name in enumerate(names[2 * HELD_OUT :])
        for title, text in articles[name]
        if title not in held
    ]
    return Domain(
        name="wikinews",
        question="title of a news article -> its first passage",
        passages=passages[:limit],
        queries=queries,
        documents=[held[title] for title in queries],
        relevant=range(len(queries)),
    )


def arguana(data: Path, limit: int | None = None) -> Domain:
    """MTEB's ArguAna by its rules: an argument finds its counter-argument, itself left out.

    It is trained on the documents that no query is about.
    """
    folder = data / "mteb" / "ArguAna"
    corpus = pq.read_table(folder / "corpus.parquet").to_pydict()
    queries = pq.read_table(folder / "queries.parquet").to_pydict()
    relevant = pq.read_table(folder / "qrels.parquet").to_pydict()
    wanted = dict(zip(relevant["qid"], relevant["did"], strict=True))
    texts = {
        name: f"{title} {text}".strip()
        for name, title, text in zip(corpus["id"], corpus["title"], corpus["text"], strict=True)
    }
    place = {name: i for i, name in enumerate(texts)}
    asked = [i for i, name in enumerate(queries["id"]) if wanted.get(name) in place]
    used = {wanted[queries["id"][i]] for i in asked} | set(queries["id"])
    free = [text for name, text in texts.items() if name not in used]
    return Domain(
        name="arguana",
        question="argument -> counter-argument",
        passages=[passage(text, number) for number, text in enumerate(free)][:limit],
        queries=[queries["text"][i] for i in asked],
        documents=list(texts.values()),
        relevant=[place[wanted[queries["id"][i]]] for i in asked],
        itself={row: place[queries["id"][i]] for row, i in enumerate(asked) if queries["id"][i] in place},
    )


def foldoc(folder: Path = Path("/usr/share/dictd")) -> Domain:
    """The Free On-line Dictionary of Computing (Debian: dict-foldoc): a term finds its definition.

    Raises:
        InputError: The dictionary is not installed.
    """
    file = folder / "foldoc.dict.dz"
    if not file.is_file():
        raise InputError(f"{file}: not there; install Debian's dict-foldoc, or leave this domain out")
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        entries = dict(_foldoc_entries(stream.read()))
    return _dictionary("foldoc", list(entries.items()))


def _foldoc_entries(text: str) -> Iterator[tuple[str, str]]:
    """Terms and definitions of 10 words and more; an entry begins with its term at the start of a line."""
    term, lines = "", []
    for line in [*text.splitlines()[100:], "end"]:
        if line and not line.startswith((" ", "\t", "{", "(")):
            definition = " ".join(" ".join(lines).split())
            definition = re.sub(r"[{}]|__|\(\d{4}-\d\d-\d\d\)|^(<[^>]*> ?)+", "", definition).strip()
            if term and len(definition.split()) >= 10:
                yield term, definition
            term, lines = line.strip(), []
        else:
            lines.append(line)


def wordnet(folder: Path = Path("/usr/share/wordnet")) -> Domain:
    """WordNet's nouns (Debian: wordnet-base): a word finds its definition.

    Raises:
        InputError: WordNet is not installed.
    """
    file = folder / "data.noun"
    if not file.is_file():
        raise InputError(f"{file}: not there; install Debian's wordnet-base, or leave this domain out")
    entries: dict[str, str] = {}
    for line in file.read_text(encoding="latin-1").splitlines():
        if not line.startswith(" "):
            head, _, gloss = line.partition(" | ")
            definition = gloss.split('; "')[0].strip()
            if len(definition.split()) >= 6:
                entries.setdefault(head.split(" ")[4].replace("_", " "), definition)
    return _dictionary("wordnet", list(entries.items()))


def _dictionary(name: str, entries: list[tuple[str, str]]) -> Domain:
    random.Random(0).shuffle(entries)
    held, rest = entries[:HELD_OUT], entries[HELD_OUT:]
    return Domain(
        name=name,
        question="term -> definition",
        passages=[passage(text, number, term) for number, (term, text) in enumerate(rest)],
        queries=[term for term, _ in held],
        documents=[text for _, text in held],
        relevant=range(len(held)),
    )


def first_queries(domain: Domain, count: int) -> Domain:
    """The first queries, and their documents alone: a smaller search, for a machine with little time."""
    relevant = [domain.relevant[query] for query in range(min(count, len(domain.queries)))]
    place = {document: i for i, document in enumerate(dict.fromkeys(relevant))}
    return replace(
        domain,
        queries=domain.queries[: len(relevant)],
        documents=[domain.documents[document] for document in place],
        relevant=[place[document] for document in relevant],
        itself={query: place[one] for query, one in domain.itself.items() if query < count and one in place},
    )


def ndcg_at_10(scores_QP: np.ndarray, domain: Domain) -> np.ndarray:
    """nDCG@10 of each query with its one relevant document, shape (Q,); of equal scores half are ranked before it."""
    scores_QP = scores_QP.astype(np.float64, copy=True)
    for query, document in domain.itself.items():
        scores_QP[query, document] = -np.inf
    own_Q1 = scores_QP[np.arange(len(domain.queries)), list(domain.relevant)][:, None]
    rank_Q = 1 + (scores_QP > own_Q1).sum(1) + ((scores_QP == own_Q1).sum(1) - 1) / 2
    return np.where(rank_Q <= 10, 1 / np.log2(rank_Q + 1), 0.0)


def bm25_scores(domain: Domain, *, stemmed: bool) -> np.ndarray:
    """BM25 (bm25s, its defaults) of every document for every query, ``scores_QN``."""
    import bm25s

    stemmer = None
    if stemmed:
        import snowballstemmer

        stemmer = snowballstemmer.stemmer("english").stemWords

    def words(texts: Sequence[str]) -> list[list[str]]:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(words(domain.documents), show_progress=False)
    nothing_N = np.zeros(len(domain.documents), np.float32)
    return np.stack([index.get_scores(query) if query else nothing_N for query in words(domain.queries)])
