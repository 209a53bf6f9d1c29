"""The results of a search."""

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
    """The view that one side (dense, lexical or sparse) has of a passage.

    Attributes:
        rank: The rank from 1; None where the side did not put the passage forward.
        score: The side's score. Dense: the cosine, -1 to 1; lexical: BM25, from 0; sparse: the inner product, from 0.
    """

    rank: int | None
    score: float


@dataclass(kw_only=True)
class Hit:
    """A passage that was found.

    Attributes:
        rank: The rank from 1.
        score: The score that it is ranked by: of the fusion, or of the only side.
        text: The passage.
        file: The source: a file's absolute path, or the name of something else.
        unit: The unit that `place` is counted in: line, row, text or passage.
        place: The place in the source, from 1.
        passage: The number of the passage within its row, or within a plain text file, from 1.
        row: The number of the passage in the index, from 0.
        sides: The view of each side, by its name.
        stale: Whether its file is gone or has changed since it was indexed.
        why: The words that the question and the passage share in the embedder's eyes; None where they were not asked
            for.
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
        """Names file and place as a reader would look for them; under the current folder the path is relative."""
        name = self.file
        if os.path.isabs(name) and Path(name).is_relative_to(Path.cwd()):
            name = os.path.relpath(name)
        further = f", passage {self.passage}" if self.unit in ("row", "text") and self.passage > 1 else ""
        return f"{name}, {self.unit} {self.place}{further}"

    def scored(self) -> str:
        """Shows the scores in one line."""
        sides = ", ".join(
            f"{name} {side.score:.3f}" + (f" (rank {side.rank})" if side.rank else " (not ranked)")
            for name, side in self.sides.items()
        )
        return f"{self.score:.4f}: {sides}" if len(self.sides) > 1 else sides

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        found = dataclasses.asdict(self)
        if self.why is None:
            del found["why"]
        return found


@dataclass(kw_only=True)
class SearchResults:
    """The passages found for one query, best first; they can be counted and walked like a list.

    Attributes:
        query: The query that was asked.
        mode: The mode: dense, lexical or hybrid.
        hits: The passages, best first.
        notes: What the reader should know, a line each.
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
        """Returns plain JSON values."""
        hits = [hit.to_dict() for hit in self.hits]
        return {"query": self.query, "mode": self.mode, "hits": hits, "notes": self.notes}

    def lines(self, characters: int = 300) -> list[str]:
        """Shows the results in lines for a terminal, each passage cut to that many characters."""
        lines = []
        for hit in self.hits:
            lines += [f"{hit.rank:>3}. {plain(hit.where())}", f"     {plain(shorten(hit.text, characters))}"]
            lines.append(f"     {hit.scored()}")
            if hit.why is not None:
                shared = ", ".join(f"{word.word!r} {word.contribution:.3f}" for word in hit.why)
                lines.append(f"     both say: {shared or 'nothing that stands out'}")
        return lines
