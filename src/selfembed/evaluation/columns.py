"""The columns of a comparison: which scores share one, its name, and the settings that differ."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any

from selfembed.evaluation.comparison import Column
from selfembed.evaluation.scores import Scores

_SETTINGS = (
    "input",
    "prompts",
    "pooling",
    "attention",
    "attention_implementation",
    "max_length",
    "normalized",
    "similarity",
    "dimensions",
    "dtype",
    "device",
    "batch_size",
)
_VERSIONS = ("mteb", "scikit-learn", "scipy", "sentence-transformers", "transformers", "torch")


def runs_of_one_recipe(found: Sequence[Scores]) -> list[list[Scores]]:
    """Puts runs of one plan together, in the order in which they were given."""
    groups: dict[Any, list[Scores]] = {}
    for number, scores in enumerate(found):
        run = scores.settings.get("run")
        groups.setdefault(run["plan"] if run else number, []).append(scores)
    return list(groups.values())


def column_names(groups: Sequence[Sequence[Scores]]) -> list[str]:
    """Names columns: after what the names of its runs have in common, else the recipe; equal names are numbered."""
    names: list[str] = []
    for group in groups:
        name = group[0].embedder
        if len(group) > 1:
            common = os.path.commonprefix([scores.embedder for scores in group])
            common = re.sub(r"[-_. ]*(seed|s|run)?[-_. ]*$", "", common)
            name = common or group[0].settings["run"]["recipe"]
        number, free = 1, name
        while free in names:
            number += 1
            free = f"{name} ({number})"
        names.append(free)
    return names


def label(scores: Scores, others: Sequence[Scores]) -> str:
    """Returns an embedder's name, with a part of its hash where others have the same name."""
    same = sum(other.embedder == scores.embedder for other in others) > 1
    return f"{scores.embedder} ({scores.embedder_hash[:8]})" if same else scores.embedder


def column(name: str, group: Sequence[Scores]) -> Column:
    """Describes a column by its runs."""
    return Column(
        name=name,
        runs=tuple(scores.embedder for scores in group),
        hashes=tuple(scores.embedder_hash for scores in group),
        seeds=tuple((scores.settings.get("run") or {}).get("seed") for scores in group),
        settings={key: group[0].settings[key] for key in _SETTINGS if key in group[0].settings},
    )


def differing(groups: Sequence[Sequence[Scores]]) -> dict[str, tuple[str, ...]]:
    """Returns the settings and versions that are not the same in all columns."""
    found = {}
    for name in (*_SETTINGS, *_VERSIONS):
        values = []
        for group in groups:
            shown = (_setting(scores.settings, name) for scores in group)
            values.append("; ".join(dict.fromkeys(shown)))
        if len(set(values)) > 1:
            found[f"{name} version" if name in _VERSIONS else name.replace("_", " ")] = tuple(values)
    return found


def _setting(settings: dict[str, Any], name: str) -> str:
    if name in _VERSIONS:
        versions = (settings.get("environment") or {}).get("versions") or {}
        return str(versions.get(name, "unknown"))
    value = settings.get(name)
    if value is None or value == {}:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
