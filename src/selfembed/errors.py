"""The errors that selfembed raises for what a user can put right."""

from __future__ import annotations


class InputError(ValueError):
    """Says that what was given cannot be used, what was expected, and what to do, in one line.

    The form is `NAME VALUE: expected ...; do ...`, with what is wrong before the expectation where that needs a word.
    A parameter that the message tells to set is written in backticks, with its value where there is one to give:
    ``use `attention='causal'` ``. The command line puts its own option there.
    """


class MissingPackage(InputError, ImportError):
    """Says that a package is not installed which only some of the work needs, and how to install it."""

    def __init__(self, message: str, *, name: str) -> None:
        ImportError.__init__(self, message, name=name)


class TrainingDiverged(RuntimeError):
    """Says that training has led to a model that is good for nothing, and what to change before another try.

    Parameters are written in backticks as in an :class:`InputError`.
    """
