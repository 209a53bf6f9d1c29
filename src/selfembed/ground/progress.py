"""What a long piece of work reports while it runs."""

from __future__ import annotations

from collections.abc import Callable

# What a long piece of work reports: its name, how much is done, how much there is (None: unknown).
Progress = Callable[[str, int, "int | None"], None]


def silent(task: str, done: int, total: int | None) -> None:
    """The progress report of those who want none."""
