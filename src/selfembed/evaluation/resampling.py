"""The runs of all columns scored again on resampled items, which the intervals of a comparison come from.

Shapes: B resamples, M runs of all columns.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfembed.evaluation.bootstrap import resampled_scores, seed_of
from selfembed.evaluation.scores import TaskScore

_CLOSE = 0.02  # in percent: scores are rounded, and items are float32


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """The resampled scores of a task.

    Attributes:
        columns: For each column, `scores_B` in percent; None where it has none.
        reasons: For each column, the reason why it has none; None where it has some.
        items: The number of items that were resampled.
        unit: What an item is.
    """

    columns: list[np.ndarray | None]
    reasons: list[str | None]
    items: int = 0
    unit: str = ""


def run_weights(sizes: Sequence[int], resamples: int, seed: int) -> np.ndarray:
    """Draws `weights_BM`: each column's runs with replacement, as shares that add up to 1 in a column."""
    random = np.random.default_rng(seed_of(seed, "runs"))
    return np.concatenate(
        [random.multinomial(size, [1 / size] * size, size=resamples) / size for size in sizes], axis=1
    )


def resample_task(
    name: str,
    scores: Sequence[TaskScore | None],
    parts: Sequence[slice],
    weights_BM: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> Resampled:
    """Scores every run of every column on the same resamples of a task's items.

    Args:
        name: The task's name, which the draws hang on.
        scores: The scores of the M runs; None where a run has none.
        parts: For each column, which of the runs are its own.
        weights_BM: The weights of the runs, see :func:`run_weights`.
        resamples: The number of resamples, B.
        seed: The seed of the draws.
    """
    reasons = [_no_items(score) for score in scores]
    base = next((score for score, reason in zip(scores, reasons, strict=True) if reason is None), None)
    if base is None:
        return Resampled(columns=[None] * len(parts), reasons=first_of_column(reasons, parts))
    for m, score in enumerate(scores):
        if score is None or reasons[m] is not None:
            continue
        if [items.key for items in score.items] != [items.key for items in base.items]:
            reasons[m] = "mteb judged other items for one embedder than for the other"
    usable = {m: score for m, score in enumerate(scores) if score is not None and reasons[m] is None}
    boot_MB = np.full((len(scores), resamples), np.nan)
    # a task's score is the mean over its splits and languages
    boot_MB[list(usable)] = 100 * np.mean(
        [
            resampled_scores(
                [score.items[part] for score in usable.values()],
                resamples=resamples,
                seed=seed_of(seed, name, items.part),
            )
            for part, items in enumerate(base.items)
        ],
        axis=0,
    )
    column_reasons = first_of_column(reasons, parts)
    columns = [
        None if reason else (weights_BM[:, part].T * boot_MB[part]).sum(0)
        for part, reason in zip(parts, column_reasons, strict=True)
    ]
    return Resampled(columns=columns, reasons=column_reasons, items=sum(map(len, base.items)), unit=base.items[0].unit)


def _no_items(score: TaskScore | None) -> str | None:
    if score is None or score.score is None:
        return "no score"
    if not score.items:
        return score.no_items or "the scores were recorded without per-item results; evaluate again"
    if sum(map(len, score.items)) < 2:
        return "there is one item only"
    # of a file that was edited, or made by another version
    found = 100 * statistics.fmean(items.score for items in score.items)
    return None if abs(found - score.score) <= _CLOSE else "the per-item results do not give the score"


def first_of_column(reasons: Sequence[str | None], parts: Sequence[slice]) -> list[str | None]:
    """Returns for each column the first reason among its runs; None where there is none."""
    return [next(filter(None, reasons[part]), None) for part in parts]
