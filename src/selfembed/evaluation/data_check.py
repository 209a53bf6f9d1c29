"""How the data of a task compares with the descriptive statistics that mteb publishes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mteb.abstasks import AbsTask, AbsTaskSTS

from selfembed.evaluation.mteb_statistics import descriptive_statistics

Verdict = Literal["exact", "near", "not MTEB's", "unchecked"]

_NEAR = 0.03  # the largest relative difference of a count, total or mean in data that is still the same data
_SHOWN = 3  # differences named in words


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """How the local data of a task compares with the descriptive statistics that mteb publishes.

    Attributes:
        verdict: `exact`: all figures are equal. `near`: counts, totals and means differ by 3 % at most. `not MTEB's`:
            they differ by more. `unchecked`: mteb publishes none.
        differences: The largest differences in words, our figure before mteb's.
    """

    verdict: Verdict
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([self.verdict, *self.differences])


def check_data(task: AbsTask, splits: Sequence[str]) -> tuple[float, DataCheck]:
    """Compares the data of a task with the figures that mteb publishes.

    Args:
        task: A task with its data.
        splits: The splits that are evaluated on or learnt from.

    Returns:
        The largest relative difference, and the verdict. Differences of extremes alone count as 1e-12.
    """
    published = task.metadata.descriptive_stats or {}
    differences: list[tuple[float, str]] = []
    compared = 0
    for split in splits:
        for subset in task.hf_subsets if task.metadata.is_multilingual else [None]:
            theirs = published.get(split, {})
            if subset is not None:
                theirs = theirs.get("hf_subset_descriptive_stats", {}).get(subset, {})
            if not theirs:
                continue
            mine, other = _figures(descriptive_statistics(task, split, subset)), _figures(theirs)
            # Published figures are of two ages: older ones count (a, b) and (b, a) as two pairs, mteb's code as one.
            if "unique_pairs" in mine and other.get("unique_pairs") == _ordered_pairs(task, split, subset):
                mine["unique_pairs"] = other["unique_pairs"]
            for name in mine.keys() & other.keys():
                compared += 1
                if difference := _difference(mine[name], other[name]):
                    where = f"{split} {name}" if subset is None else f"{split} ({subset}) {name}"
                    where = where.replace("text_statistics.", " ").replace("_statistics.", " ").replace("_", " ")
                    where = " ".join(where.split())
                    text = f"{where} {_number(mine[name])}, MTEB {_number(other[name])}"
                    # extremes say which single text is the longest, not how alike two sets are
                    differences.append((0.0 if ".min_" in f".{name}" or ".max_" in f".{name}" else difference, text))
    if not compared:
        return 0.0, DataCheck(verdict="unchecked", differences=("mteb publishes no statistics of this task",))
    if not differences:
        return 0.0, DataCheck(verdict="exact")
    differences.sort(key=lambda item: (-item[0], item[1]))
    words = [text for _, text in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        words.append(f"and {len(differences) - _SHOWN} more figures")
    largest = differences[0][0]
    verdict: Verdict = "near" if largest <= _NEAR else "not MTEB's"
    # 1e-12: data with the same figures but for its extremes is still not exact
    return max(largest, 1e-12), DataCheck(verdict=verdict, differences=tuple(words))


def _ordered_pairs(task: AbsTask, split: str, subset: str | None) -> int:
    """Counts the distinct pairs, (a, b) and (b, a) being two."""
    rows = (task.dataset if subset is None else task.dataset[subset])[split]
    first, second = (
        task.column_names
        if isinstance(task, AbsTaskSTS)
        else (
            task.input1_column_name,
            task.input2_column_name,
        )
    )
    return len(set(zip(rows[first], rows[second], strict=True)))


def _figures(statistics: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested statistics to numbers by name; of labels, whose names vary, only the sorted counts are kept."""
    found: dict[str, Any] = {}
    for key, value in statistics.items():
        name = f"{prefix}{'label_statistics' if key == 'labels_statistics' else key}"
        if key == "labels" and isinstance(value, dict):
            found[f"{prefix}texts per label"] = sorted((entry["count"] for entry in value.values()), reverse=True)
        elif isinstance(value, dict) and key != "hf_subset_descriptive_stats":
            found.update(_figures(value, f"{name}."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found


def _difference(ours: Any, theirs: Any) -> float:
    """Returns the difference relative to mteb's figure; 0 where both are equal."""
    if isinstance(ours, list):
        length = max(len(ours), len(theirs))
        padded = [values + [0] * (length - len(values)) for values in (ours, theirs)]
        apart: float = sum(abs(a - b) for a, b in zip(*padded, strict=True)) / max(sum(theirs), 1)
        return apart
    if math.isclose(ours, theirs, rel_tol=1e-9):
        return 0.0
    relative: float = abs(ours - theirs) / max(abs(theirs), 1)
    return relative


def _number(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[-1]:,} to {value[0]:,} ({len(value)} labels)"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
