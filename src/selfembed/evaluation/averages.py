"""The averages of a comparison: over tasks, over categories, and of each category.

Shapes: B resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from selfembed.evaluation.comparison import Row
from selfembed.evaluation.resampling import Resampled
from selfembed.evaluation.rows import row_cells
from selfembed.evaluation.scores import Average, Scores, TaskScore


def counts(score: TaskScore | None) -> bool:
    """Tells whether a score goes into averages."""
    return score is not None and score.score is not None and score.in_average


def average_rows(
    runs: Sequence[Scores],
    parts: Sequence[slice],
    counted: Sequence[str],
    order: dict[str, TaskScore],
    resampled: dict[str, Resampled],
) -> tuple[str | None, tuple[Row, ...]]:
    """Makes the rows of both averages and of the categories, over the tasks that all columns have.

    Args:
        runs: The scores of the runs of all columns.
        parts: For each column, which of the runs are its own.
        counted: Names of the tasks that count.
        order: All tasks by name, each with one of its scores.
        resampled: The resampled scores of the tasks, by name.

    Returns:
        What the averages are over, or None where no task counts; and the rows.
    """
    if not counted:
        return None, ()
    averages = [_average_over(scores, counted, order, same_benchmark=_one_benchmark(runs)) for scores in runs]
    groups: dict[str, list[str]] = {}
    for name in counted:
        groups.setdefault(order[name].category, []).append(name)
    columns = range(len(parts))
    by_category = {
        category: [_mean_of([resampled[name].columns[column] for name in names]) for column in columns]
        for category, names in groups.items()
    }

    def row(name: str, values: Sequence[float], boot: list[np.ndarray | None], over: Sequence[str]) -> Row:
        without = [task for task in over if any(part is None for part in resampled[task].columns)]
        reason = f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} none"
        reasons = [reason if part is None else None for part in boot]
        found = Resampled(columns=boot, reasons=reasons)
        return Row(name=name, cells=row_cells(values, parts, found, missing=[None] * len(parts)))

    per_task = [_mean_of([resampled[name].columns[column] for name in counted]) for column in columns]
    per_category = [_mean_of([means[column] for means in by_category.values()]) for column in columns]
    rows = [
        row("per task", [average.tasks for average in averages], per_task, counted),
        row("per category", [average.categories for average in averages], per_category, counted),
    ]
    for category, names in groups.items():
        values = [average.by_category[category] for average in averages]
        rows.append(row(category, values, by_category[category], names))
    return averages[0].name, tuple(rows)


def _one_benchmark(runs: Sequence[Scores]) -> bool:
    return len({scores.benchmark for scores in runs}) == 1


def _average_over(
    scores: Scores, counted: Sequence[str], order: dict[str, TaskScore], *, same_benchmark: bool
) -> Average:
    """Averages one embedder's scores over tasks that all columns have; the name counts the others as not run."""
    table = {score.name: score for score in scores.scores}
    kept = []
    for name, known in order.items():
        score = table.get(name, known)
        if name in counted:
            kept.append(score)
        elif counts(score) or score.score is None:
            kept.append(dataclasses.replace(score, score=None, reason="not in all columns"))
    benchmark = scores.benchmark if same_benchmark else None
    average = dataclasses.replace(scores, scores=kept, benchmark=benchmark).average
    assert average is not None, "a counted task has a score"
    return average


def _mean_of(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Averages what is resampled; returns None if any of it is None."""
    known = [part for part in parts if part is not None]
    return np.asarray(np.mean(known, axis=0)) if len(known) == len(parts) else None
