"""Hits and misses: whether the tokens that an embedding decodes to occur in its text (Text2Token Figs. 7 and 8).

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
    """How many of the top k aligned tokens occur in their text, over all texts.

    Attributes:
        k: The number of aligned tokens of a text.
        histogram: The number of texts with h hits at place h, h from 0 to k (Text2Token Fig. 8).
    """

    k: int
    histogram: tuple[int, ...]

    @property
    def texts(self) -> int:
        """The number of texts."""
        return sum(self.histogram)

    @property
    def hits(self) -> int:
        """The number of aligned tokens that occur in their text (Fig. 7)."""
        return sum(number * texts for number, texts in enumerate(self.histogram))

    @property
    def misses(self) -> int:
        """The number of aligned tokens that do not (Fig. 7)."""
        return self.texts * self.k - self.hits

    @property
    def share(self) -> float:
        """The share of aligned tokens that occur in their text, 0 to 1."""
        return self.hits / (self.texts * self.k)

    @property
    def mean(self) -> float:
        """The mean number of hits in a text."""
        return self.hits / self.texts

    @property
    def mode(self) -> int:
        """The commonest number of hits; of several the smallest."""
        return self.histogram.index(max(self.histogram))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
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
        """Returns plain JSON values."""
        return {"raw": self.raw.to_dict(), "trained": self.trained.to_dict()}

    def lines(self) -> list[str]:
        """Returns the lines for a terminal."""
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
    """Counts the aligned tokens that occur in their text.

    A hit is :attr:`AlignedToken.in_text`: case and leading space aside. The paper compares token ids, for which `"
    Gold"` is a miss where the text has `"gold"`, so that it can only count fewer hits on the same tokens.

    Args:
        tokens: The top k tokens of every text, see :func:`selfembed.explanation.aligned_tokens.aligned_tokens`. The
            more texts, the steadier the counts.

    References:
        Text2Token, Figures 7 and 8, with 1,000 random passages and k 10.
    """
    counts = Counter(sum(token.in_text for token in found) for found in tokens)
    k = len(tokens[0])
    return HitMiss(k=k, histogram=tuple(counts[number] for number in range(k + 1)))
