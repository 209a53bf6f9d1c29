"""The rows of a comparison: scores, their spread over runs, and differences to the first column.

Shapes: B resamples.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from selfembed.evaluation.bootstrap import percentile_interval
from selfembed.evaluation.comparison import Cell, Difference, Row
from selfembed.evaluation.resampling import Resampled, first_of_column
from selfembed.evaluation.scores import TaskScore


def task_row(
    about: TaskScore,
    scores: Sequence[TaskScore | None],
    parts: Sequence[slice],
    resampled: Resampled,
    *,
    in_average: bool,
) -> Row:
    """Makes the row of a task.

    Args:
        about: A score of the task, for its name, category and metric.
        scores: The scores of the runs of all columns; None where a run has none.
        parts: For each column, which of the runs are its own.
        resampled: The resampled scores of the same columns.
        in_average: Whether the task counts in the averages.
    """
    values = [None if score is None else score.score for score in scores]
    why = ["not among its tasks" if score is None else score.reason for score in scores]
    ran = next((score for score in scores if score is not None and score.score is not None), about)
    return Row(
        name=about.name,
        category=about.category,
        metric=about.metric,
        data=ran.data,
        note=ran.note,
        items=resampled.items,
        unit=resampled.unit,
        in_average=in_average,
        cells=row_cells(values, parts, resampled, missing=first_of_column(why, parts)),
    )


def row_cells(
    values: Sequence[float | None],
    parts: Sequence[slice],
    resampled: Resampled,
    *,
    missing: Sequence[str | None],
) -> tuple[Cell, ...]:
    """Makes a row's cells from the runs' scores and the columns' resampled ones.

    Args:
        values: The scores of the runs of all columns, in percent.
        parts: For each column, which of the runs are its own.
        resampled: The resampled scores of the same columns.
        missing: For each column, the reason why it has no score.
    """
    boot, reasons = resampled.columns, resampled.reasons
    cells: list[Cell] = []
    for column, part in enumerate(parts):
        runs = [value for value in values[part] if value is not None]
        if len(runs) < len(values[part]):
            cells.append(Cell(score=None, reason=missing[column] or "no score of one of its runs"))
            continue
        cell = Cell(
            score=round(statistics.fmean(runs), 4),
            sd=round(statistics.stdev(runs), 4) if len(runs) > 1 else None,
            runs=tuple(runs),
        )
        if column and cells[0].score is not None:
            reason = reasons[0] or reasons[column]
            # of unrounded means, so that it is that of the runs
            value = round(statistics.fmean(runs) - statistics.fmean(cells[0].runs), 4)
            difference = Difference(value=value, reason=reason)
            if reason is None:
                base_B, boot_B = boot[0], boot[column]
                assert base_B is not None and boot_B is not None, "without a reason both are there"
                difference = _difference(value, boot_B - base_B)
            cell = dataclasses.replace(cell, difference=difference)
        cells.append(cell)
    return tuple(cells)


def _difference(value: float, boot_B: np.ndarray) -> Difference:
    interval = percentile_interval(boot_B)
    if interval is None:
        return Difference(value=value, reason="too many resamples have no score; the test set is too small")
    return Difference(value=value, low=round(interval[0], 4), high=round(interval[1], 4))
