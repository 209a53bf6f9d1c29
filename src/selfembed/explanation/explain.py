"""Shows in one call what there is to see of an embedder: what its embeddings say in words, raw and trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from selfembed.data.corpus import Corpus
from selfembed.explanation.aligned_tokens import (
    EXAMPLES,
    AlignedToken,
    Explained,
    aligned_table,
    aligned_tokens,
    load_explained,
)
from selfembed.explanation.checks import require_texts
from selfembed.explanation.hit_miss import HitMissChange
from selfembed.explanation.memory_tokens import MemoryWords, explain_memory
from selfembed.explanation.reading import read_texts, sample_texts
from selfembed.explanation.similarity import Similarity, explain_similarity
from selfembed.explanation.spectrum import SpectrumChange
from selfembed.ground.options import Range, check_value
from selfembed.ground.page import shorten
from selfembed.ground.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class TextWords:
    """What the embeddings of one text say in words.

    Attributes:
        text: The text.
        raw: Aligned tokens of the raw backbone's embedding, likeliest first.
        trained: Aligned tokens of the trained embedder's embedding, likeliest first.
        memory: Aligned tokens of each of the embedder's memory tokens; None for an embedder without several.
    """

    text: str
    raw: list[AlignedToken]
    trained: list[AlignedToken]
    memory: MemoryWords | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        found: dict[str, Any] = {
            "text": self.text,
            "raw": [asdict(token) for token in self.raw],
            "trained": [asdict(token) for token in self.trained],
        }
        return found if self.memory is None else {**found, "memory": self.memory.to_dict()["memory"]}

    def lines(self) -> list[str]:
        """Returns the lines for a terminal."""
        memory = [] if self.memory is None else self.memory.lines()
        return [shorten(self.text), *aligned_table(self.raw, self.trained), *memory, ""]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What :func:`explain` found.

    Attributes:
        texts: For each text, what its embeddings say in words.
        similarity: Why the embedder finds two texts alike or not; None for any other number of texts.
        hits: How many aligned tokens occur in their text, over a corpus; None without a corpus.
        space: The shape of the space of embeddings, over a corpus; None without a corpus.
    """

    texts: list[TextWords]
    similarity: Similarity | None = None
    hits: HitMissChange | None = None
    space: SpectrumChange | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        found: dict[str, Any] = {"texts": [words.to_dict() for words in self.texts]}
        parts = (("similarity", self.similarity), ("hit_miss", self.hits), ("spectrum", self.space))
        return found | {name: part.to_dict() for name, part in parts if part is not None}

    def lines(self) -> list[str]:
        """Returns the lines for a terminal."""
        lines = [line for words in self.texts for line in words.lines()]
        if self.texts:
            lines.append("* occurs in the text, case and leading space aside")
        if self.similarity is not None:
            lines += ["", "Why the embedder finds these two alike, or not:", *self.similarity.lines()]
        for change in (self.hits, self.space):
            if change is not None:
                lines += ["", *change.lines()]
        return lines


def explain(
    embedder: str | Path,
    texts: Sequence[str] = (),
    *,
    corpus: Any = None,
    sample: int = 300,
    model: str | Path | None = None,
    k: int = 10,
    progress: Progress = silent,
) -> Explanation:
    """Shows what embeddings say in words of the model's own vocabulary, before and after training.

    Args:
        embedder: The folder of an embedder that :func:`selfembed.train` has made, or of any other with `model`.
        texts: The texts to explain; two of them are also compared. Without texts and corpus, four examples are
            explained.
        corpus: A corpus, as :class:`~selfembed.data.corpus.Corpus` takes it. Hits and misses and the shape of the
            space are measured over a sample of it.
        sample: The largest number of texts in that sample.
        model: The backbone that the embedder was made from, if it has moved or is not recorded.
        k: The number of aligned tokens of a text.
        progress: Is called with (task, done, total).

    Returns:
        What the embeddings say, with their similarity and the measures over the corpus where they were asked for.

    Raises:
        InputError: There is no such embedder, its backbone is not known or is another, a text is empty, the corpus has
            fewer than two texts, or a number is out of range.
    """
    check_value("k", k, Annotated[int, Range(least=1)])
    texts = require_texts(texts, least=0)
    if not texts and corpus is None:
        texts = list(EXAMPLES)
    explained = load_explained(embedder, model=model)
    hits = space = None
    if corpus is not None:
        chosen = sample_texts(corpus if isinstance(corpus, Corpus) else Corpus(corpus), sample)
        reading = read_texts(explained, chosen, k=k, progress=progress)
        hits, space = reading.hits, reading.space
    similarity = None
    words = _words(explained, texts, k) if texts else []
    if len(texts) == 2:
        similarity = explain_similarity(explained.embedder, explained.head, explained.tokenizer, *texts, k=k)
    return Explanation(texts=words, similarity=similarity, hits=hits, space=space)


def _words(explained: Explained, texts: list[str], k: int) -> list[TextWords]:
    head, tokenizer = explained.head, explained.tokenizer
    raw = aligned_tokens(explained.raw, head, tokenizer, texts, k=k)
    trained = aligned_tokens(explained.embedder, head, tokenizer, texts, k=k)
    memory = explain_memory(explained.embedder, head, tokenizer, texts, k=k)
    return [
        TextWords(text=text, raw=raw[i], trained=trained[i], memory=memory[i] if memory else None)
        for i, text in enumerate(texts)
    ]
