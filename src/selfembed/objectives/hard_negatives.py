"""Hard negatives of pairs: other passages of the same stage that a query nearly finds.

Shapes: P pairs, N different passages, D dimensions.

References:
    NV-Retriever (arXiv 2407.15831) for the margin, relative to the score of the pair's own passage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from sentence_transformers import SentenceTransformer

from selfembed.data.pair_sources import Pair
from selfembed.encoding.encode import encode
from selfembed.ground.progress import Progress, silent
from selfembed.search.lexical import temporary_index
from selfembed.search.ranking import best_rows

Miner = Literal["bm25", "embedder"]
_TASK = "mining negatives"
_QUERIES = 256  # whose scores are held at once

NV_RETRIEVER = """\
@article{nvretriever,
    title = {{NV-Retriever}: Improving text embedding models with effective hard-negative mining},
    author = {Gabriel de Souza P. Moreira and Radek Osmulski and Mengyao Xu and Ronay Ak and Benedikt Schifferer and
              Even Oldridge},
    journal = {arXiv preprint arXiv:2407.15831},
    year = {2024},
}"""


def hard_negatives(
    pairs: Sequence[Pair],
    *,
    count: int,
    margin: float,
    embedder: SentenceTransformer | None = None,
    progress: Progress = silent,
) -> list[list[int]]:
    """Finds the passages of other pairs that come nearest to each query without coming too near.

    A passage is taken where its score is above zero by BM25, or any by the embedder, and below that of the pair's own
    passage by more than the margin. Passages of the pair's own document never are, nor are two that were cut from the
    same passage of the corpus.

    Args:
        pairs: The pairs, with the queries as they are trained on.
        count: Number of negatives of a pair, at most.
        margin: Share of the score of the pair's own passage by which a negative stays below it, at least.
        embedder: The embedder as it stands, which scores by cosine; None scores by BM25.
        progress: Called with (task, done, total).

    Returns:
        For each pair the numbers of the pairs whose passages are its negatives, the nearest first.
    """
    row_of: dict[str, int] = {}
    first: list[int] = []  # for each different passage, the first pair that has it
    for number, pair in enumerate(pairs):
        if pair.passage not in row_of:
            row_of[pair.passage] = len(first)
            first.append(number)
    queries, passages = [pair.query for pair in pairs], list(row_of)
    own_P = np.array([row_of[pair.passage] for pair in pairs])
    document_N = np.array([pairs[number].document for number in first])
    eligible_N = np.zeros(len(first), dtype=bool)
    eligible_N[np.unique([pairs[number].index for number in first], return_index=True)[1]] = True
    scores = cosines(embedder, queries, passages, progress) if embedder else bm25_scores(queries, passages)
    found = []
    for number, score_N in enumerate(scores):
        own = score_N[own_P[number]]
        taken_N = eligible_N & (document_N != pairs[number].document) & (score_N < own - margin * abs(own))
        if embedder is None:
            taken_N &= score_N > 0
        rows = np.flatnonzero(taken_N)
        found.append([first[row] for row in best_rows(score_N[rows], count, rows).rows])
        if number % _QUERIES == 0:
            progress(_TASK, number, len(pairs))
    progress(_TASK, len(pairs), len(pairs))
    return found


def bm25_scores(queries: Sequence[str], passages: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields the BM25 scores of all passages for each query, `score_N`; 0 where they share no word.

    Raises:
        InputError: The extra `search` is not installed.
    """
    with temporary_index(passages) as index:
        for query in queries:
            score_N = index.scores(index.words.of(query))
            yield np.zeros(len(passages), np.float32) if score_N is None else score_N


def cosines(
    embedder: SentenceTransformer, queries: Sequence[str], passages: Sequence[str], progress: Progress = silent
) -> Iterator[np.ndarray]:
    """Yields the cosines of all passages for each query, `score_N`; every text is embedded once."""
    query_PD = encode(
        embedder, queries, role="query", progress=progress, task="encoding queries", normalize_embeddings=True
    )
    passage_ND = encode(
        embedder, passages, role="document", progress=progress, task="encoding passages", normalize_embeddings=True
    )
    for start in range(0, len(query_PD), _QUERIES):
        yield from query_PD[start : start + _QUERIES] @ passage_ND.T
