"""Objectives: what a stage can optimise, one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfembed.errors import InputError
from selfembed.objectives.mixture import Mixture
from selfembed.objectives.objective import Objective
from selfembed.objectives.registry import OBJECTIVES, find_objective

__all__ = ["OBJECTIVES", "Mixture", "Objective", "find_objective", "recorded_objective"]


def recorded_objective(fields: Mapping[str, Any]) -> Objective:
    """Rebuilds the objective that a run record describes by its kind and its options.

    Raises:
        InputError: The record is of another version, with other objectives or other options.
    """
    known: list[type[Objective]] = [*OBJECTIVES.values(), Mixture]
    kinds = {kind.__name__: kind for kind in known}
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    kind = options.pop("kind", None)
    if kind not in kinds:
        raise InputError(f"objective {kind}: expected one of {', '.join(kinds)}; train anew with this version")
    if kinds[kind] is Mixture:
        options["parts"] = {name: recorded_objective(part) for name, part in options["parts"].items()}
    try:
        return kinds[kind](**options)
    except TypeError as error:
        raise InputError(f"objective {kind}: expected the options of this version ({error}); train anew") from error
