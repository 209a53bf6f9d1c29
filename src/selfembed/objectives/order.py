"""Which text comes when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from selfembed.objectives.objective import Budget, Material, Prepared


def training_order(length_N: Sequence[int], budget: Budget, *, seed: int) -> list[int]:
    """Which text when: the texts over and over, shuffled anew each time, cut into steps.

    Within a step texts go from long to short, so that the texts of a micro-batch are padded little. What a step
    consists of does not depend on the size of micro-batches.

    Args:
        length_N: of the texts, in any unit.
        budget: whose steps and batch size count.
        seed: of every shuffle after the first, which the choice of texts was.

    Returns:
        ``budget.texts`` rows.
    """
    random = np.random.default_rng(seed)
    rows = np.arange(len(length_N))
    while len(rows) < budget.texts:
        rows = np.concatenate([rows, random.permutation(len(length_N))])
    steps = rows[: budget.texts].reshape(budget.steps, budget.batch_size)
    lengths = np.asarray(length_N)[steps]
    return np.take_along_axis(steps, np.argsort(-lengths, axis=1, kind="stable"), axis=1).ravel().tolist()


def turns(material: Material, rows: Sequence[int] | None) -> list[int]:
    """The number, among the material's texts, of the text of each turn.

    Args:
        material: whose texts, budget and seed count.
        rows: which of the texts are trained on; None: all.
    """
    rows = range(len(material.texts)) if rows is None else rows
    columns = [material.texts, *material.columns.values()]
    lengths = [sum(len(column[row]) for column in columns) for row in rows]
    return [rows[place] for place in training_order(lengths, material.budget, seed=material.seed)]


def rows_in_order(material: Material, prepared: Prepared) -> Dataset:
    """The rows as the trainer shall take them: further columns, then ``text`` and ``label``."""
    rows = turns(material, prepared.rows)
    columns = {**material.columns, "text": material.texts}
    taken = {name: [column[row] for row in rows] for name, column in columns.items()}
    return Dataset.from_dict({**taken, "label": rows if prepared.label == "text" else list(range(len(rows)))})
