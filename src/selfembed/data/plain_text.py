"""Plain text as a stream: paragraphs between blank lines, and the headings over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import TextIO

from selfembed.data.ledger import Ledger, Place
from selfembed.data.passages import Heading, Piece
from selfembed.data.words import GLUE, advice_on, heading_of, joins, problem_of, split_words

PIECE = 1 << 16
"""Characters of a line looked at together."""

_MARKED = re.compile(r"\s{0,3}#{1,6}\s+(.+?)\s*#*\s*")  # Markdown: ## Title
_UNDERLINE = re.compile(r"""\s{0,3}([=\-~^"'*+#.:_])\1{2,}\s*""")  # Markdown and reStructuredText: a line of ===
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_SHARD = re.compile(
    r"(of|part|shard|chunk|file|data|dataset|train|test|valid|validation|dev|text|corpus|output)s?", re.I
)


def paragraphs(
    file: TextIO, place: Place, ledger: Ledger, *, encoding: str, title: str = "", marked_up: bool = False
) -> Iterator[Piece]:
    """Reads a file of plain text, which is one document, as pieces.

    Args:
        file: The file, decoded with lone surrogates for bytes that are not in the encoding.
        place: Counter of lines.
        ledger: Told of what is no text.
        encoding: Name of the encoding, for messages.
        title: Title for a file without headings.
        marked_up: Whether the file is Markdown or reStructuredText, whose headings are titles of what follows.

    Raises:
        InputError: The ledger refuses a line.
    """
    yield Heading(title, "file name" if title else "")
    tail, starts, joined = "", True, False
    before, candidate, first = "", "", True  # the line before; the first one, if a title; no paragraph has ended yet
    while piece := file.readline(PIECE):
        place.number += starts
        ends = piece.endswith("\n")
        whole_line = starts and ends
        piece = tail + piece
        words = split_words(piece)
        glued = joined or (starts and joins(before, piece))
        tail, joined = "", False
        if problem := problem_of(piece, words, encoding):
            ledger.bad(problem, place, advice_on(problem))
            while not ends and (piece := file.readline(PIECE)):  # the rest of that line goes with it
                ends = piece.endswith("\n")
            before = ""
        elif words:
            if marked_up and whole_line:
                yield from _heading(piece, before)
            if first and starts and not before and not marked_up:
                candidate = heading_of(piece) if whole_line else ""
            elif first and starts:
                candidate = ""  # a second line: the first was none of its own
            if glued:
                words[0] = GLUE + words[0]
            if not (ends or piece[-1].isspace()):
                tail = words.pop()  # this word may go on
                joined = tail.startswith(GLUE)
                tail = tail.removeprefix(GLUE)
            if words:
                yield words
            before = piece
        elif starts:
            yield None
            if first and before:
                if not marked_up and candidate:
                    yield Heading(candidate, "first line", new_document=False)
                first = False
            before = ""
        starts = ends
    if tail:
        yield [GLUE + tail if joined else tail]


def file_title(path: PurePath) -> str:
    """Makes a title of a file's name; "" where the name says nothing, like "part-00001"."""
    name = path.name.split(".")[0]
    words = re.sub(r"[\W_]+", " ", name).strip()
    said = [word for word in _LETTERS.findall(words) if not _SHARD.fullmatch(word)]
    return words if said else ""


def _heading(line: str, before: str) -> Iterator[Heading]:
    """Yields the heading that a line is, or that it makes of the line before."""
    if found := _MARKED.fullmatch(line.rstrip("\n")):
        title = found[1]
    elif _UNDERLINE.fullmatch(line.rstrip("\n")) and before.endswith("\n") and len(before.strip()) >= 1:
        title = before
    else:
        return
    if title := heading_of(title):
        yield Heading(title, "heading", new_document=False)
