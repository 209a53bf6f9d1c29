"""Contrastive learning without labels: two views of a text, made by dropout, shall be nearer than other texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.util import batch_to_device, cos_sim
from torch import Tensor, nn

from selfembed.errors import InputError
from selfembed.mode import decoder_of


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


def two_views_loss(
    model: SentenceTransformer, options: TwoViews, *, mini_batch_size: int
) -> CachedMultipleNegativesRankingLoss:
    """InfoNCE between two columns with the same texts, the other texts of the batch being the negatives.

    Gradients are cached (Gao et al. 2021, arXiv 2101.06983): memory depends on ``mini_batch_size``, the loss only on
    the batch.
    """
    return CachedMultipleNegativesRankingLoss(
        model, scale=1 / options.temperature, similarity_fct=cosine, mini_batch_size=mini_batch_size
    )


def cosine(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """cosine_NM in float32, whatever the embeddings come in."""
    return cos_sim(first_ND.float(), second_MD.float())


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
