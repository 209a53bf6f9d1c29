"""One check of option values: their kind, the range of numbers, the choices of words, the nearest name to a wrong one.

A dataclass says what its fields may be in their annotations, and calls :func:`check_options` in `__post_init__`::

    steps: Annotated[int, Range(least=1)]
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    top_k: Annotated[int, Range(least=1)] | None = None
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import numbers
import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal

from selfembed.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Bounds of a number. Infinity and NaN lie outside every range.

    Args:
        least: Smallest number allowed.
        above: A number below all that are allowed.
        most: Largest number allowed.
        below: A number above all that are allowed.
        example: A good value, shown in the error.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    example: str = ""

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        parts = []
        if self.least is not None:
            closed = self.most is not None or self.below is not None
            parts.append(f"from {self.least:g}" if closed else f"at least {self.least:g}")
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.most is not None:
            parts.append(f"to {self.most:g}" if self.least is not None else f"at most {self.most:g}")
        if self.below is not None:
            parts.append(f"to below {self.below:g}" if self.least is not None else f"below {self.below:g}")
        words = (" " if self.least is not None else " and ").join(parts)
        if not words:
            return "a finite number"
        return words if words.startswith("at ") else f"a number {words}"


def check_options(options: Any) -> None:
    """Checks the fields of a dataclass against their annotations; fields of kinds that :func:`check_value` lacks pass.

    Args:
        options: An instance with all its fields set.

    Raises:
        InputError: A value is of another kind, outside its range or not among its choices.
    """
    kind: Any = type(options)
    hints = _hints(kind)
    for field in dataclasses.fields(options):
        check_value(field.name, getattr(options, field.name), hints[field.name])


def check_value(name: str, value: Any, kind: Any) -> None:
    """Checks one value.

    Args:
        name: Name of the option, for the error.
        value: The value as it was given.
        kind: The annotation: `int`, `float`, `str`, `bool`, a `Literal`, a `tuple[..., ...]` of these, any of them in
            an `Annotated` with a :class:`Range`, or with `| None`; values of any other kind pass.

    Raises:
        InputError: The value is of another kind, outside its range or not among its choices.
    """
    kind, bounds, none = _taken_apart(kind)
    if value is None and none:
        return
    if typing.get_origin(kind) is Literal:
        require_choice(name, value, typing.get_args(kind), none=none)
    elif typing.get_origin(kind) is tuple and Ellipsis in typing.get_args(kind):
        if isinstance(value, str) or not isinstance(value, tuple) or not value:
            raise InputError(f"{name} {value!r}: expected a tuple of one or more values{', or None' if none else ''}")
        for item in value:
            check_value(name, item, typing.get_args(kind)[0])
    elif kind in _KINDS and not _is_of(kind, value):
        raise InputError(f"{name} {value!r}: expected {_wanted(kind, bounds, none, kind_said=True)}")
    elif kind in (int, float) and value not in (bounds or Range()):
        raise InputError(f"{name} {value}: expected {_wanted(kind, bounds, none)}")


def require_choice(name: str, value: Any, choices: Iterable[Any], *, none: bool = False) -> None:
    """Checks that a value is one of several, and names the nearest of them where it is not.

    Args:
        name: Name of what is chosen, for the error.
        value: The value as it was given.
        choices: All allowed values.
        none: Whether the error also offers None.

    Raises:
        InputError: The value is none of the choices.
    """
    choices = list(choices)
    if value in choices:
        return
    shown = [repr(choice) if isinstance(choice, str) else str(choice) for choice in [*choices, *([None] * none)]]
    words = f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else "".join(shown)
    advice = did_you_mean(str(value), [choice for choice in choices if isinstance(choice, str)])
    raise InputError(f"{name} {value!r}: expected {words}{advice}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Writes the end of an error message: `; did you mean 'text2token'?`, or "" where no known name is near."""
    close = nearest(name, known)
    return f"; did you mean {close!r}?" if close else ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Finds the name that a mistyped one most likely meant, case and `-` for `_` aside; None where none is like it."""
    folded: dict[str, str] = {}
    for one in names:
        folded.setdefault(_folded(one), one)
    close = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def parse_value(given: str, value: Any, kind: Any) -> Any:
    """Reads a value of an option's kind from what a command line or a caller gave. Ranges are not checked.

    Args:
        given: Name or path of the option, for the error.
        value: A string, or a value that is of the kind already.
        kind: The annotation, as :func:`check_value` takes it; `"none"` stands for None where None is allowed.

    Raises:
        InputError: The value cannot be read as one of this kind.
    """
    kind, bounds, none = _taken_apart(kind)
    if none and (value is None or value == "none"):
        return None
    origin = typing.get_origin(kind)
    try:
        if origin is Literal:
            if value in typing.get_args(kind):
                return value
        elif origin is tuple:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items)
        elif kind is bool:
            parsed = json.loads(value.lower()) if isinstance(value, str) else value
            if isinstance(parsed, bool):
                return parsed
        elif kind is int:
            if not isinstance(value, bool) and float(value) == int(float(value)):
                return int(float(value))
        elif kind is float:
            return float(value)
        elif kind is str:
            return str(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if origin is Literal:
        expected = " or ".join(map(str, typing.get_args(kind)))
        close = nearest(str(value), [choice for choice in typing.get_args(kind) if isinstance(choice, str)])
        expected += f"; did you mean {close}?" if close else ""
    else:
        expected = _KINDS.get(kind, getattr(kind, "__name__", str(kind)))
    raise InputError(f"setting {given}={value}: expected {expected}")


_KINDS = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}


def _is_of(kind: type, value: Any) -> bool:
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, kind)


def _wanted(kind: type, bounds: Range | None, none: bool, *, kind_said: bool = False) -> str:
    words = _KINDS[kind]
    if kind is float or bounds is not None:
        words = str(bounds or Range())
    if kind_said and words.startswith("at "):
        words = f"{_KINDS[kind]}, {words}"
    if kind is int:
        words = words.replace("a number", "a whole number")
    example = f", e.g. {bounds.example}" if bounds is not None and bounds.example else ""
    return f"{words}{example}{', or None' if none else ''}"


def _taken_apart(kind: Any) -> tuple[Any, Range | None, bool]:
    """The kind itself, the range it was annotated with, and whether None will do."""
    bounds, none = None, False
    while True:
        if typing.get_origin(kind) is Annotated:
            kind, *notes = typing.get_args(kind)
            bounds = next((note for note in notes if isinstance(note, Range)), bounds)
        elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
            others = [option for option in typing.get_args(kind) if option is not type(None)]
            none = none or len(others) < len(typing.get_args(kind))
            if len(others) != 1:
                return kind, bounds, none
            kind = others[0]
        else:
            return kind, bounds, none


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")
