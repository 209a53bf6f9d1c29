"""The paired bootstrap: how far a difference of two scores hangs on the items that happened to be in the test set.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile intervals) and 16; for paired
system comparison Koehn, EMNLP 2004.

Shapes: M embedders, N items, B resamples.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from selfembed.evaluation.items import Items, statistic_of

LEVEL = 0.95
_DEFINED = 0.9  # share of resamples on which a score must be defined


def resampled_scores(items: Sequence[Items], *, resamples: int, seed: int | Sequence[int]) -> np.ndarray:
    """Scores of M embedders on the same B resamples of N items, drawn with replacement.

    Args:
        items: of each embedder, all of one key.
        resamples: B.
        seed: of the draws.

    Returns:
        ``scores_MB``, in the unit of the statistic; NaN where a resample has no score.
    """
    assert len({one.key for one in items}) == 1 and len({len(one) for one in items}) == 1, "items cannot be paired"
    random = np.random.default_rng(seed)
    statistics = [statistic_of(one) for one in items]
    size = len(items[0])
    scores_MB = np.empty((len(items), resamples))
    for b in range(resamples):
        counts_N = np.bincount(random.integers(size, size=size), minlength=size).astype(np.float64)
        scores_MB[:, b] = [statistic(counts_N) for statistic in statistics]
    return scores_MB


def percentile_interval(values_B: np.ndarray, *, level: float = LEVEL) -> tuple[float, float] | None:
    """The middle ``level`` of resampled values; None if too many resamples have none."""
    finite = values_B[np.isfinite(values_B)]
    if len(finite) < _DEFINED * len(values_B):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_of(seed: int, *names: str) -> list[int]:
    """A seed for what has these names: what else is compared leaves its draws as they are."""
    return [seed, zlib.crc32("\0".join(names).encode())]
