"""What selfembed raises for what a user can put right."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message says what was expected and what to do.

    A parameter that the message tells to set is written in backticks, with its value where there is one to give:
    ``use `attention='causal'` ``. The command line puts its own option there.
    """


class MissingPackage(InputError, ImportError):
    """A package that only some of the work needs is not installed."""

    def __init__(self, message: str, *, name: str) -> None:
        ImportError.__init__(self, message, name=name)


class TrainingDiverged(RuntimeError):
    """Training has led to a model that is good for nothing; the message says what to change before another try.

    Parameters are written in backticks as in an :class:`InputError`.
    """
