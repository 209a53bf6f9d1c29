"""Values of options: what passes, what is refused, and that the refusal says what would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options, check_value, nearest, parse_value, require_choice


@dataclass(frozen=True, kw_only=True)
class Options:
    steps: Annotated[int, Range(least=1)] = 10
    rate: Annotated[float, Range(above=0, example="3e-5")] = 0.1
    share: Annotated[float, Range(least=0, below=1)] = 0.5
    margin: Annotated[float, Range(least=-2, most=2)] | None = None
    top_k: Annotated[int, Range(least=1)] | None = None
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    form: Literal["a", "b"] | None = None
    tags: tuple[Literal["NOUN", "ADJ"], ...] | None = ("NOUN",)
    name: str = "x"
    on: bool = False
    loss: float = 0.0
    anything: Any = None
    rows: dict[str, int] | None = None

    def __post_init__(self) -> None:
        check_options(self)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"steps": np.int64(3), "rate": 1, "share": np.float32(0.25), "margin": -2, "top_k": 1},
        {"schedule": "cosine", "form": "b", "tags": ("NOUN", "ADJ"), "on": True, "anything": object()},
        {"tags": None, "loss": -1e30, "rows": {"a": 1}},
    ],
)
def test_what_passes(given):
    Options(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps 0: expected at least 1"),
        ({"steps": 1.5}, "steps 1.5: expected a whole number, at least 1"),
        ({"steps": True}, "steps True: expected a whole number, at least 1"),
        ({"steps": "7"}, "steps '7': expected a whole number, at least 1"),
        ({"rate": 0}, "rate 0: expected a number above 0, e.g. 3e-5"),
        ({"rate": float("nan")}, "rate nan: expected a number above 0, e.g. 3e-5"),
        ({"rate": float("inf")}, "rate inf: expected a number above 0, e.g. 3e-5"),
        ({"share": 1.0}, "share 1.0: expected a number from 0 to below 1"),
        ({"margin": -2.5}, "margin -2.5: expected a number from -2 to 2, or None"),
        ({"top_k": 0}, "top_k 0: expected at least 1, or None"),
        ({"steps": None}, "steps None: expected a whole number, at least 1"),
        ({"schedule": "liner"}, "schedule 'liner': expected 'linear', 'constant' or 'cosine'; did you mean 'linear'?"),
        ({"schedule": "zzz"}, "schedule 'zzz': expected 'linear', 'constant' or 'cosine'"),
        ({"form": "c"}, "form 'c': expected 'a', 'b' or None"),
        ({"tags": ("NOUN", "NOUNS")}, "tags 'NOUNS': expected 'NOUN' or 'ADJ'; did you mean 'NOUN'?"),
        ({"tags": "NOUN"}, "tags 'NOUN': expected a tuple of one or more values, or None"),
        ({"tags": ()}, "tags (): expected a tuple of one or more values, or None"),
        ({"name": 3}, "name 3: expected a string"),
        ({"on": 1}, "on 1: expected True or False"),
        ({"loss": "much"}, "loss 'much': expected a finite number"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(InputError) as refused:
        Options(**given)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Range(least=1), "at least 1"),
        (Range(most=3), "at most 3"),
        (Range(above=0), "a number above 0"),
        (Range(below=2), "a number below 2"),
        (Range(above=0, most=1), "a number above 0 and at most 1"),
        (Range(least=0, below=1), "a number from 0 to below 1"),
        (Range(), "a finite number"),
    ],
)
def test_ranges_say_what_they_hold(bounds, words):
    assert str(bounds) == words


def test_bounds_are_held_exactly():
    bounds = Range(least=0, below=1)
    assert 0 in bounds and 0.999 in bounds and 1 not in bounds and -1e-9 not in bounds
    assert 0 not in Range(above=0) and 1 in Range(most=1)


def test_one_value():
    check_value("dtype", "auto", Literal["auto", "float32"])
    with pytest.raises(InputError, match="dtype 'flaot32': .* did you mean 'float32'"):
        check_value("dtype", "flaot32", Literal["auto", "float32"])
    require_choice("recipe", "a", {"a": 1, "b": 2})
    with pytest.raises(InputError, match="recipe 'zz': expected 'a' or 'b'$"):
        require_choice("recipe", "zz", {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("text2tokn", "text2token"),
        ("Text2Token", "text2token"),
        ("llm2comp_unsup", "llm2comp-unsup"),
        ("colour", None),
    ],
)
def test_nearest_name(name, found):
    assert nearest(name, ["text2token", "text2token-small", "llm2comp-unsup"]) == found


@pytest.mark.parametrize(
    ("value", "kind", "parsed"),
    [
        ("1e2", int, 100),
        ("1e-2", Annotated[float, Range(above=0)], 0.01),
        ("none", Annotated[int, Range(least=1)] | None, None),
        ("7", Annotated[int, Range(least=1)] | None, 7),
        ("True", bool, True),
        ("a, b", tuple[str, ...], ("a", "b")),
        (["a"], tuple[str, ...] | None, ("a",)),
        ("b", Literal["a", "b"], "b"),
        (3, str, "3"),
    ],
)
def test_parsed(value, kind, parsed):
    found = parse_value("x.y", value, kind)
    assert found == parsed and type(found) is type(parsed)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("big", int, "setting x.y=big: expected a whole number"),
        ("1.5", int, "setting x.y=1.5: expected a whole number"),
        ("inf", int, "setting x.y=inf: expected a whole number"),
        ("1", bool, "setting x.y=1: expected True or False"),
        ("liner", Literal["linear", "cosine"], "expected linear or cosine; did you mean linear?"),
        ("none", float, "setting x.y=none: expected a number"),
    ],
)
def test_not_parsed(value, kind, message):
    with pytest.raises(InputError) as refused:
        parse_value("x.y", value, kind)
    assert message in str(refused.value)
