"""Chooses the affine map of an embedder on unlabelled text.

Shapes: N texts, D hidden, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfembed.calibration.affine_map import AffineMap, candidates
from selfembed.calibration.self_retrieval import SelfRetrieval


@dataclass(frozen=True)
class Choice:
    """The map that was chosen, and the scores of all maps.

    Attributes:
        map: The map that was chosen.
        scores: Mean nDCG@10 of the self-retrieval, from 0 to 1, by the name of the map.
        pairs: Number of queries that the scores are means over.
    """

    map: AffineMap
    scores: dict[str, float]
    pairs: int

    @property
    def score(self) -> float:
        """nDCG@10 with the map that was chosen."""
        return self.scores[self.map.name]

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values for the record of a run."""
        scores = {name: round(score, 4) for name, score in self.scores.items()}
        return {"chosen": self.map.name, "self_retrieval_ndcg@10": scores, "pairs": self.pairs}


def choose_map(
    search: SelfRetrieval,
    vectors_ND: np.ndarray,
    *,
    spectrum_DD: np.ndarray | None = None,
    parts: int = 1,
    standard_errors: float = 1.0,
) -> Choice:
    """Chooses the map with the best self-retrieval, or a plainer one that it does not clearly beat.

    Args:
        search: The queries and passages.
        vectors_ND: The embeddings of the search's texts before any map; means and variances are computed from them.
        spectrum_DD: Singular vectors of the decoder layer, see :func:`selfembed.calibration.affine_map.spectrum`; None
            leaves out the bands.
        parts: Number of poolings whose vectors stand one after the other in an embedding.
        standard_errors: Number of standard errors of the best map's lead, query by query, within which a plainer map
            is preferred.

    Returns:
        The choice; its score is never below that of the embeddings as they are.
    """
    maps = list(candidates(vectors_ND, spectrum_DD, parts))
    gains: Sequence[np.ndarray] = [search.ndcg_Q(one(vectors_ND)) for one in maps]
    means = [float(gain_Q.mean()) for gain_Q in gains]
    best = int(np.argmax(means))
    chosen = best
    for place, gain_Q in enumerate(gains[:best]):
        lead_Q = gains[best] - gain_Q
        error = float(lead_Q.std(ddof=1)) / len(lead_Q) ** 0.5
        if means[place] >= means[0] and lead_Q.mean() <= standard_errors * error:
            chosen = place
            break
    return Choice(maps[chosen], dict(zip((one.name for one in maps), means, strict=True)), len(search.queries))
