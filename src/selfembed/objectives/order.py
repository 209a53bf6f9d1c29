"""The order in which texts are trained on."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

from selfembed.data.batches import text_order
from selfembed.objectives.objective import Material, Prepared


def turns(material: Material, rows: Sequence[int] | None, *, distinct: bool = False) -> list[int]:
    """Chooses the text of each turn, by its number among the material's texts.

    Args:
        material: The material, whose texts, budget and seed count.
        rows: Row numbers of the texts that are trained on; None takes all.
        distinct: Whether no text may come twice in a step.

    Raises:
        InputError: There are fewer distinct texts than a step must have.
    """
    rows = range(len(material.texts)) if rows is None else rows
    columns = [material.texts, *material.columns.values()]
    order = text_order(
        [material.texts[row] for row in rows],
        steps=material.budget.steps,
        batch_size=material.budget.batch_size,
        seed=material.seed,
        distinct=distinct,
        length_N=[sum(len(column[row]) for column in columns) for row in rows],
    )
    return [rows[place] for place in order]


def rows_in_order(material: Material, prepared: Prepared) -> Dataset:
    """Makes the rows as the trainer takes them: further columns, then `text` and `label`."""
    rows = turns(material, prepared.rows, distinct=prepared.distinct)
    columns = {**material.columns, "text": material.texts}
    taken = {name: [column[row] for row in rows] for name, column in columns.items()}
    return Dataset.from_dict({**taken, "label": rows if prepared.label == "text" else list(range(len(rows)))})
