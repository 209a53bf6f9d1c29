"""What the studies measure an embedder with: five tasks, each a function of ``encode`` and its loaded data.

Shapes: N texts, D dimensions, Q queries, P passages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

Encode = Callable[[list[str]], np.ndarray]
SAMPLE_SEED = 0  # of every subsample and of k-means: the same for all models and all training seeds


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Items a task is evaluated on, at most; None takes all.

    Args:
        sts: pairs of STSBenchmark.
        sick: pairs of SICK-R.
        articles: of the retrieval; where it is given, only the first passage of each is searched.
        newsgroups: texts of the clustering; where it is given, they are of one set instead of all ten.
        banking_train: texts that the classifier learns from.
        banking_test: texts that it is judged on.
    """

    sts: int | None = None
    sick: int | None = None
    articles: int | None = None
    newsgroups: int | None = None
    banking_train: int | None = None
    banking_test: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of sentences with human scores of similarity."""

    first: list[str]
    second: list[str]
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Queries and passages; a passage is relevant to the one query whose index is in ``query_P``."""

    queries: list[str]
    passages: list[str]
    query_P: list[int]


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """Texts with labels."""

    texts: list[str]
    labels: list[int]


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """All that is evaluated on, loaded."""

    sts: Pairs
    sick: Pairs
    retrieval: Retrieval
    newsgroups: list[TextSet]
    banking_train: TextSet
    banking_test: TextSet

    def describe(self) -> dict[str, str]:
        """Task name to the number of items."""
        texts = sum(len(part.texts) for part in self.newsgroups)
        return {
            "STSBenchmark": f"{len(self.sts.scores)} pairs",
            "SICK-R": f"{len(self.sick.scores)} pairs",
            "Wikipedia titles": f"{len(self.retrieval.queries)} titles, {len(self.retrieval.passages)} passages",
            "TwentyNewsgroups": f"{texts} texts, {len(self.newsgroups)} set(s)",
            "Banking77": f"{len(self.banking_train.texts)} train, {len(self.banking_test.texts)} test",
        }


METRICS = {
    "STSBenchmark": "Spearman of cosine",
    "SICK-R": "Spearman of cosine",
    "Wikipedia titles": "nDCG@10",
    "TwentyNewsgroups": "V-measure",
    "Banking77": "accuracy",
}


def load_tasks(data: Path, sizes: Sizes) -> Tasks:
    """Reads the tasks from the data folder and takes the seeded subsamples."""
    mteb = data / "mteb"
    return Tasks(
        sts=load_pairs(mteb / "STSBenchmark" / "test.parquet", sizes.sts),
        sick=load_pairs(mteb / "SICK-R" / "test.parquet", sizes.sick),
        retrieval=load_retrieval(data / "wiki" / "passages_dev.parquet", sizes.articles),
        newsgroups=load_sets(mteb / "TwentyNewsgroupsClustering" / "test.parquet", sizes.newsgroups),
        banking_train=load_labelled(mteb / "Banking77Classification" / "train.parquet", sizes.banking_train),
        banking_test=load_labelled(mteb / "Banking77Classification" / "test.parquet", sizes.banking_test),
    )


def sample(total: int, count: int | None) -> list[int]:
    """Indices of a seeded sample in ascending order; all of them where ``count`` is None or not below ``total``."""
    if count is None or count >= total:
        return list(range(total))
    return sorted(np.random.default_rng(SAMPLE_SEED).choice(total, count, replace=False).tolist())


def load_pairs(file: Path, count: int | None) -> Pairs:
    """A parquet file with sentence1, sentence2, score."""
    columns = pq.read_table(file, columns=["sentence1", "sentence2", "score"]).to_pydict()
    first, second, scores = ([values[i] for i in sample(len(values), count)] for values in columns.values())
    return Pairs(first=first, second=second, scores=scores)


def load_retrieval(file: Path, articles: int | None) -> Retrieval:
    """Titles as queries, passages as the corpus; relevant are the passages of the title's own article."""
    columns = pq.read_table(file, columns=["id", "title", "text"]).to_pydict()
    passages: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for passage_id, title, text in zip(columns["id"], columns["title"], columns["text"], strict=True):
        article = passage_id.rpartition("-")[0]
        titles[article] = title
        passages.setdefault(article, []).append(text)
    names = sorted(titles)
    chosen = [names[i] for i in sample(len(names), articles)]
    kept = [passages[article][: None if articles is None else 1] for article in chosen]
    return Retrieval(
        queries=[titles[article] for article in chosen],
        passages=[text for texts in kept for text in texts],
        query_P=[query for query, texts in enumerate(kept) for _ in texts],
    )


def load_sets(file: Path, count: int | None) -> list[TextSet]:
    """A parquet file with one set a row; with a count, that many texts of the first set."""
    columns = pq.read_table(file, columns=["sentences", "labels"]).to_pydict()
    rows = zip(columns["sentences"], columns["labels"], strict=True)
    sets = [TextSet(texts=texts, labels=labels) for texts, labels in rows]
    if count is None:
        return sets
    kept = sample(len(sets[0].texts), count)
    return [TextSet(texts=[sets[0].texts[i] for i in kept], labels=[sets[0].labels[i] for i in kept])]


