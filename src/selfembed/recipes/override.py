"""Numbers of a recipe, replaced by name."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Literal

from selfembed.errors import InputError
from selfembed.recipes.recipe import Recipe


def override(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """Replaces numbers of a recipe.

    Args:
        recipe: left as it is.
        settings: by dotted path from the recipe (``"stages.data_driven.steps"``, ``"embedder.pooling"``,
            ``"lora.r"``), or by a path from a stage (``"data_driven.steps"``, ``"data_driven.form"``), or by the bare
            name of a field (``"learning_rate"``, ``"pooling"``), which sets it wherever it occurs. Values may be
            strings, as a command line gives them.

    Raises:
        InputError: no such setting, or a value of the wrong type.
    """
    changes: dict[tuple[str, ...], tuple[Any, str]] = {}
    for path, value in settings.items():
        # The objective's options are named as if they were the stage's own: data_driven.form.
        named = {candidate: {candidate, candidate.replace(".objective.", ".")} for candidate in _paths(recipe)}
        paths = [found for found, names in named.items() if any(f".{name}".endswith(f".{path}") for name in names)]
        if not paths:
            names = ", ".join(sorted({candidate.rpartition(".")[2] for candidate in _paths(recipe)}))
            raise InputError(f"setting {path!r}: not in recipe {recipe.name}; its settings are {names}")
        changes |= {tuple(found.split(".")): (value, path) for found in paths}
    changed: Recipe = _replace(recipe, changes)
    return changed


def _paths(value: Any, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        items = list(value.items())
    elif dataclasses.is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        return [prefix]
    return [path for name, item in items for path in _paths(item, f"{prefix}.{name}" if prefix else name)]


def _replace(holder: Any, changes: dict[tuple[str, ...], tuple[Any, str]]) -> Any:
    """Replaces all values at once, since they may be valid only together."""
    by_name: dict[str, dict[tuple[str, ...], tuple[Any, str]]] = {}
    for (name, *rest), change in changes.items():
        by_name.setdefault(name, {})[tuple(rest)] = change
    if isinstance(holder, dict):
        changed = {
            name: _parse(below[()][0], type(holder[name]), below[()][1])
            if () in below
            else _replace(holder[name], below)
            for name, below in by_name.items()
        }
        return {**holder, **changed}
    replaced = {}
    for name, below in by_name.items():
        if () in below:
            value, given = below[()]
            replaced[name] = _parse(value, typing.get_type_hints(type(holder))[name], given)
        else:
            replaced[name] = _replace(getattr(holder, name), below)
    return dataclasses.replace(holder, **replaced)


def _parse(value: Any, kind: Any, given: str) -> Any:
    """Reads a value of the field's type from what a command line or a caller gave."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in options and (value is None or value == "none"):
        return None
    wanted = next(option for option in options if option is not type(None))
    origin = typing.get_origin(wanted)
    try:
        if origin is Literal:
            if value in typing.get_args(wanted):
                return value
        elif origin is tuple:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items)
        elif wanted is bool:
            parsed = json.loads(value.lower()) if isinstance(value, str) else value
            if isinstance(parsed, bool):
                return parsed
        elif wanted is int and float(value) == int(float(value)):
            return int(float(value))
        elif wanted is float or wanted is str:
            return wanted(value)
    except (TypeError, ValueError, OverflowError):
        pass
    expected = (
        " or ".join(map(str, typing.get_args(wanted))) if origin is Literal else getattr(wanted, "__name__", wanted)
    )
    raise InputError(f"setting {given}={value}: expected {expected}")
