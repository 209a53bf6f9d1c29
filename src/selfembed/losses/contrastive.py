"""Contrastive learning: what belongs together shall be nearer than the other texts of the batch.

Without labels these are two views of a text, made by dropout; with labels a query and the text that answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, CachedMultipleNegativesRankingLoss
from sentence_transformers.util import batch_to_device, cos_sim
from torch import Tensor, nn

from selfembed.errors import InputError
from selfembed.model.modes import decoder_of


@dataclass(frozen=True, kw_only=True)
class TwoViews:
    """Unsupervised contrastive learning (UCL; SimCSE, Gao et al. 2021).

    Args:
        temperature: of InfoNCE over cosine similarities.
        attention_dropout: of attention probabilities while this is trained; backbones ship with 0. The adapter's
            dropout comes on top.

    References:
        LLM2Comp, arXiv 2511.17129, and its code: 0.05 and 0.2, from the first view to the second.
    """

    temperature: float = 0.05
    attention_dropout: float = 0.2

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature {self.temperature}: expected a number above 0, e.g. 0.05")
        if not 0 <= self.attention_dropout < 1:
            raise InputError(f"attention_dropout {self.attention_dropout}: expected a share from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """Supervised contrastive learning (SCL): a query against all positives and hard negatives of the batch.

    Args:
        temperature: of InfoNCE over cosine similarities.
        batches: ``"mixed"`` over all sets of pairs, or ``"homogeneous"``: each batch from one set.
        false_negative_margin: None takes every other candidate for a negative. A number leaves out those, hard
            negatives among them, whose similarity to the query is above the positive's minus this: 0 all that are
            nearer than the positive, -0.1 those nearer by more than 0.1.
        refresh_every: steps after which hard negatives are mined anew with the embedder as it is then; None never.
        refresh_margin: a mined negative stays below the positive's similarity by at least this share of it.
        eval_steps: steps between evaluations on the development pairs, if there are any.
        patience: evaluations without gain after which training stops.
        metric: of retrieval over the development pairs.

    References:
        LLM2Comp, arXiv 2511.17129, and its code: 0.05, one direction, mixed batches, no masking. The paper names
        dynamic hard negatives as an open point; refreshing is ours.
    """

    temperature: float = 0.05
    batches: Literal["mixed", "homogeneous"] = "mixed"
    false_negative_margin: float | None = None
    refresh_every: int | None = None
    refresh_margin: float = 0.05
    eval_steps: int = 50
    patience: int = 3
    metric: Literal["ndcg@10", "mrr@10"] = "ndcg@10"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature {self.temperature}: expected a number above 0, e.g. 0.05")
        if self.batches not in ("mixed", "homogeneous"):
            raise InputError(f"batches {self.batches!r}: expected 'mixed' or 'homogeneous'")
        if self.metric not in ("ndcg@10", "mrr@10"):
            raise InputError(f"metric {self.metric!r}: expected 'ndcg@10' or 'mrr@10'")
        if self.false_negative_margin is not None and not -2 <= self.false_negative_margin <= 2:
            raise InputError(
                f"false_negative_margin {self.false_negative_margin}: expected a difference of cosines, e.g. 0 or -0.1"
            )
        if not 0 <= self.refresh_margin < 1:
            raise InputError(f"refresh_margin {self.refresh_margin}: expected a share from 0 to below 1")
        for name in ("refresh_every", "eval_steps", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value}: expected at least 1")

    @property
    def pools(self) -> dict[str, Any]:
        """What :func:`selfembed.data.pairs.pools` is to make: negatives to be mined anew have something to replace."""
        return {"homogeneous": self.batches == "homogeneous", "least_negatives": int(self.refresh_every is not None)}


def two_views_loss(
    model: SentenceTransformer, options: TwoViews, *, mini_batch_size: int
) -> CachedMultipleNegativesRankingLoss:
    """InfoNCE between two columns with the same texts, the other texts of the batch being the negatives.

    Gradients are cached (Gao et al. 2021, arXiv 2101.06983): memory depends on ``mini_batch_size``, the loss only on
    the batch.
    """
    return _info_nce(model, options.temperature, mini_batch_size)


def supervised_loss(
    model: SentenceTransformer, options: Supervised, *, mini_batch_size: int
) -> CachedMultipleNegativesRankingLoss | CachedGISTEmbedLoss:
    """InfoNCE from a query to its positive, among all positives and hard negatives of the batch; gradients cached.

    With ``false_negative_margin`` it is GISTEmbed's masking (Solatorio 2024, arXiv 2402.16829), guided by the model
    itself as it is in training, dropout included: one more forward pass.
    """
    if options.false_negative_margin is None:
        return _info_nce(model, options.temperature, mini_batch_size)
    loss = CachedGISTEmbedLoss(
        model,
        guide=model,
        temperature=options.temperature,
        mini_batch_size=mini_batch_size,
        margin_strategy="absolute",
        margin=options.false_negative_margin,
        contrast_anchors=False,
        contrast_positives=False,
    )
    loss.similarity_fct = _Cosine()  # its own computes in the embeddings' dtype
    return loss


def _info_nce(
    model: SentenceTransformer, temperature: float, mini_batch_size: int
) -> CachedMultipleNegativesRankingLoss:
    return CachedMultipleNegativesRankingLoss(
        model, scale=1 / temperature, similarity_fct=cosine, mini_batch_size=mini_batch_size
    )


def cosine(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """cosine_NM in float32, whatever the embeddings come in."""
    return cos_sim(first_ND.float(), second_MD.float())


class _Cosine(nn.Module):
    """:func:`cosine`, as CachedGISTEmbedLoss asks for it."""

    def forward(self, first_N1D: Tensor, second_1MD: Tensor) -> Tensor:
        return cosine(first_N1D.squeeze(1), second_1MD.squeeze(0))


def set_attention_dropout(model: nn.Module, probability: float) -> None:
    """Sets the dropout of attention probabilities, which acts in training mode only.

    Raises:
        InputError: the family has none that we know of, and some is asked for.
    """
    decoder = decoder_of(model)
    found = 0
    for module in decoder.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):  # most families hand it to the kernel
            module.attention_dropout = probability
            found += 1
        elif hasattr(getattr(module, "attn_dropout", None), "p"):  # GPT-2
            module.attn_dropout.p = probability
            found += 1
    if probability and not found:
        raise InputError(
            f"attention_dropout {probability}: {decoder.config.model_type} has no such dropout that we know of; "
            "set it to 0, the adapter's dropout still makes two views"
        )


def require_two_views(model: SentenceTransformer, text: str) -> None:
    """Proves that a text embedded twice in training mode gives two vectors.

    Raises:
        InputError: it gives one: no dropout is on, and nothing can be learnt.
    """
    was_training = model.training
    model.train()
    try:
        with torch.no_grad():
            first_1D, second_1D = (
                model(batch_to_device(model.preprocess([text]), model.device))["sentence_embedding"] for _ in range(2)
            )
    finally:
        model.train(was_training)
    if torch.equal(first_1D, second_1D):
        raise InputError(
            "the two views of a text are equal: no dropout is on; set attention_dropout or lora.dropout above 0"
        )
