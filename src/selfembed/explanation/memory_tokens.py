"""Memory tokens one by one: whether they differ, and what each of them says.

Shapes: N texts, K memory tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from selfembed.encoding.encode import text_batches
from selfembed.errors import InputError
from selfembed.explanation.aligned_tokens import AlignedToken, decode_vectors
from selfembed.explanation.checks import require_texts
from selfembed.ground.progress import Progress, silent
from selfembed.model.pooling import select_memory

COPIES = 0.95
"""The mean cosine from which on two memory tokens are called copies: 18 degrees apart.

LLM2Comp's tokens have 0.04 to 0.79 where they are well (CTKD) and 1.00 where they collapsed (CT-NLL); the paper names
no bound.
"""

_SHOWN_WORDS = 5  # of a memory token, on a line
_MARGIN = 34  # columns before the embedder's words in a terminal


@dataclass(frozen=True)
class MemoryRead:
    """What an embedder makes of texts: the states of the memory tokens, and the embeddings pooled from them.

    Attributes:
        states_NKD: The final hidden states at the memory tokens, float32.
        embedding_ND: The embeddings, float32.
    """

    states_NKD: Tensor
    embedding_ND: Tensor

    def of(self, rows: Sequence[int]) -> MemoryRead:
        """Returns the same of some of the texts."""
        chosen = list(rows)
        return MemoryRead(self.states_NKD[chosen], self.embedding_ND[chosen])


@dataclass(frozen=True, kw_only=True)
class MemoryCorrelation:
    """How much the memory tokens of an embedder say the same.

    Attributes:
        texts: The number of texts, N.
        matrix: The mean cosine of each memory token with each, K rows of K.
        copies: Groups of tokens of which each has a mean cosine of at least :data:`COPIES` with another; numbered from
            1.
    """

    texts: int
    matrix: tuple[tuple[float, ...], ...]
    copies: tuple[tuple[int, ...], ...]

    @property
    def different(self) -> int:
        """The number of tokens that are left when a group of copies counts as one."""
        return len(self.matrix) - sum(len(group) - 1 for group in self.copies)

    @property
    def largest(self) -> float:
        """The largest mean cosine of two different memory tokens."""
        return float(np.max(self._pairs()))

    @property
    def mean(self) -> float:
        """The mean cosine over all pairs of different memory tokens."""
        return float(np.mean(self._pairs()))

    @property
    def warning(self) -> str | None:
        """A sentence that names the copies; None where there are none."""
        if not self.copies:
            return None
        groups = "; ".join(_numbers(group) for group in self.copies)
        return (
            f"memory tokens {groups} are copies of one another (mean cosine at least {COPIES:g}): of the "
            f"{len(self.matrix)} only {self.different} differ; the pretext task has collapsed, or needs fewer tokens"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "texts": self.texts,
            "matrix": [list(row) for row in self.matrix],
            "copies": [list(group) for group in self.copies],
            "different": self.different,
        }

    def _pairs(self) -> np.ndarray:
        return np.asarray(self.matrix)[np.triu_indices(len(self.matrix), 1)]


@dataclass(frozen=True, kw_only=True)
class MemoryWords:
    """The aligned tokens of one text, of its embedding and of each memory token.

    Attributes:
        pooled: The aligned tokens of the embedding.
        memory: The aligned tokens of the state of each memory token.
    """

    pooled: list[AlignedToken]
    memory: list[list[AlignedToken]]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Returns lines for a terminal, below the embedder's column: one memory token a line, its likeliest first."""
        lines = []
        for number, tokens in enumerate(self.memory, 1):
            shown = [f"{token.token!r}{'*' if token.in_text else ''}" for token in tokens[:_SHOWN_WORDS]]
            lines.append(f"{'':<{_MARGIN}}memory {number:>2}  {' '.join(shown)}")
        return lines


def memory_tokens_of(embedder: nn.Module) -> int:
    """Counts the memory tokens, K; 0 for an embedder without, or with only one, whose state is the embedding
    itself.
    """
    pooling = _pooling_of(embedder)
    return pooling.memory_tokens if pooling is not None else 0


