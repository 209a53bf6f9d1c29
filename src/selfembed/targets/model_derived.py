"""Model-derived targets: what the frozen backbone predicts of a text, compared with what it predicts of any text.

Text2Token Eqs. 18-19. Q is the raw backbone's distribution at the embedding of a text, Qc the common distribution,
the mean of Q over texts.

Shapes: B batch, V vocabulary, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from selfembed.encoding.encode import encoded_batches
from selfembed.ground.options import Range, check_options
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import LMHead, raw_backbone
from selfembed.model.device import precise_dtype
from selfembed.targets.token_targets import TokenTargets


@dataclass(frozen=True, kw_only=True)
class ModelDerivedOptions:
    """Options of the model-derived target.

    Args:
        filter: How Q is compared with Qc (Table 8): `"div"` Q / (Q + Qc), `"log"` -Q log Qc, `"sub"`
            log Q - log Qc. div and sub rank tokens alike, since both increase with Q / Qc.
        temperature: Temperature of the softmax over the filter's values (Eq. 19). The values of div lie in (0, 1), so
            1e-4 is nearly one-hot where one token stands out, and 1e-2 spreads over many.
        floor: Probability below which Q gives a token no weight; 0 cuts none. A text's likeliest token always stays.
        top_k: Number of tokens that a target keeps; None keeps `max_support`.
        max_support: Number of tokens that a target can have; mass beyond them is dropped and the rest scaled to 1.

    Raises:
        InputError: A value is of another kind, outside its range or not among its choices.

    References:
        Text2Token, arXiv 2510.10224, §3.2.2.
    """

    filter: Literal["div", "log", "sub"] = "div"
    temperature: Annotated[float, Range(above=0, example="1e-4")] = 1e-4
    floor: Annotated[float, Range(least=0, below=1)] = 0.0
    top_k: Annotated[int, Range(least=1)] | None = None
    max_support: Annotated[int, Range(least=1)] = 2048

    def __post_init__(self) -> None:
        check_options(self)

    def scores(self, log_q_BV: torch.Tensor, log_common_V: torch.Tensor) -> torch.Tensor:
        """Computes the filter's values up to a constant per text, float32, [B, V]."""
        log_ratio_BV = log_q_BV.float() - log_common_V.float()
        if self.filter == "div":
            # Q / (Q + Qc) = 1 - sigmoid(log Qc - log Q): exact to the last bit where Q >> Qc, up to the constant 1.
            return -torch.sigmoid(-log_ratio_BV)
        if self.filter == "log":
            return -log_q_BV.float().exp() * log_common_V.float()
        return log_ratio_BV

    def distribution(self, log_q_BV: torch.Tensor, log_common_V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the target of each text (Eq. 19).

        Args:
            log_q_BV: Log-probabilities of the raw backbone.
            log_common_V: Log-probabilities of the common distribution.

        Returns:
            `ids_BK` (int64) and `weights_BK` (float32, rows summing to 1, heaviest first).
        """
        scores_BV = self.scores(log_q_BV, log_common_V) / self.temperature
        if self.floor > 0:
            likeliest_B1 = log_q_BV.argmax(-1, keepdim=True)
            below_BV = (log_q_BV.float().exp() < self.floor).scatter(-1, likeliest_B1, False)
            scores_BV = scores_BV.masked_fill(below_BV, -torch.inf)
        size = min(self.top_k or self.max_support, self.max_support, scores_BV.shape[-1])
        top_BK, ids_BK = scores_BV.topk(size, dim=-1)
        return ids_BK, top_BK.softmax(-1)


class CommonDistribution:
    """Running mean of Q over texts, in probability space and float64, so that rare tokens keep their digits."""

    def __init__(self, sum_V: torch.Tensor | None = None, texts: int = 0) -> None:
        self.sum_V = sum_V
        self.texts = texts

    def add(self, log_q_BV: torch.Tensor) -> None:
        """Adds a batch of texts."""
        batch_V = log_q_BV.to(precise_dtype(log_q_BV.device)).exp().sum(0)
        self.sum_V = batch_V if self.sum_V is None else self.sum_V + batch_V
        self.texts += len(log_q_BV)

    @property
    def log_V(self) -> torch.Tensor:
        """Logarithm of the mean, float32."""
        assert self.sum_V is not None, "texts were counted in"
        return (self.sum_V / self.texts).log().float()


def raw_log_probabilities(
    embedder: SentenceTransformer,
    head: nn.Module,
    texts: Sequence[str],
    *,
    progress: Progress = silent,
    task: str = "raw distributions",
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yields `(rows, log_q_BV)` of the raw backbone, every row once, texts of about one length together.

    Raises:
        InputError: A vector is zero or not finite.
    """
    with raw_backbone(embedder):
        for rows, embedding_BD in encoded_batches(embedder, texts, progress=progress, task=task):
            yield rows, head(torch.from_numpy(embedding_BD).to(embedder.device)).log_softmax(-1)


def common_distribution(
    embedder: SentenceTransformer, head: nn.Module, texts: Sequence[str], progress: Progress = silent
) -> CommonDistribution:
    """Computes Qc over a sample of texts: the mean of the raw backbone's distributions at their embeddings."""
    common = CommonDistribution()
    for _, log_q_BV in raw_log_probabilities(embedder, head, texts, progress=progress, task="common distribution"):
        common.add(log_q_BV)
    return common


def build_targets(
    embedder: SentenceTransformer,
    head: LMHead,
    texts: Sequence[str],
    common: CommonDistribution,
    options: ModelDerivedOptions,
    progress: Progress = silent,
) -> TokenTargets:
    """Builds the model-derived targets of texts; tokens below a millionth of the weight are left out."""
    log_common_V = common.log_V
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0))] * len(texts)
    task = "model-derived targets"
    for rows, log_q_BV in raw_log_probabilities(embedder, head, texts, progress=progress, task=task):
        ids_BK, weights_BK = options.distribution(log_q_BV, log_common_V.to(log_q_BV.device))
        for row, ids_K, weights_K in zip(rows, ids_BK.cpu().numpy(), weights_BK.cpu().numpy(), strict=True):
            kept_K = weights_K > 1e-6
            found[row] = ids_K[kept_K].astype(np.int32), weights_K[kept_K]
    return TokenTargets.from_rows(found, vocab_size=head.weight.shape[0])
