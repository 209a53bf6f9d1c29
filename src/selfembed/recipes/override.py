"""Numbers of a recipe, replaced by name."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from selfembed.errors import InputError
from selfembed.ground.options import did_you_mean, parse_value
from selfembed.recipes.recipe import Recipe


def override(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """Replaces numbers of a recipe.

    Args:
        recipe: The recipe, which is left as it is.
        settings: The new values, by dotted path from the recipe (`"stages.data_driven.steps"`, `"embedder.pooling"`,
            `"lora.r"`), or by a path from a stage (`"data_driven.steps"`, `"data_driven.form"`), or by the bare
            name of a field (`"learning_rate"`, `"pooling"`), which sets it wherever it occurs. Values may be
            strings, as a command line gives them.

    Raises:
        InputError: There is no such setting, or its value is of the wrong type or out of range.
    """
    changes: dict[tuple[str, ...], tuple[Any, str]] = {}
    for path, value in settings.items():
        # The objective's options are named as if they were the stage's own: data_driven.form.
        named = {candidate: {candidate, candidate.replace(".objective.", ".")} for candidate in _paths(recipe)}
        paths = [found for found, names in named.items() if any(f".{name}".endswith(f".{path}") for name in names)]
        if not paths:
            known = setting_names(recipe)
            raise InputError(
                f"setting {path!r}: expected one of recipe {recipe.name}, of {', '.join(known)}"
                + did_you_mean(path.rpartition(".")[2], known)
            )
        changes |= {tuple(found.split(".")): (value, path) for found in paths}
    changed: Recipe = _replace(recipe, changes)
    return changed


def setting_names(recipe: Recipe) -> list[str]:
    """Lists the bare names of a recipe's settings, each once."""
    return sorted({path.rpartition(".")[2] for path in _paths(recipe)})


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
            name: parse_value(below[()][1], below[()][0], type(holder[name]))
            if () in below
            else _replace(holder[name], below)
            for name, below in by_name.items()
        }
        return {**holder, **changed}
    replaced = {}
    for name, below in by_name.items():
        if () in below:
            value, given = below[()]
            replaced[name] = parse_value(given, value, typing.get_type_hints(type(holder))[name])
        else:
            replaced[name] = _replace(getattr(holder, name), below)
    return dataclasses.replace(holder, **replaced)
