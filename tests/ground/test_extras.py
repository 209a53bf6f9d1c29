"""A package that is not installed is named in one line, before any work, with what to install."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from selfembed.errors import InputError, MissingPackage
from selfembed.ground.extras import EXTRAS, missing_package, require_extra

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_hidden_package_is_named(extra, monkeypatch):
    require_extra(extra)
    assert missing_package(extra) is None
    _, modules = EXTRAS[extra]
    monkeypatch.setitem(sys.modules, modules[-1], None)
    with pytest.raises(InputError) as refused:
        require_extra(extra)
    message = str(refused.value)
    assert message.startswith(f"package {modules[-1]}: not installed; ")
    assert message.endswith(f'run: pip install "selfembed[{extra}]"') and "\n" not in message
    with pytest.raises(ImportError):  # for whoever imports a room of it in a try statement
        require_extra(extra)
    assert isinstance(refused.value, MissingPackage) and refused.value.name == modules[-1]


def test_extras_are_those_of_the_project():
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {*EXTRAS, "all", "test"}
    assert extras["all"] == [f"selfembed[{','.join(sorted(EXTRAS))}]"]
