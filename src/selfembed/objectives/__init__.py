"""Objectives by name: one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfembed.errors import InputError
from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.compression import Compression
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.model_derived import ModelDerived
from selfembed.objectives.objective import Objective
from selfembed.objectives.supervised import Supervised
from selfembed.objectives.two_views import TwoViews

OBJECTIVES: dict[str, type[Objective]] = {
    "data_driven": DataDriven,
    "model_derived": ModelDerived,
    "bag_of_tokens": BagOfTokens,
    "compression": Compression,
    "two_views": TwoViews,
    "supervised": Supervised,
}

__all__ = ["OBJECTIVES", "Objective", "recorded_objective"]


def recorded_objective(fields: Mapping[str, Any]) -> Objective:
    """The objective that a run record describes: its kind and its options.

    Raises:
        InputError: the record is of another version, which had other objectives or other options.
    """
    kinds = {kind.__name__: kind for kind in OBJECTIVES.values()}
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    kind = options.pop("kind", None)
    if kind not in kinds:
        raise InputError(f"objective {kind}: expected one of {', '.join(kinds)}; the record is of another version")
    try:
        return kinds[kind](**options)
    except TypeError as error:
        raise InputError(f"objective {kind}: recorded with other options than this version has ({error})") from error
