"""Hits and misses: do the tokens that an embedding decodes to occur in its text? (Text2Token Figs. 7 and 8).

Shapes: k aligned tokens of a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import PreTrainedTokenizerBase

from selfembed.explain.aligned_tokens import Explained, aligned_tokens
from selfembed.explain.checks import require_head, require_k, require_number, require_texts
from selfembed.provenance import Progress, silent

# Texts whose logits over the whole vocabulary are held at a time: 32 MB at a vocabulary of 128,000.
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class HitMiss:
    """Over all texts, how many of the top k aligned tokens occur in their text.

    Args:
        k: aligned tokens per text.
        histogram: entry h is the number of texts with h hits, h from 0 to k (Fig. 8).
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
            ("in the text", *(f"{side.hits / (side.hits + side.misses):.1%}" for side in (self.raw, self.trained))),
            ("hits per text", f"{self.raw.mean:.2f}", f"{self.trained.mean:.2f}"),
            ("texts with", "", ""),
        ]
        pairs = zip(self.raw.histogram, self.trained.histogram, strict=True)
        rows += [(f"  {hits:>3} hit{'s' * (hits != 1)}", *pair) for hits, pair in enumerate(pairs)]
        return lines + [f"  {name:<18}{raw:>8}{trained:>9}".rstrip() for name, raw, trained in rows]


def hit_miss(
    embedder: SentenceTransformer,
    head: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    k: int = 10,
    progress: Progress = silent,
) -> HitMiss:
    """Counts the aligned tokens that occur in their text (Text2Token Figs. 7 and 8; there 1,000 texts, k 10).

    A hit is :attr:`AlignedToken.in_text`: case and leading space aside. The paper compares token ids, for which
    ``" Gold"`` is a miss where the text has ``"gold"``: on the same tokens it can only count fewer hits.

    Args:
        embedder: any SentenceTransformer over the backbone, its vectors not normalised.
        head: the raw backbone's decoder layer, weight (V, D).
        tokenizer: the backbone's, without the prompt.
        texts: the more the steadier; the paper takes random passages.
        k: aligned tokens per text.
        progress: told the number of texts done.

    Raises:
        InputError: no text or an empty one, ``k`` outside the vocabulary, a head that is missing or does not fit the
            embedder, embeddings that are not finite.
    """
    texts = require_texts(texts)
    require_head(head, embedder.get_embedding_dimension())
    require_k(k, head)
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for i, found in enumerate(aligned_tokens(embedder, head, tokenizer, chunk, k=k), start):
            require_number(found[0].probability, f"embedding of text {i + 1}")
            counts[sum(token.in_text for token in found)] += 1
        progress("aligned tokens", start + len(chunk), len(texts))
    return HitMiss(k=k, histogram=tuple(counts[number] for number in range(k + 1)))


def hit_miss_change(
    explained: Explained, texts: Sequence[str], *, k: int = 10, progress: Progress = silent
) -> HitMissChange:
    """:func:`hit_miss` of the raw backbone and of the trained embedder; raises as it does."""
    raw, trained = (
        hit_miss(embedder, explained.head, explained.tokenizer, texts, k=k, progress=progress)
        for embedder in (explained.raw, explained.embedder)
    )
    return HitMissChange(raw=raw, trained=trained)
