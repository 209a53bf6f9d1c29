"""The per-item results of mteb's tasks: of the predictions that mteb saves, what the main score needs.

Shapes: N items, K ways of scoring, E experiments.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytrec_eval
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskMultilabelClassification,
    AbsTaskPairClassification,
    AbsTaskRegression,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.text.summarization import AbsTaskSummarization
from scipy.stats import spearmanr

from selfembed.evaluation.items import DRAWS, PRECISION, SPEARMAN, Items, mean_items, ranked_items

_CLOSE = 1e-4  # mteb rounds some scores to five digits
_MAX_AP = ("similarity_scores", "cosine_scores", "manhattan_distances", "euclidean_distances", "dot_scores")
_RANKED = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


def task_items(task: AbsTask, scores: dict[str, list[dict[str, Any]]], folder: Path) -> tuple[Items, ...] | str:
    """Reads the items of every split and language of a task, or says why there are none.

    Args:
        task: A task that was evaluated and still holds its data.
        scores: The scores of mteb's `TaskResult`.
        folder: The folder in which mteb has left its predictions.

    Returns:
        The items, or the reason why there are none.
    """
    file = folder / task.prediction_file_name
    predictions = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = []
    for split, rows in scores.items():
        for row in rows:
            subset = row["hf_subset"]
            part = split if subset == "default" else f"{split}, {subset}"
            predicted = predictions.get(subset, {}).get(split)
            try:
                items = _part_items(task, part, split, row, predicted)
            except (KeyError, ValueError, TypeError, IndexError) as error:
                return f"its per-item results are not as expected ({type(error).__name__}: {error})"[:200]
            if items is None:
                return f"mteb gives no per-item results of {task.metadata.main_score} for {task.metadata.type}"
            # what does not give the task's own score must not give its interval
            if not abs(items.score - row["main_score"]) <= _CLOSE:
                return f"its per-item results give {items.score:.4f}, not its score of {row['main_score']:.4f}"
            found.append(items)
    return tuple(found)


def _part_items(task: AbsTask, part: str, split: str, row: dict[str, Any], predicted: Any) -> Items | None:
    """Reads the items of one split and language; returns None where mteb has none for the task's metric."""
    metric = task.metadata.main_score
    if isinstance(task, AbsTaskClustering | AbsTaskClusteringLegacy):
        if metric != "v_measure":
            return None
        levels = row["v_measures"]
        values = [value for level in levels.values() for value in level] if isinstance(levels, dict) else levels
        unit = DRAWS if isinstance(task, AbsTaskClustering) else "sets"
        return mean_items(part, unit, values, [task.seed, len(values)])
    if predicted is None:
        return None
    if isinstance(task, AbsTaskSTS):
        kind, _, correlation = metric.rpartition("_")
        name = {"": "similarity_scores", "cosine": "cosine_scores"}.get(kind, f"{kind}_distances")
        if correlation != "spearman":
            return None
        return ranked_items(part, SPEARMAN, [predicted[name]], _column(task, split, row, "score"))
    if isinstance(task, AbsTaskPairClassification):
        kind, _, measure = metric.rpartition("_")
        if measure != "ap":
            return None
        names = _MAX_AP if kind == "max" else [name for name in _MAX_AP if name.startswith(f"{kind}_")]
        ways = [-np.asarray(predicted[n]) if n.endswith("distances") else predicted[n] for n in names]
        labels = _column(task, split, row, task.label_column_name)
        return ranked_items(part, PRECISION, ways, labels[0] if isinstance(labels[0], list) else labels)
    if isinstance(task, AbsTaskRetrieval):
        return _retrieval_items(task, part, split, row, predicted)
    if isinstance(task, AbsTaskSummarization):
        if metric != "cosine_spearman":
            return None
        human = predicted["human_scores"]
        values = [spearmanr(a, b).statistic for a, b in zip(human, predicted["cosine_scores"], strict=True)]
        return mean_items(part, "summarised texts", values, human)
    if isinstance(task, AbsTaskClassification):
        plain = not isinstance(task, AbsTaskMultilabelClassification | AbsTaskRegression)
        if plain and metric == "accuracy" and not task.is_cross_validation:
            gold = _column(task, split, row, task.label_column_name)
            right_EN = np.stack([np.asarray(guess) == np.asarray(gold) for guess in predicted])
            return mean_items(part, "texts", right_EN.mean(0), gold)
        values = [scores[metric] for scores in row["scores_per_experiment"]]
        return mean_items(part, DRAWS, values, [task.seed, len(values)])
    return None


def _retrieval_items(
    task: AbsTaskRetrieval, part: str, split: str, row: dict[str, Any], predicted: dict[str, dict[str, float]]
) -> Items | None:
    """Scores every query, as `mteb.AbsTaskRetrieval` does."""
    relevant = _data(task, split, row)["relevant_docs"]
    results = predicted
    if task.ignore_identical_ids:
        results = {query: {d: s for d, s in found.items() if d != query} for query, found in results.items()}
    if task.skip_first_result:
        results = {
            query: dict(sorted(found.items(), key=lambda pair: pair[1], reverse=True)[1:])
            for query, found in results.items()
        }
    metric = task.metadata.main_score
    if metric.startswith("max_over_subqueries_"):
        metric = metric.removeprefix("max_over_subqueries_")
        results, relevant = _merged(results, relevant)
    name, _, depth = metric.partition("_at_")
    if name not in _RANKED:
        return None
    measure = _RANKED[name]
    judged = pytrec_eval.RelevanceEvaluator(relevant, {f"{measure}.{depth}"}).evaluate(results)
    queries = sorted(judged)
    values = [judged[query][f"{measure}_{depth}"] for query in queries]
    identity = [[query, sorted(relevant[query].items())] for query in queries]
    return mean_items(part, "queries", values, identity)


def _merged(results: dict[str, Any], relevant: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Merges sub-queries, whose names end in `_number`, into one query; a document counts with its best score."""
    best: dict[str, dict[str, float]] = defaultdict(dict)
    judged = {}
    for query, documents in relevant.items():
        whole = query.rpartition("_")[0]
        judged[whole] = documents
        for document, score in results[query].items():
            best[whole][document] = max(score, best[whole].get(document, score))
    return dict(best), judged


def _data(task: AbsTask, split: str, row: dict[str, Any]) -> Any:
    """Returns the data of a split and language, found as mteb finds it."""
    subset = row["hf_subset"]
    return task.dataset[split] if subset not in task.dataset and subset == "default" else task.dataset[subset][split]


def _column(task: AbsTask, split: str, row: dict[str, Any], name: str) -> list[Any]:
    return list(_data(task, split, row)[name])
