"""What reading cannot use: refused in one line that says where it stands, or left out and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from selfembed.errors import InputError


@dataclass
class Place:
    """Where reading stands, for messages.

    Attributes:
        name: Name of the file or data set in messages.
        unit: What is counted: "line", "row" or "item".
        number: Number of the present one, from 1; 0 before the first.
    """

    name: str
    unit: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.name}, {self.unit} {self.number}" if self.number else self.name


@dataclass(kw_only=True)
class Ledger:
    """Refuses what is bad, or counts it.

    Attributes:
        on_bad: "raise" refuses the first bad text, row or file, "skip" leaves out all of them.
        optional: Whether a user can choose "skip"; messages then say so.
        skipped: What was left out: reason -> how often.
        files: Number of files read.
    """

    on_bad: Literal["raise", "skip"] = "raise"
    optional: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    files: int = 0

    def skip(self, reason: str, count: int = 1) -> None:
        """Counts what is left out without being bad, such as empty texts."""
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def bad(self, reason: str, place: Place, advice: str, detail: object = None) -> None:
        """Refuses or counts what is bad.

        Args:
            reason: What is wrong, in the words under which it is counted.
            place: Where it stands.
            advice: What to do about it.
            detail: What a library said about it.

        Raises:
            InputError: `on_bad` is "raise".
        """
        if self.on_bad == "raise":
            said = f" ({one_line(detail)})" if detail else ""
            leave = ", or leave it out (`on_bad='skip'`)" if self.optional else ""
            raise InputError(f"{place}: {reason}{said}; {advice}{leave}")
        self.skip(reason)


def numbered(values: Iterable[Any], place: Place) -> Iterator[Any]:
    """Yields the values and counts them in the place."""
    for value in values:
        place.number += 1
        yield value


def one_line(detail: object) -> str:
    """Gives the first line of an error or note, short enough for a message of one line."""
    text = str(detail).strip() or type(detail).__name__
    return text.splitlines()[0][:300]