def read_memory(
    embedder: SentenceTransformer,
    texts: Sequence[str],
    *,
    progress: Progress = silent,
    task: str = "reading memory tokens",
) -> MemoryRead:
    """Reads texts once, for their memory states and their embeddings.

    Args:
        embedder: An embedder with several memory tokens, in memory or a finished folder that
            :func:`selfembed.model.embedder.load_embedder` or sentence-transformers has loaded.
        texts: At least one text.
        progress: Is told the number of texts read.
        task: The name of this work for `progress`.

    Returns:
        The states and embeddings in the order of the texts.

    Raises:
        InputError: The embedder has not several memory tokens, there is no text, or one is empty.
    """
    texts = require_texts(texts)
    pooling = _pooling_of(embedder)
    if pooling is None:
        raise InputError(
            "embedder: has not several memory tokens; expected one of recipe llm2comp with memory_tokens of 2 or "
            "more; train such a one"
        )
    embedder.eval()
    order, states, embeddings = [], [], []
    with torch.no_grad():
        for rows in text_batches(embedder, texts, progress=progress, task=task):
            order += rows
            batch = embedder.preprocess([texts[row] for row in rows])
            features = {name: v.to(embedder.device) if torch.is_tensor(v) else v for name, v in batch.items()}
            output = embedder(features)
            states.append(select_memory(output, pooling.first_id, pooling.memory_tokens).float())
            embeddings.append(output["sentence_embedding"].float())
    place_N = np.argsort(order)
    return MemoryRead(torch.cat(states)[place_N], torch.cat(embeddings)[place_N])


def correlate_memory(states_NKD: Any) -> MemoryCorrelation:
    """Averages over texts the cosine between the states of memory tokens i and j.

    The states are taken as they come, after the last norm and not centred.

    Args:
        states_NKD: The states of at least two memory tokens, see :func:`read_memory`.

    Returns:
        The matrix of mean cosines, and the copies in it.

    Raises:
        InputError: There is no text or only one memory token, or a state is zero or not finite.

    References:
        LLM2Comp (arXiv 2511.17129) shows such a matrix and gives no formula; this one is ours.
    """
    states_NKD = np.asarray(states_NKD.cpu() if torch.is_tensor(states_NKD) else states_NKD, dtype=np.float64)
    if states_NKD.ndim != 3 or len(states_NKD) == 0 or states_NKD.shape[1] < 2:
        raise InputError(
            f"states_NKD: of shape {states_NKD.shape}; expected texts x memory tokens x width, at least 2 tokens; "
            "take what read_memory gives"
        )
    length_NK1 = np.linalg.norm(states_NKD, axis=-1, keepdims=True)
    if not np.isfinite(length_NK1).all() or not length_NK1.all():
        raise InputError(
            "states_NKD: one is not finite or of length 0; expected finite vectors with a direction; examine the "
            "texts and the model"
        )
    unit_NKD = states_NKD / length_NK1
    matrix_KK = (unit_NKD @ unit_NKD.transpose(0, 2, 1)).mean(0)
    return MemoryCorrelation(
        texts=len(states_NKD), matrix=tuple(map(tuple, matrix_KK.tolist())), copies=_copies(matrix_KK)
    )


def memory_words(
    read: MemoryRead, head: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, k: int = 10
) -> list[MemoryWords]:
    """Decodes what memory tokens say, text by text: the top k tokens of `softmax(W_lm m)` for each memory state m.

    Args:
        read: The states and embeddings of these texts.
        head: The raw backbone's decoder layer.
        tokenizer: The backbone's tokenizer, without the memory tokens.
        texts: The texts that were read.
        k: The number of tokens for each state.

    Raises:
        InputError: :func:`~selfembed.explanation.aligned_tokens.decode_vectors` refuses something.
    """
    vectors_NRD = torch.cat([read.embedding_ND[:, None], read.states_NKD], 1)
    each = vectors_NRD.shape[1]
    repeated = [text for text in texts for _ in range(each)]
    found = decode_vectors(vectors_NRD.flatten(0, 1), head, tokenizer, repeated, k=k)
    groups = [found[start : start + each] for start in range(0, len(found), each)]
    return [MemoryWords(pooled=pooled, memory=memory) for pooled, *memory in groups]


def explain_memory(
    embedder: SentenceTransformer,
    head: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    k: int = 10,
) -> list[MemoryWords]:
    """Reads texts and decodes what memory tokens say of them; empty where there are no texts or no memory tokens."""
    if not texts or not memory_tokens_of(embedder):
        return []
    return memory_words(read_memory(embedder, texts), head, tokenizer, texts, k=k)


def _pooling_of(embedder: nn.Module) -> Any:
    """Finds the pooling over several memory tokens: ours, or the copy of it that a folder carries; None without."""
    return next((module for module in embedder.children() if getattr(module, "memory_tokens", 0) > 1), None)


def _copies(matrix_KK: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Finds groups of tokens that are linked by mean cosines of at least `COPIES`, numbered from 1."""
    linked_KK = np.linalg.matrix_power((matrix_KK >= COPIES).astype(np.float64), len(matrix_KK)) > 0
    groups = {tuple((np.flatnonzero(row_K) + 1).tolist()) for row_K in linked_KK}
    return tuple(sorted(group for group in groups if len(group) > 1))


def _numbers(group: Sequence[int]) -> str:
    """Lists numbers in words: 1 to 7, or 1, 3 and 4."""
    if len(group) > 2 and group[-1] - group[0] == len(group) - 1:
        return f"{group[0]} to {group[-1]}"
    return ", ".join(map(str, group[:-1])) + f" and {group[-1]}"
