"""Text2Token trained on one domain and measured on others: Wikipedia, Wikinews, bioRxiv abstracts.

    python studies/text2token_domains.py --preset cpu

Writes ``text2token_domains_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are subsamples.
Both stages, equally many texts of every domain. What is searched was not trained on: Wikipedia passages by title (of
other articles), Wikinews passages by title, and the rest of bioRxiv abstracts by their first sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
from evaluation import (
    METRICS,
    Pairs,
    Retrieval,
    Sizes,
    Task,
    load_pairs,
    load_retrieval,
    retrieval_ndcg,
    sample,
    sts_spearman,
)
from findings import better, verdict
from variants import PRESETS, Study, Variant, command_line, run_quietly

from selfembed.data.corpus import Corpus

FINDING = (
    "training on a domain's own text serves that domain best (ours to ask: the paper trains on Wikipedia only and "
    "evaluates on tasks of many domains)."
)
DOMAINS = {"wiki": "Wikipedia titles", "wikinews": "Wikinews titles", "biorxiv": "bioRxiv first sentences"}
HELD_OUT = 500  # articles of every domain that are not trained on
TEXTS = 4_500  # of every domain: what bioRxiv has left, about
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_SHORTEST_REST = 20  # words
STAGES = ("data_driven", "model_derived")

Article = tuple[str, list[str]]  # title, passages


def main() -> None:
    options = command_line(__doc__)
    preset = PRESETS[options.preset]
    held, corpora = {}, {}
    for domain in DOMAINS:
        held[domain], rest = split(read_articles(options.data / domain / "passages.parquet"))
        corpora[domain] = training_texts(rest)
    tasks = domain_tasks(options.data, held, preset.sizes)
    variants = [Variant(name="raw")]
    variants += [Variant(name=f"trained on {domain}", stages=STAGES, corpus=domain, raw="raw") for domain in DOMAINS]
    title = "Domains: trained on one, measured on others (Text2Token)"
    study = Study(
        "text2token_domains",
        title=title,
        finding=FINDING,
        variants=variants,
        options=options,
        corpora=corpora,
        tasks=tasks,
    )
    study.run()
    findings = []
    for domain, task in DOMAINS.items():
        found = {name: study.values(f"trained on {name}", task) for name in DOMAINS}
        rival = max((name for name in DOMAINS if name != domain), key=lambda name: sum(found[name]))
        pair = [(f"training on {name}", found[name]) for name in (domain, rival)]
        findings.append(better(f"on {task}", *pair))
    study.conclude(verdict(findings))


def read_articles(file: Path) -> list[Article]:
    """The articles of a file of passages, by the part of the id before the last hyphen, in the file's order."""
    columns = pq.read_table(file, columns=["id", "title", "text"]).to_pydict()
    articles: dict[str, Article] = {}
    for passage_id, title, text in zip(columns["id"], columns["title"], columns["text"], strict=True):
        articles.setdefault(passage_id.rpartition("-")[0], (title, []))[1].append(text)
    return list(articles.values())


def split(articles: list[Article]) -> tuple[list[Article], list[Article]]:
    """A seeded sample of articles that is held out, and the rest."""
    chosen = set(sample(len(articles), min(HELD_OUT, len(articles) // 2)))
    held = [article for row, article in enumerate(articles) if row in chosen]
    return held, [article for row, article in enumerate(articles) if row not in chosen]


def training_texts(articles: list[Article]) -> Corpus:
    """A seeded sample of the passages of articles."""
    texts = [text for _, passages in articles for text in passages]
    return Corpus(iter([texts[row] for row in sample(len(texts), TEXTS)]), passage_words=None)


def by_title(articles: list[Article], count: int | None) -> Retrieval:
    """The first passage of every article, by its title; of equal titles the first article stays."""
    first = {title: passages[0] for title, passages in reversed(articles)}
    return pairs_retrieval(list(first.items()), count)


def by_first_sentence(articles: list[Article], count: int | None) -> Retrieval:
    """What follows the first sentence of the first passage, by that sentence, where enough follows."""
    halves = [_SENTENCE_END.split(passages[0], maxsplit=1) for _, passages in articles]
    return pairs_retrieval(
        [(h[0], h[1]) for h in halves if len(h) == 2 and len(h[1].split()) >= _SHORTEST_REST], count
    )


def pairs_retrieval(pairs: list[tuple[str, str]], count: int | None) -> Retrieval:
    """One passage a query."""
    chosen = [pairs[row] for row in sample(len(pairs), count)]
    queries, passages = [query for query, _ in chosen], [passage for _, passage in chosen]
    return Retrieval(queries=queries, passages=passages, query_P=list(range(len(chosen))))


def domain_tasks(data: Path, held: dict[str, list[Article]], sizes: Sizes) -> list[Task]:
    """Retrieval in every domain, and two tasks of sentence pairs."""
    searched = {
        "wiki": load_retrieval(data / "wiki" / "passages_dev.parquet", sizes.articles),
        "wikinews": by_title(held["wikinews"], sizes.articles),
        "biorxiv": by_first_sentence(held["biorxiv"], sizes.articles),
    }
    pairs = {
        "STSBenchmark": load_pairs(data / "mteb" / "STSBenchmark" / "test.parquet", sizes.sts),
        "SICK-R": load_pairs(data / "mteb" / "SICK-R" / "test.parquet", sizes.sick),
    }
    tasks = [retrieval_task(DOMAINS[domain], found) for domain, found in searched.items()]
    return tasks + [pairs_task(name, found) for name, found in pairs.items()]


def retrieval_task(name: str, data: Retrieval) -> Task:
    items = f"{len(data.queries)} queries, {len(data.passages)} passages"
    return Task(name=name, metric="nDCG@10", items=items, score=lambda encode: retrieval_ndcg(encode, data))


def pairs_task(name: str, data: Pairs) -> Task:
    items = f"{len(data.scores)} pairs"
    return Task(name=name, metric=METRICS[name], items=items, score=lambda encode: sts_spearman(encode, data))


if __name__ == "__main__":
    run_quietly(main)
