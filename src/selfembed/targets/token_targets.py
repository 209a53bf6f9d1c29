"""Token targets: sparse distributions over the vocabulary that the embeddings of texts shall decode to.

Shapes: N texts, B batch, K largest support in a batch, V vocabulary, S sum of all supports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from selfembed.ground.files import arriving_file


@dataclass(frozen=True, kw_only=True)
class TokenTargets:
    """N sparse distributions in compressed-row form: row i is the slice `offsets[i]:offsets[i+1]`.

    Args:
        offsets_N1: Row boundaries, N + 1 of them, int64.
        ids_S: Token ids, distinct within a row, int32.
        weights_S: Probabilities, positive, summing with the rest to 1 in a row, float32. A text without a target has
            an empty row.
        vocab_size: V, the number of rows of the decoder layer.
        rest_N: Mass spread evenly over all tokens that a row does not list, float32; None means none. It lets a target
            that is positive on the whole vocabulary be stored in little space.
    """

    offsets_N1: np.ndarray
    ids_S: np.ndarray
    weights_S: np.ndarray
    vocab_size: int
    rest_N: np.ndarray | None = None

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[np.ndarray, np.ndarray]], vocab_size: int) -> TokenTargets:
        """Builds targets from `(ids, scores)` rows; positive scores are divided by their sum."""
        ids: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        lengths = [0]
        for row_ids, row_scores in rows:
            ids.append(np.asarray(row_ids, dtype=np.int32))
            scores = np.asarray(row_scores, dtype=np.float64)
            weights.append((scores / scores.sum() if len(scores) else scores).astype(np.float32))
            lengths.append(len(ids[-1]))
        return cls(
            offsets_N1=np.cumsum(lengths, dtype=np.int64),
            ids_S=np.concatenate(ids) if ids else np.zeros(0, np.int32),
            weights_S=np.concatenate(weights) if weights else np.zeros(0, np.float32),
            vocab_size=vocab_size,
        )

    def __len__(self) -> int:
        return len(self.offsets_N1) - 1

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Gives token ids and weights of one text, heaviest first."""
        span = slice(self.offsets_N1[index], self.offsets_N1[index + 1])
        order = np.argsort(-self.weights_S[span], kind="stable")
        return self.ids_S[span][order], self.weights_S[span][order]

    def batch(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives rows padded to the longest: `ids_BK` (int64) and `weights_BK` (float32); padding weighs 0."""
        width = max(1, max(int(self.offsets_N1[i + 1] - self.offsets_N1[i]) for i in rows))
        ids_BK = torch.zeros(len(rows), width, dtype=torch.int64)
        weights_BK = torch.zeros(len(rows), width)
        for b, i in enumerate(rows):
            span = slice(self.offsets_N1[i], self.offsets_N1[i + 1])
            size = self.offsets_N1[i + 1] - self.offsets_N1[i]
            ids_BK[b, :size] = torch.from_numpy(self.ids_S[span].astype(np.int64))
            weights_BK[b, :size] = torch.from_numpy(np.array(self.weights_S[span]))
        return ids_BK, weights_BK

    def rest(self, rows: Sequence[int]) -> torch.Tensor | None:
        """Gives `rest_B`: each row's mass outside its listed tokens; None where no target has any."""
        return None if self.rest_N is None else torch.from_numpy(self.rest_N[np.asarray(rows)])

    @property
    def support_N(self) -> np.ndarray:
        """Number of listed tokens of each text."""
        return np.diff(self.offsets_N1)

    @property
    def entropy_N(self) -> np.ndarray:
        """Entropy of each text's target in nats; 0 where it is empty."""
        terms_S = -self.weights_S.astype(np.float64) * np.log(np.maximum(self.weights_S, 1e-30))
        sums_S1 = np.concatenate([[0.0], np.cumsum(terms_S)])
        entropy_N: np.ndarray = sums_S1[self.offsets_N1[1:]] - sums_S1[self.offsets_N1[:-1]]
        if self.rest_N is not None:
            rest_N = self.rest_N.astype(np.float64)
            each_N = rest_N / np.maximum(self.vocab_size - self.support_N, 1)
            entropy_N -= rest_N * np.log(np.maximum(each_N, 1e-30))
        return entropy_N

    @property
    def effective_support_N(self) -> np.ndarray:
        """Exponential of the entropy: the number of equally weighted tokens that a target is worth."""
        return np.where(self.support_N > 0, np.exp(self.entropy_N), 0.0)

    def save(self, path: Path) -> None:
        """Writes a safetensors file, which appears under its name only when it is complete."""
        arrays = {"offsets": self.offsets_N1, "ids": self.ids_S, "weights": self.weights_S}
        if self.rest_N is not None:
            arrays["rest"] = self.rest_N
        with arriving_file(path) as staging:
            save_file(arrays, staging, metadata={"vocab_size": str(self.vocab_size)})

    @classmethod
    def load(cls, path: Path) -> TokenTargets:
        """Reads what :meth:`save` wrote."""
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
            vocab_size = int(file.metadata()["vocab_size"])
        return cls(
            offsets_N1=arrays["offsets"],
            ids_S=arrays["ids"],
            weights_S=arrays["weights"],
            vocab_size=vocab_size,
            rest_N=arrays.get("rest"),
        )

    def select(self, rows: Sequence[int]) -> TokenTargets:
        """Takes the targets of some of the texts."""
        rows_M = np.asarray(rows, dtype=np.int64)
        spans = [np.arange(self.offsets_N1[i], self.offsets_N1[i + 1]) for i in rows_M]
        taken_S = np.concatenate([np.zeros(0, np.int64), *spans])
        return TokenTargets(
            offsets_N1=np.concatenate([[0], np.cumsum(self.support_N[rows_M])]),
            ids_S=self.ids_S[taken_S],
            weights_S=self.weights_S[taken_S],
            vocab_size=self.vocab_size,
            rest_N=None if self.rest_N is None else self.rest_N[rows_M],
        )
