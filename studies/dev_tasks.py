"""The ten development tasks by mteb's rules, scored from vectors alone: for sweeps, where mteb itself is too slow.

Categories are those of MTEB(eng, v2). Classification: logistic regression on 8 texts a label, ten draws. Clustering:
mini-batch k-means. Pair classification: average precision of the cosine. Reranking: mean average precision.
Retrieval: nDCG@10. STS and summarisation: Spearman's correlation with the cosine. Draws are not mteb's own, so that
scores agree with mteb's to about half a point, not to the digit.

Shapes: N texts, D dimensions, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

Rows = dict[str, list[Any]]
Vectors = Callable[[Sequence[str]], np.ndarray]

CATEGORIES = {
    "STSBenchmark": "STS",
    "SICK-R": "STS",
    "STS14": "STS",
    "Banking77": "classification",
    "MassiveIntent": "classification",
    "TwentyNewsgroups": "clustering",
    "MSRP": "pair classification",
    "DupQuestions": "reranking",
    "ArguAna": "retrieval",
    "SummEval": "summarisation",
}
_LABEL_TEXTS, _DRAWS = 8, 10


def read(folder: Path) -> dict[str, Rows]:
    """The parquet files of the ten tasks, by task and split (``"SICK-R/test"``)."""
    return {
        f"{file.parent.name}/{file.stem}": pq.read_table(file).to_pydict()
        for file in sorted(folder.glob("*/*.parquet"))
        if file.stem in ("test", "corpus", "queries", "qrels")
        or (file.stem == "train" and "Classification" in file.parent.name)
    }


def sampled(rows: dict[str, Rows], seed: int = 0) -> dict[str, Rows]:
    """A part of every task that two CPU cores read in a quarter of an hour: 9,346 texts of the ten tasks with seed 0.

    All relevant documents of the queries are kept, beside others.
    """
    found = {}
    for key, count in _SAMPLED.items():
        columns = rows[key]
        size = len(next(iter(columns.values())))
        chosen = np.sort(np.random.default_rng(seed).choice(size, min(count, size), replace=False))
        found[key] = _taken(columns, chosen)
    for task in ("Banking77Classification", "MassiveIntentClassification"):
        labels_N, rng = np.asarray(rows[f"{task}/train"]["label"]), np.random.default_rng(seed)
        drawn = [rng.permutation(np.flatnonzero(labels_N == label))[:_LABEL_TEXTS] for label in np.unique(labels_N)]
        found[f"{task}/train"] = _taken(rows[f"{task}/train"], np.concatenate(drawn))
    sets, rng = rows["TwentyNewsgroupsClustering/test"], np.random.default_rng(seed)
    cut = []
    for sentences, labels in list(zip(sets["sentences"], sets["labels"], strict=True))[:2]:
        cut.append(_taken({"sentences": sentences, "labels": labels}, rng.choice(len(sentences), 700, replace=False)))
    found["TwentyNewsgroupsClustering/test"] = {name: [one[name] for one in cut] for name in ("sentences", "labels")}
    corpus, relevant = rows["ArguAna/corpus"], rows["ArguAna/qrels"]
    asked = set(found["ArguAna/queries"]["id"])
    wanted = dict(zip(relevant["qid"], relevant["did"], strict=True))
    needed = asked | {wanted[name] for name in asked if name in wanted}
    inside = [name in needed for name in corpus["id"]]
    others = np.random.default_rng(seed).choice(np.flatnonzero(~np.array(inside)), 350, replace=False)
    found["ArguAna/corpus"] = _taken(corpus, np.sort(np.concatenate([np.flatnonzero(inside), others])))
    return found | {"ArguAna/qrels": relevant}


_SAMPLED = {
    "STSBenchmark/test": 400,
    "SICK-R/test": 400,
    "STS14/test": 400,
    "MSRP/test": 500,
    "Banking77Classification/test": 500,
    "MassiveIntentClassification/test": 500,
    "DupQuestionsReranking_proxy/test": 80,
    "ArguAna/queries": 150,
    "SummEvalSummarization/test": 15,
}


def _taken(rows: Rows, places: np.ndarray) -> Rows:
    return {name: [values[place] for place in places] for name, values in rows.items()}


@dataclass(frozen=True)
class Tasks:
    """The tasks' data, see :func:`read`."""

    rows: dict[str, Rows]

    def texts(self) -> list[str]:
        """Every text of every task once."""
        found: dict[str, None] = {}

        def note(texts: Sequence[str]) -> np.ndarray:
            found.update(dict.fromkeys(texts))
            return np.random.default_rng(0).standard_normal((len(texts), 4), dtype=np.float32)

        for name in CATEGORIES:
            if name not in ("Banking77", "MassiveIntent"):  # classifiers are not fitted to noise
                self.score(name, note)
        for split in ("train", "test"):
            for task in ("Banking77Classification", "MassiveIntentClassification"):
                note(self.rows[f"{task}/{split}"]["text"])
        return list(found)

    def score(self, name: str, vectors: Vectors) -> float:
        """A task's main score, from 0 to 1 (Spearman: from -1)."""
        if name in ("STSBenchmark", "SICK-R", "STS14"):
            rows = self.rows[f"{name}/test"]
            return spearman(cosines(vectors, rows["sentence1"], rows["sentence2"]), rows["score"])
        if name == "MSRP":
            rows = self.rows["MSRP/test"]
            return average_precision(cosines(vectors, rows["sentence1"], rows["sentence2"]), rows["labels"])
        if name in ("Banking77", "MassiveIntent"):
            splits = (self.rows[f"{name}Classification/{split}"] for split in ("train", "test"))
            return classification(vectors, *splits)
        if name == "TwentyNewsgroups":
            rows = self.rows["TwentyNewsgroupsClustering/test"]
            return clustering(vectors, list(zip(rows["sentences"], rows["labels"], strict=True)))
        if name == "DupQuestions":
            return reranking(vectors, self.rows["DupQuestionsReranking_proxy/test"])
        if name == "ArguAna":
            return arguana(vectors, *(self.rows[f"ArguAna/{part}"] for part in ("corpus", "queries", "qrels")))
        return summarisation(vectors, self.rows["SummEvalSummarization/test"])


