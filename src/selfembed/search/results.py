"""What a search found."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfembed.ground.page import plain, shorten


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side (dense, lexical or sparse) says of a passage.

    Args:
        rank: from 1; None where the passage is not among those that the side put forward.
        score: dense: the cosine, -1 to 1; lexical: BM25, from 0; sparse: the inner product, from 0.
    """

    rank: int | None
    score: float


@dataclass(kw_only=True)
class Hit:
    """A passage that was found.

    Args:
        rank: from 1.
        score: that it is ranked by: of the fusion, or of the only side.
        text: the passage.
        file: where it is from: a file's absolute path, or the name of another source.
        unit: what ``place`` counts: line, row, text or passage.
        place: from 1.
        passage: its number within its row, or within a plain text file, from 1.
        row: its number in the index, from 0.
        sides: what each side says of it.
        stale: whether its file is gone or has changed since it was indexed.
        why: words that the question and the passage share in the embedder's eyes, where they were asked for.
    """

    rank: int
    score: float
    text: str
    file: str
    unit: str
    place: int
    passage: int
    row: int
    sides: dict[str, Side]
    stale: bool = False
    why: list[Any] | None = None

    def where(self) -> str:
        """File and place as a reader would look for them; files under the current folder by their relative path."""
        name = self.file
        if os.path.isabs(name) and Path(name).is_relative_to(Path.cwd()):
            name = os.path.relpath(name)
        further = f", passage {self.passage}" if self.unit in ("row", "text") and self.passage > 1 else ""
        return f"{name}, {self.unit} {self.place}{further}"

    def scored(self) -> str:
        """The scores in a line."""
        sides = ", ".join(
            f"{name} {side.score:.3f}" + (f" (rank {side.rank})" if side.rank else " (not ranked)")
            for name, side in self.sides.items()
        )
        return f"{self.score:.4f}: {sides}" if len(self.sides) > 1 else sides

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found = dataclasses.asdict(self)
        if self.why is None:
            del found["why"]
        return found


@dataclass(kw_only=True)
class SearchResults:
    """The passages found for one query, best first; to be counted and walked like a list.

    Args:
        query: that was asked.
        mode: dense, lexical or hybrid.
        hits: best first.
        notes: what the reader should know, a line each.
    """

    query: str
    mode: str
    hits: list[Hit]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __getitem__(self, number: int) -> Hit:
        return self.hits[number]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        hits = [hit.to_dict() for hit in self.hits]
        return {"query": self.query, "mode": self.mode, "hits": hits, "notes": self.notes}

    def lines(self, characters: int = 300) -> list[str]:
        """For a terminal."""
        lines = []
        for hit in self.hits:
            lines += [f"{hit.rank:>3}. {plain(hit.where())}", f"     {plain(shorten(hit.text, characters))}"]
            lines.append(f"     {hit.scored()}")
            if hit.why is not None:
                shared = ", ".join(f"{word.word!r} {word.contribution:.3f}" for word in hit.why)
                lines.append(f"     both say: {shared or 'nothing that stands out'}")
        return lines
