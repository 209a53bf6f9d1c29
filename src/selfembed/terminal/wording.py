"""A library's message in the words of the command line: parameters become the options that set them.

The library names a parameter at the head of a message (`max_length 3: ...`) and, in backticks, where it says what to
do (``use `attention='causal'` ``).
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex

_HEAD = re.compile(r"(?P<name>[a-z_][a-z0-9_]*)(?=[ :])")
_NAMED = re.compile(r"`(?P<name>[a-z_][a-z0-9_.]*)(?:=(?P<value>[^`]+))?`")
_OTHER_NAMES = {"instructions": "instruction", "settings": "set"}


def worded(message: str, options: argparse.Namespace) -> str:
    """Writes a message with the options of the verb that was run.

    Args:
        message: The message of the library.
        options: What was parsed; `verb` is the parser whose options are meant, as a rule the verb's own.
    """
    # argparse has no public name for the options of a parser.
    flags = {action.dest: action for action in options.verb._actions if action.option_strings}

    def head(found: re.Match[str]) -> str:
        action = flags.get(_OTHER_NAMES.get(found["name"], found["name"]))
        # What was not given on the command line comes from elsewhere: a recipe, a record, --set.
        given = action is not None and getattr(options, action.dest, action.default) != action.default
        return _flag(action) if action is not None and given else found[0]

    def named(found: re.Match[str]) -> str:
        name = _OTHER_NAMES.get(found["name"], found["name"])
        value = None if found["value"] is None else _shown(found["value"])
        action = flags.get(name)
        if action is not None and action.nargs == 0:
            return _flag(action) if value in (None, "true") else f"no {_flag(action)}"
        if action is not None:
            return _flag(action) if value is None else f"{_flag(action)} {value}"
        if f"no_{name}" in flags and value == "false":
            return _flag(flags[f"no_{name}"])
        if "set" in flags:
            return f"--set {name}" if value is None else f"--set {name}={value}"
        return found[0]

    return _NAMED.sub(named, _HEAD.sub(head, message, count=1) if _HEAD.match(message) else message)


def _flag(action: argparse.Action) -> str:
    return max(action.option_strings, key=len)


def _shown(value: str) -> str:
    """Shows a value as it is typed: without Python's quotes, with the shell's where they are needed."""
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value  # a placeholder
    return shlex.quote(read) if isinstance(read, str) else str(read).lower() if read in (None, True, False) else value