def unit(vectors_ND: np.ndarray) -> np.ndarray:
    """Vectors of length 1."""
    return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=-1, keepdims=True), 1e-12)


def cosines(vectors: Vectors, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """The cosine of each pair, shape (N,)."""
    return (unit(vectors(first)) * unit(vectors(second))).sum(-1)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def average_precision(scores_N: np.ndarray, labels: Sequence[int]) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores_N))


def classification(vectors: Vectors, train: Rows, test: Rows) -> float:
    """Mean accuracy over the draws."""
    from sklearn.linear_model import LogisticRegression

    train_ND, test_ND = vectors(train["text"]), vectors(test["text"])
    labels_N, rng = np.asarray(train["label"]), np.random.default_rng(42)
    scores = []
    for _ in range(_DRAWS):
        drawn = np.concatenate(
            [rng.permutation(np.flatnonzero(labels_N == label))[:_LABEL_TEXTS] for label in np.unique(labels_N)]
        )
        classifier = LogisticRegression(max_iter=100).fit(train_ND[drawn], labels_N[drawn])
        scores.append(float((classifier.predict(test_ND) == np.asarray(test["label"])).mean()))
    return float(np.mean(scores))


def clustering(vectors: Vectors, sets: Sequence[tuple[list[str], list[Any]]]) -> float:
    """Mean V-measure over the sets."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    scores = []
    for texts, labels in sets:
        kmeans = MiniBatchKMeans(len(set(labels)), batch_size=500, n_init="auto", random_state=0)
        scores.append(v_measure_score(labels, kmeans.fit_predict(vectors(texts))))
    return float(np.mean(scores))


def reranking(vectors: Vectors, rows: Rows) -> float:
    """Mean average precision of the positives among each query's candidates."""
    scores = []
    for query, positive, negative in zip(rows["query"], rows["positive"], rows["negative"], strict=True):
        near_N = unit(vectors([*positive, *negative])) @ unit(vectors([query]))[0]
        hits_N = np.argsort(-near_N, kind="stable") < len(positive)
        precision_N = np.cumsum(hits_N) / np.arange(1, len(hits_N) + 1)
        scores.append(float(precision_N[hits_N].mean()))
    return float(np.mean(scores))


def arguana(vectors: Vectors, corpus: Rows, queries: Rows, relevant: Rows) -> float:
    """nDCG@10 over all queries, a query's own document left out; a missing document counts 0."""
    texts = [f"{title} {text}".strip() for title, text in zip(corpus["title"], corpus["text"], strict=True)]
    place = {name: i for i, name in enumerate(corpus["id"])}
    wanted = dict(zip(relevant["qid"], relevant["did"], strict=True))
    scores_QN = unit(vectors(queries["text"])) @ unit(vectors(texts)).T
    gains = []
    for row, name in enumerate(queries["id"]):
        if name in place:
            scores_QN[row, place[name]] = -2
        target = place.get(wanted.get(name, ""))
        rank = 11 if target is None else 1 + int((scores_QN[row] > scores_QN[row, target]).sum())
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
    return float(np.mean(gains))


def summarisation(vectors: Vectors, rows: Rows) -> float:
    """Mean over the texts of Spearman's correlation of human relevance with the nearest human summary's cosine."""
    scores = []
    for human, machine, relevance in zip(
        rows["human_summaries"], rows["machine_summaries"], rows["relevance"], strict=True
    ):
        near_N = (unit(vectors(machine)) @ unit(vectors(human)).T).max(1)
        if len(set(relevance)) > 1:
            scores.append(spearman(near_N, relevance))
    return float(np.nanmean(scores))


def summary(scores: dict[str, float]) -> dict[str, float]:
    """Means of the categories and the mean over them ("macro")."""
    found: dict[str, list[float]] = {}
    for name, score in scores.items():
        found.setdefault(CATEGORIES[name], []).append(score)
    means = {category: float(np.mean(values)) for category, values in found.items()}
    return means | {"macro": float(np.mean(list(means.values())))}
