"""Scores of an embedder whose vectors are angles, against values computed by hand or with scikit-learn."""

from __future__ import annotations

import random
from math import log2, nan
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import compass, write_jsonl
from mteb.abstasks import AbsTask
from sklearn.metrics import v_measure_score

from selfembed.errors import InputError
from selfembed.evaluation.own_data import (
    classification_task,
    clustering_task,
    pair_task,
    reranking_task,
    retrieval_task,
    sts_task,
)
from selfembed.evaluation.run import evaluate

EAST, NORTH = range(10), range(85, 95)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))


def angles_apart(name: str, values: dict[int, float]) -> list[dict]:
    """Pairs that are so many degrees apart; the cosine falls with them."""
    return [{"text1": "w0", "text2": f"w{degrees}", name: value} for degrees, value in values.items()]


def sts(folder: Path) -> tuple[AbsTask, float]:
    # two neighbouring ranks of five exchanged: 1 - 6 (1 + 1) / (5 (25 - 1))
    return sts_task(write_jsonl(folder / "sts.jsonl", angles_apart("score", {0: 5, 20: 3, 40: 4, 60: 1, 90: 0}))), 0.9


def pair_classification(folder: Path) -> tuple[AbsTask, float]:
    # the positives are first and third
    return pair_task(write_jsonl(folder / "pairs.jsonl", angles_apart("label", {5: 1, 20: 0, 40: 1, 60: 0}))), 5 / 6


def directions(wrong: int = 0) -> list[dict]:
    """Texts that point east or north, some under the other's label."""
    rows = [{"text": f"w{degrees}", "label": "east"} for degrees in EAST]
    rows += [{"text": f"w{degrees}", "label": "north"} for degrees in NORTH]
    return rows[wrong:] + [{"text": row["text"], "label": "north"} for row in rows[:wrong]]


def classification(folder: Path) -> tuple[AbsTask, float]:
    write_jsonl(folder / "topics" / "train.jsonl", directions())
    write_jsonl(folder / "topics" / "test.jsonl", directions(wrong=3))
    return classification_task(folder / "topics"), 17 / 20


def clustering(folder: Path) -> tuple[AbsTask, float]:
    rows = directions(wrong=3)
    task = clustering_task(write_jsonl(folder / "groups.jsonl", rows))
    # k-means finds the two directions; mteb draws ten times, with replacement
    groups, labels = np.array([int(row["text"][1:]) > 45 for row in rows]), np.array([row["label"] for row in rows])
    draw = random.Random(42)
    drawn = [draw.choices(range(len(rows)), k=len(rows)) for _ in range(10)]
    return task, float(np.mean([v_measure_score(labels[rows], groups[rows]) for rows in drawn]))


def reranking(folder: Path) -> tuple[AbsTask, float]:
    rows = [
        {"query": "w0", "positive": ["w10", "w50"], "negative": ["w30", "w70"]},  # found at ranks 1 and 3
        {"query": "w90", "positive": ["w100"], "negative": ["w95", "w200"]},  # at 2
    ]
    return reranking_task(write_jsonl(folder / "ranked.jsonl", rows)), (5 / 6 + 1 / 2) / 2


def retrieval(folder: Path) -> tuple[AbsTask, float]:
    folder = folder / "search"
    write_jsonl(folder / "corpus.jsonl", [{"_id": f"d{d}", "text": f"w{d}"} for d in (10, 30, 50, 70, 200)])
    write_jsonl(folder / "queries.jsonl", [{"_id": "q0", "text": "w0"}, {"_id": "q1", "text": "w55"}])
    rows = [("q0", "d30", 1), ("q0", "d70", 2), ("q1", "d50", 1)]  # at ranks 2 and 4; at 1
    names = ("query-id", "corpus-id", "score")
    write_jsonl(folder / "qrels.jsonl", [dict(zip(names, row, strict=True)) for row in rows])
    first = (1 / log2(3) + 2 / log2(5)) / (2 / log2(2) + 1 / log2(3))
    return retrieval_task(folder), (first + 1) / 2


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize(
    "build", [sts, pair_classification, classification, clustering, reranking, retrieval], ids=lambda b: b.__name__
)
def test_scores(build, cache: bool, tmp_path: Path) -> None:
    task, expected = build(tmp_path)
    (score,) = evaluate(compass(), own=[task], cache=cache).scores
    assert score.score == pytest.approx(100 * expected, abs=1e-3)  # mteb rounds to five digits
    assert score.no_items is None and score.items[0].score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("factor", "kind"), [(nan, "not finite"), (0.0, "zero")])
@pytest.mark.parametrize("build", [sts, clustering, retrieval])
def test_a_text_without_a_vector_is_named(build, factor: float, kind: str, tmp_path: Path) -> None:
    spoilt = {sts: "w40", clustering: "w88", retrieval: "w70"}[build]
    with pytest.raises(InputError, match=rf"the embedder's vector of '{spoilt}' is {kind}") as caught:
        evaluate(compass(**{spoilt: factor}), own=[build(tmp_path)[0]])
    assert "\n" not in str(caught.value)
