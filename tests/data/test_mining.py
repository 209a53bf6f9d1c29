"""Mined negatives are what they claim."""

from __future__ import annotations

import numpy as np
from datasets import Dataset
from runs import plain_embedder
from tiny import SENTENCES

from selfembed.data.mining import in_batches, with_mined_negatives
from selfembed.encoding.encode import encode
from selfembed.encoding.known import KnownVectors


def numbered(name: str, rows: int, negatives: int = 0) -> Dataset:
    columns = {"query": [f"{name} q{i}" for i in range(rows)], "positive": [f"{name} p{i}" for i in range(rows)]}
    for number in range(1, negatives + 1):
        columns[f"negative_{number}"] = [f"{name} n{number} {i}" for i in range(rows)]
    return Dataset.from_dict(columns)


def test_no_positive_of_a_batch_is_mined_as_a_negative_in_it():
    rows = numbered("a", 6, 1)
    mined = numbered("a", 6).add_column("negative_1", [f"a p{(i + 1) % 6}" for i in range(6)])
    order = [[0, 1, 2], [3, 5, 0], [1]]
    found = in_batches(rows, mined, order)
    assert found["positive"][:] == [f"a p{row}" for batch in order for row in batch]
    assert found["negative_1"][:] == ["a n1 0", "a n1 1", "a p3", "a p4", "a n1 5", "a p1", "a p2"]


def test_mined_negatives_are_the_nearest_that_are_no_answers(tiny_backbone_dir, capfd):
    embedder, _, _ = plain_embedder(tiny_backbone_dir)
    queries = [" ".join(text.split()[:5]) for text in SENTENCES[:12]]
    queries[1] = queries[0]  # has two positives
    rows = Dataset.from_dict({"query": queries, "positive": SENTENCES[:12], "negative_1": SENTENCES[12:24]})
    fresh, found = with_mined_negatives(rows, embedder, margin=0.0)
    assert fresh.column_names == rows.column_names
    assert fresh["query"] == rows["query"] and fresh["positive"] == rows["positive"]
    query_NE, text_NE = (embedder.encode(rows[name], normalize_embeddings=True) for name in ("query", "positive"))
    similarity_NN = query_NE @ text_NE.T
    mined = 0
    for i, row in enumerate(fresh):
        own = [j for j in range(12) if queries[j] == queries[i]]
        assert row["negative_1"] not in [SENTENCES[j] for j in own]
        bound = min(similarity_NN[i, j] for j in own)
        allowed = [j for j in range(12) if j not in own and similarity_NN[i, j] <= bound]
        if allowed:
            mined += 1
            assert row["negative_1"] == SENTENCES[max(allowed, key=lambda j: similarity_NN[i, j])]
        else:
            assert row["negative_1"] == rows[i]["negative_1"]
    assert found == mined > 0
    texts = list(dict.fromkeys([*queries, *SENTENCES[:12]]))
    known = KnownVectors(texts, encode(embedder, texts, normalize_embeddings=True))
    again, _ = with_mined_negatives(rows, known, margin=0.0)
    assert again.to_list() == fresh.to_list() and np.isfinite(similarity_NN).all()
    assert "%|" not in capfd.readouterr().err, "no progress bars"
