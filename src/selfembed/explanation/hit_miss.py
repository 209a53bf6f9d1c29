"""Hits and misses: do the tokens that an embedding decodes to occur in its text? (Text2Token Figs. 7 and 8).

Shapes: k aligned tokens of a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfembed.explanation.aligned_tokens import AlignedToken


@dataclass(frozen=True, kw_only=True)
class HitMiss:
    """Over all texts, how many of the top k aligned tokens occur in their text.

    Args:
        k: Aligned tokens per text.
        histogram: Entry h is the number of texts with h hits, h from 0 to k (Fig. 8).
    """

    k: int
    histogram: tuple[int, ...]

    @property
    def texts(self) -> int:
        return sum(self.histogram)

    @property
    def hits(self) -> int:
        """Aligned tokens that occur in their text (Fig. 7)."""
        return sum(number * texts for number, texts in enumerate(self.histogram))

    @property
    def misses(self) -> int:
        """Aligned tokens that do not (Fig. 7)."""
        return self.texts * self.k - self.hits

    @property
    def share(self) -> float:
        """Of all aligned tokens, those that occur in their text, 0 to 1."""
        return self.hits / (self.texts * self.k)

    @property
    def mean(self) -> float:
        """Hits per text."""
        return self.hits / self.texts

    @property
    def mode(self) -> int:
        """The commonest number of hits; the smallest of several."""
        return self.histogram.index(max(self.histogram))

    def to_dict(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "k": self.k,
            "hits": self.hits,
            "misses": self.misses,
            "mean": self.mean,
            "mode": self.mode,
            "histogram": list(self.histogram),
        }


@dataclass(frozen=True, kw_only=True)
class HitMissChange:
    """Hits and misses of the raw backbone and of the trained embedder, on the same texts."""

    raw: HitMiss
    trained: HitMiss

    def to_dict(self) -> dict[str, Any]:
        return {"raw": self.raw.to_dict(), "trained": self.trained.to_dict()}

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = [
            f"{self.raw.texts:,} texts, their top {self.raw.k} aligned tokens",
            f"  {'':<18}{'raw':>8}{'trained':>9}",
        ]
        rows: list[tuple[str, Any, Any]] = [
            ("in the text", f"{self.raw.share:.1%}", f"{self.trained.share:.1%}"),
            ("hits per text", f"{self.raw.mean:.2f}", f"{self.trained.mean:.2f}"),
            ("texts with", "", ""),
        ]
        pairs = zip(self.raw.histogram, self.trained.histogram, strict=True)
        rows += [(f"  {hits:>3} hit{'s' * (hits != 1)}", *pair) for hits, pair in enumerate(pairs)]
        return lines + [f"  {name:<18}{raw:>8}{trained:>9}".rstrip() for name, raw, trained in rows]


def hit_miss(tokens: Sequence[Sequence[AlignedToken]]) -> HitMiss:
    """Counts the aligned tokens that occur in their text (Text2Token Figs. 7 and 8; there 1,000 texts, k 10).

    A hit is :attr:`AlignedToken.in_text`: case and leading space aside. The paper compares token ids, for which
    `" Gold"` is a miss where the text has `"gold"`: on the same tokens it can only count fewer hits.

    Args:
        tokens: The top k of every text, see :func:`selfembed.explanation.aligned_tokens.aligned_tokens`. The more
            texts, the steadier; the paper takes random passages.
    """
    counts = Counter(sum(token.in_text for token in found) for found in tokens)
    k = len(tokens[0])
    return HitMiss(k=k, histogram=tuple(counts[number] for number in range(k + 1)))
