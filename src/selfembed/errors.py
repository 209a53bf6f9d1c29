"""The one exception selfembed raises for what a user can put right."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message says what was expected and what to do."""
