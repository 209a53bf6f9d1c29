"""Texts read once, raw and trained, for all that is said of a corpus.

Shapes: N texts, K memory tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_texts
from selfembed.errors import InputError
from selfembed.explanation.aligned_tokens import AlignedToken, Explained, aligned_tokens
from selfembed.explanation.hit_miss import HitMissChange, hit_miss
from selfembed.explanation.memory_tokens import MemoryRead, memory_tokens_of, read_memory
from selfembed.explanation.spectrum import SpectrumChange, compare_spectra
from selfembed.ground.progress import Progress, silent

_CHUNK = 64  # texts between two progress reports
_HALVED_TEXTS = 50  # for the alignment of two halves
_HALVED_WORDS = 8  # of a text that is cut in half, at least


class Encoded(nn.Module):
    """An embedder that has read its texts already. It encodes as one does, so that targets can be made from it too.

    Attributes:
        vectors_ND: their embeddings, float32.
        states_NKD: the states of their memory tokens; None where the embedder has not several.
    """

    def __init__(self, embedder: SentenceTransformer, texts: Sequence[str], progress: Progress, task: str) -> None:
        super().__init__()
        self.row_of = {text: row for row, text in enumerate(texts)}
        vectors, states = [], []
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            if memory_tokens_of(embedder):
                read = read_memory(embedder, chunk)
                vectors.append(read.embedding_ND)
                states.append(read.states_NKD)
            else:
                vectors.append(embedder.encode(chunk, convert_to_tensor=True, show_progress_bar=False).float())
            progress(task, start + len(chunk), len(texts))
        self.vectors_ND = torch.cat(vectors)
        self.states_NKD = torch.cat(states) if states else None

    def encode(self, texts: Sequence[str], *, convert_to_tensor: bool = False, **unused: Any) -> Any:
        """Vectors of texts it has read, as SentenceTransformer gives them."""
        vectors_ND = self.vectors_ND[self._rows(texts)]
        return vectors_ND if convert_to_tensor else vectors_ND.cpu().numpy()

    def memory(self, texts: Sequence[str]) -> MemoryRead:
        """Memory states and vectors of texts it has read."""
        rows = self._rows(texts)
        assert self.states_NKD is not None
        return MemoryRead(self.states_NKD[rows], self.vectors_ND[rows])

    def _rows(self, texts: Sequence[str]) -> list[int]:
        return [self.row_of[text] for text in texts]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the raw backbone and the trained embedder make of the same texts.

    Args:
        texts: all different.
        explained: both sides as :class:`Encoded`, and the decoder layer.
        raw_tokens: aligned tokens of each text.
        trained_tokens: the same.
        hits: of these tokens.
        space: with the alignment of the two halves of a text, where at least two texts can be cut.
    """

    texts: list[str]
    explained: Explained
    raw_tokens: list[list[AlignedToken]]
    trained_tokens: list[list[AlignedToken]]
    hits: HitMissChange
    space: SpectrumChange


def sample_texts(corpus: Corpus, number: int) -> list[str]:
    """A seeded sample of a corpus, of at most that many texts, without repetitions.

    Raises:
        InputError: fewer than two texts asked for, or found.
    """
    if number < 2:
        raise InputError(f"sample {number}: expected at least 2 texts")
    texts = list(dict.fromkeys(choose_texts(corpus.texts(), number, seed=0)["text"]))
    if len(texts) < 2:
        raise InputError(f"corpus {corpus.name}: {len(texts)} text to look at; expected at least 2 different ones")
    return texts


def read_texts(explained: Explained, texts: Sequence[str], *, k: int = 10, progress: Progress = silent) -> Reading:
    """Encodes texts once on either side, and measures all that can be measured of them.

    Args:
        explained: the two sides.
        texts: at least two, all different.
        k: aligned tokens per text.
        progress: told the number of texts read.

    Raises:
        InputError: as :func:`~selfembed.explanation.aligned_tokens.aligned_tokens` and
            :func:`~selfembed.explanation.spectrum.compare_spectra` do.
    """
    texts = list(texts)
    words = [text.split() for text in texts]
    cut = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in words if len(w) >= _HALVED_WORDS]
    cut = cut[:_HALVED_TEXTS]
    needed = list(dict.fromkeys([*texts, *(half for pair in cut for half in pair)]))
    raw = Encoded(explained.raw, needed, progress, "raw vectors")
    trained = Encoded(explained.embedder, needed, progress, "trained vectors")
    tokens = [aligned_tokens(side, explained.head, explained.tokenizer, texts, k=k) for side in (raw, trained)]
    pairs: list[Any] = [None, None]
    if len(cut) >= 2:
        pairs = [tuple(side.encode(half) for half in zip(*cut, strict=True)) for side in (raw, trained)]
    return Reading(
        texts=texts,
        explained=replace(explained, raw=raw, embedder=trained),
        raw_tokens=tokens[0],
        trained_tokens=tokens[1],
        hits=HitMissChange(raw=hit_miss(tokens[0]), trained=hit_miss(tokens[1])),
        space=compare_spectra(raw.encode(texts), trained.encode(texts), raw_pairs=pairs[0], trained_pairs=pairs[1]),
    )
