"""Passages: words as they are read, cut into texts that know their title and their document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from selfembed.data.words import MAX_ROW, join_words
from selfembed.errors import InputError


@dataclass(frozen=True)
class Heading:
    """A title before the texts that it belongs to.

    Attributes:
        title: Title of the texts that follow, or "".
        origin: Where the title is from: "column", "heading", "first line", "file name", or "" without one.
        new_document: Whether a new document begins here.
    """

    title: str = ""
    origin: str = ""
    new_document: bool = True


UNTITLED = Heading()

Piece = list[str] | Heading | None
"""What a reader yields: words of a text, a title, or None where a text ends. So neither a file nor an endless line is
ever held in memory as a whole."""


class PassageRow(NamedTuple):
    """A text as the corpus has it.

    Attributes:
        text: Words joined by single spaces.
        words: Number of words.
        title: Title of the document or section, or "".
        title_from: Where the title is from, see `Heading.origin`.
        document: Number of the document, from 0; the passages of a document follow one another.
    """

    text: str
    words: int
    title: str
    title_from: str
    document: int


def cut(pieces: Iterable[Piece], size: int | None) -> Iterator[PassageRow]:
    """Cuts texts into consecutive passages.

    Args:
        pieces: Pieces of texts, one after the other.
        size: Number of words of a passage; a rest of less than a fifth stays with the passage before. None leaves
            texts whole.

    Raises:
        InputError: A text that is to stay whole has more than `MAX_ROW` characters.
    """
    heading, document, begins = UNTITLED, -1, True
    words: list[str] = []
    chars = 0

    def passage(part: list[str]) -> PassageRow:
        nonlocal document, begins
        document += begins
        begins = False
        text = join_words(part)
        own = text.strip("#=-~^*_ ") == heading.title  # a heading is no title of itself
        return PassageRow(
            text, len(part), "" if own else heading.title, "" if own else heading.origin, max(document, 0)
        )

    for piece in pieces:
        if piece is None:
            if words:
                yield passage(words)
            words, chars = [], 0
        elif isinstance(piece, Heading):
            heading = piece
            begins = begins or piece.new_document
        else:
            words += piece
            if size:
                start = 0
                while 5 * (len(words) - start - size) >= size:  # what follows is long enough to stand alone
                    yield passage(words[start : start + size])
                    start += size
                del words[:start]
            elif (chars := chars + sum(map(len, piece)) + len(piece)) > MAX_ROW:
                raise InputError(
                    f"passage_words None: a text of over {MAX_ROW:,} characters, beginning "
                    f"{join_words(words[:8])[:80]!r}, cannot be left whole; expected a number; give one, or separate "
                    "its paragraphs by blank lines"
                )
    if words:
        yield passage(words)
