"""The paired bootstrap: how far a difference of two scores depends on the items that happen to be in the test set.

References:
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile intervals) and 16.
    Koehn, EMNLP 2004, for the paired comparison of systems.

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
    """Scores M embedders on the same B resamples of N items, drawn with replacement.

    Args:
        items: The items of each embedder, all of one key.
        resamples: The number of resamples, B.
        seed: The seed of the draws.

    Returns:
        `scores_MB` in the unit of the statistic; NaN where a resample has no score.
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
    """Returns the ends of the middle `level` of resampled values; None if over a tenth of them have no score."""
    finite = values_B[np.isfinite(values_B)]
    if len(finite) < _DEFINED * len(values_B):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_of(seed: int, *names: str) -> list[int]:
    """Makes a seed out of names: the draws of one do not change with what else is compared."""
    return [seed, zlib.crc32("\0".join(names).encode())]
