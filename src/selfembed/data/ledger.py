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
        name: File or data set, as it is called in messages.
        unit: What is counted: "line", "row" or "item".
        number: Of the present one, from 1; 0 before the first.
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
        on_bad: "raise" refuses the first bad text, row or file, "skip" leaves it out.
        optional: Whether the reader's caller can choose "skip", which messages then say.
        skipped: What was left out: reason -> how often.
        files: Files read.
    """

    on_bad: Literal["raise", "skip"] = "raise"
    optional: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    files: int = 0

    def skip(self, reason: str, count: int = 1) -> None:
        """Counts what is left out without being bad, as empty texts are."""
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def bad(self, reason: str, place: Place, advice: str, detail: object = None) -> None:
        """Refuses or counts what is bad.

        Args:
            reason: What is wrong, in the words it is counted under.
            place: Where it stands.
            advice: What to do about it.
            detail: What a library said of it.

        Raises:
            InputError: `on_bad` is "raise".
        """
        if self.on_bad == "raise":
            said = f" ({one_line(detail)})" if detail else ""
            leave = ", or leave it out (on_bad='skip')" if self.optional else ""
            raise InputError(f"{place}: {reason}{said}; {advice}{leave}")
        self.skip(reason)


def numbered(values: Iterable[Any], place: Place) -> Iterator[Any]:
    """The values, the place counting along."""
    for value in values:
        place.number += 1
        yield value


def one_line(detail: object) -> str:
    """The first line of an error or note, short enough for a message of one line."""
    text = str(detail).strip() or type(detail).__name__
    return text.splitlines()[0][:300]
