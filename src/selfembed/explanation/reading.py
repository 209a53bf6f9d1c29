"""Reads texts once, raw and trained, for all that is said of a corpus.

Shapes: N texts, K memory tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from sentence_transformers import SentenceTransformer

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_texts
from selfembed.encoding.encode import encode
from selfembed.encoding.known import KnownVectors
from selfembed.errors import InputError
from selfembed.explanation.aligned_tokens import AlignedToken, Explained, decode_vectors
from selfembed.explanation.checks import require_texts
from selfembed.explanation.hit_miss import HitMissChange, hit_miss
from selfembed.explanation.memory_tokens import MemoryRead, memory_tokens_of, read_memory
from selfembed.explanation.spectrum import SpectrumChange, compare_spectra
from selfembed.ground.options import Range, check_value
from selfembed.ground.progress import Progress, silent

_HALVED_TEXTS = 50  # for the alignment of two halves
_HALVED_WORDS = 8  # of a text that is cut in half, at least


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the raw backbone and the trained embedder make of the same texts.

    Attributes:
        texts: The texts, all different.
        explained: Both sides, and the decoder layer that they share.
        raw: The vectors of the texts on the raw side, which can be asked for as of an embedder.
        trained: The vectors of the texts on the trained side.
        memory: What the memory tokens of the trained embedder make of the texts; None for an embedder without several.
        raw_tokens: The aligned tokens of each text on the raw side.
        trained_tokens: The aligned tokens of each text on the trained side.
        hits: The hits and misses of these tokens.
        space: The shapes of the two spaces; with the alignment of the two halves of a text, where two texts can be
            cut.
    """

    texts: list[str]
    explained: Explained
    raw: KnownVectors
    trained: KnownVectors
    memory: MemoryRead | None
    raw_tokens: list[list[AlignedToken]]
    trained_tokens: list[list[AlignedToken]]
    hits: HitMissChange
    space: SpectrumChange


def sample_texts(corpus: Corpus, number: int) -> list[str]:
    """Draws a seeded sample of a corpus, without repetitions.

    Args:
        corpus: The corpus.
        number: The largest number of texts.

    Returns:
        At least two texts, all different.

    Raises:
        InputError: Fewer than two texts are asked for, or found.
    """
    check_value("sample", number, Annotated[int, Range(least=2)])
    texts = list(dict.fromkeys(choose_texts(corpus.texts(), number, seed=0)["text"]))
    if len(texts) < 2:
        raise InputError(f"corpus {corpus.name}: {len(texts)} text; expected at least 2 different ones; give more")
    return texts


def read_texts(explained: Explained, texts: Sequence[str], *, k: int = 10, progress: Progress = silent) -> Reading:
    """Encodes texts once on either side, and measures all that can be measured of them.

    Args:
        explained: The two sides.
        texts: At least two texts, all different.
        k: The number of aligned tokens of a text.
        progress: Is told the number of texts read.

    Returns:
        Everything that was read and measured.

    Raises:
        InputError: :func:`~selfembed.explanation.aligned_tokens.aligned_tokens` or
            :func:`~selfembed.explanation.spectrum.compare_spectra` refuses something.
    """
    texts = require_texts(texts)
    words = [text.split() for text in texts]
    cut = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in words if len(w) >= _HALVED_WORDS]
    cut = cut[:_HALVED_TEXTS]
    needed = list(dict.fromkeys([*texts, *(half for pair in cut for half in pair)]))
    raw, _ = _read(explained.raw, needed, progress, "raw vectors")
    trained, memory = _read(explained.embedder, needed, progress, "trained vectors")
    sides = (raw, trained)
    tokens = [
        decode_vectors(side.encode(texts, convert_to_tensor=True), explained.head, explained.tokenizer, texts, k=k)
        for side in sides
    ]
    pairs: list[Any] = [None, None]
    if len(cut) >= 2:
        pairs = [tuple(side.encode(half) for half in zip(*cut, strict=True)) for side in sides]
    return Reading(
        texts=texts,
        explained=explained,
        raw=raw,
        trained=trained,
        memory=memory and memory.of(range(len(texts))),
        raw_tokens=tokens[0],
        trained_tokens=tokens[1],
        hits=HitMissChange(raw=hit_miss(tokens[0]), trained=hit_miss(tokens[1])),
        space=compare_spectra(raw.encode(texts), trained.encode(texts), raw_pairs=pairs[0], trained_pairs=pairs[1]),
    )


def _read(
    embedder: SentenceTransformer, texts: list[str], progress: Progress, task: str
) -> tuple[KnownVectors, MemoryRead | None]:
    """Reads the vectors of the texts, and the states behind them where there are several memory tokens."""
    if memory_tokens_of(embedder):
        read = read_memory(embedder, texts, progress=progress, task=task)
        return KnownVectors(texts, read.embedding_ND, device=embedder.device), read
    vectors_ND = encode(embedder, texts, progress=progress, task=task)
    return KnownVectors(texts, vectors_ND, device=embedder.device), None