def load_labelled(file: Path, count: int | None) -> TextSet:
    """A parquet file with text, label."""
    columns = pq.read_table(file, columns=["text", "label"]).to_pydict()
    kept = sample(len(columns["text"]), count)
    return TextSet(texts=[columns["text"][i] for i in kept], labels=[columns["label"][i] for i in kept])


@dataclass(frozen=True, kw_only=True)
class Task:
    """One number about an embedder.

    Args:
        name: of the task.
        metric: what the number is.
        items: how much it is measured on, in words.
        score: from 0 to 1 (Spearman: from -1).
    """

    name: str
    metric: str
    items: str
    score: Callable[[Encode], float]


def five_tasks(tasks: Tasks) -> list[Task]:
    """The tasks in the order of the tables."""
    scores: dict[str, Callable[[Encode], float]] = {
        "STSBenchmark": lambda encode: sts_spearman(encode, tasks.sts),
        "SICK-R": lambda encode: sts_spearman(encode, tasks.sick),
        "Wikipedia titles": lambda encode: retrieval_ndcg(encode, tasks.retrieval),
        "TwentyNewsgroups": lambda encode: clustering_v_measure(encode, tasks.newsgroups),
        "Banking77": lambda encode: classification_accuracy(encode, tasks.banking_train, tasks.banking_test),
    }
    items = tasks.describe()
    return [Task(name=name, metric=METRICS[name], items=items[name], score=score) for name, score in scores.items()]


def evaluate(encode: Encode, tasks: Sequence[Task]) -> tuple[dict[str, float], dict[str, float]]:
    """Scores in percent and wall seconds of every task."""
    scores, seconds = {}, {}
    for task in tasks:
        started = time.monotonic()
        scores[task.name] = round(100 * task.score(encode), 3)
        seconds[task.name] = round(time.monotonic() - started, 1)
    return scores, seconds


def unit_vectors(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """``vectors_ND`` in float32 and of length 1; equal texts are encoded once."""
    distinct = list(dict.fromkeys(texts))
    row = {text: i for i, text in enumerate(distinct)}
    vectors = np.asarray(encode(distinct), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors[[row[text] for text in texts]]


def sts_spearman(encode: Encode, data: Pairs) -> float:
    """Spearman's correlation of cosine similarity with the human scores."""
    from scipy.stats import spearmanr

    vectors_ND = unit_vectors(encode, data.first + data.second)
    count = len(data.first)
    cosines = (vectors_ND[:count] * vectors_ND[count:]).sum(-1)
    return float(spearmanr(cosines, data.scores).statistic)


def retrieval_ndcg(encode: Encode, data: Retrieval) -> float:
    """nDCG@10 of the passages ranked by cosine similarity to the query."""
    scores_QP = unit_vectors(encode, data.queries) @ unit_vectors(encode, data.passages).T
    relevant_QP = np.arange(len(data.queries))[:, None] == np.asarray(data.query_P)[None, :]
    return ndcg_at_10(scores_QP, relevant_QP)


def ndcg_at_10(scores_QP: np.ndarray, relevant_QP: np.ndarray) -> float:
    """Mean over the queries of nDCG at rank 10 with binary relevance; of equal scores the first passage goes first.

    Args:
        scores_QP: higher is better.
        relevant_QP: bool; every query needs a relevant passage.
    """
    depth = min(10, scores_QP.shape[1])
    discount = 1 / np.log2(np.arange(2, depth + 2))
    order_QK = np.argsort(-scores_QP, axis=1, kind="stable")[:, :depth]
    gain_Q = (np.take_along_axis(relevant_QP, order_QK, axis=1) * discount).sum(-1)
    ideal_K = np.cumsum(discount)
    relevant_Q = relevant_QP.sum(-1)
    if not relevant_Q.all():
        raise ValueError("a query has no relevant passage")
    return float((gain_Q / ideal_K[np.minimum(relevant_Q, depth) - 1]).mean())


def clustering_v_measure(encode: Encode, data: Sequence[TextSet]) -> float:
    """Mean V-measure over the sets of seeded k-means on unit vectors, k = number of labels."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import v_measure_score

    vectors_ND = unit_vectors(encode, [text for part in data for text in part.texts])
    scores, start = [], 0
    for part in data:
        own_ND = vectors_ND[start : start + len(part.texts)]
        start += len(part.texts)
        clusters = KMeans(n_clusters=len(set(part.labels)), n_init=10, random_state=SAMPLE_SEED).fit_predict(own_ND)
        scores.append(v_measure_score(part.labels, clusters))
    return float(np.mean(scores))


def classification_accuracy(encode: Encode, train: TextSet, test: TextSet) -> float:
    """Accuracy of logistic regression on unit vectors, each dimension standardised on the training texts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors_ND = unit_vectors(encode, train.texts + test.texts)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(vectors_ND[: len(train.texts)], train.labels)
    return float(classifier.score(vectors_ND[len(train.texts) :], test.labels))
