"""Contrastive losses: what belongs together shall be nearer than the other texts of the batch.

Without labels these are two views of a text, made by dropout; with labels a query and the text that answers it.

Shapes: B batch, N candidates, D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, CachedMultipleNegativesRankingLoss
from sentence_transformers.util import batch_to_device, cos_sim
from torch import Tensor, nn

from selfembed.errors import InputError
from selfembed.losses.gist import gist_loss

SIMCSE = """\
@inproceedings{simcse,
    title = {{SimCSE}: Simple Contrastive Learning of Sentence Embeddings},
    author = {Tianyu Gao and Xingcheng Yao and Danqi Chen},
    booktitle = {Proceedings of EMNLP},
    year = {2021},
}"""


class TwoViewsLoss(nn.Module):
    """InfoNCE between two views of a text, made by dropout; the other texts of the batch are the negatives.

    It goes from the first view to the second, over cosine similarities. Gradients are cached (Gao et al. 2021, arXiv
    2101.06983): the RAM needed depends on `mini_batch_size`, the loss only on the batch.

    Args:
        model: The SentenceTransformer to train, with some dropout on.
        temperature: Temperature that the similarities are divided by.
        mini_batch_size: Texts per forward pass.

    References:
        SimCSE (Gao et al. 2021, arXiv 2104.08821), unsupervised.

    Inputs:
        +-------+--------+
        | Texts | Labels |
        +=======+========+
        | text  | unused |
        +-------+--------+
    """

    columns = ("text", "text")

    def __init__(self, model: SentenceTransformer, *, temperature: float = 0.05, mini_batch_size: int) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.cached = _info_nce(model, temperature, mini_batch_size)

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Computes the mean cross-entropy of a batch, in nats, as a float32 scalar."""
        loss: Tensor = self.cached([dict(sentence_features[0]) for _ in self.columns], None)
        return loss

    def constants(self, features: dict[str, dict[str, Tensor]], labels: Tensor) -> None:
        """Gives None: the loss needs nothing besides embeddings."""

    def of_embeddings(self, embeddings: list[Tensor], constants: None = None) -> Tensor:
        """Computes the loss from `first_BD` and `second_BD`."""
        return info_nce(*embeddings, temperature=self.temperature)

    def get_config_dict(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "mini_batch_size": self.cached.mini_batch_size}

    @property
    def citation(self) -> str:
        return SIMCSE


def info_nce(
    anchor_BD: Tensor, candidate_ND: Tensor, *, temperature: float, excluded_BN: Tensor | None = None
) -> Tensor:
    """Computes InfoNCE over cosine similarities: candidate i belongs to anchor i, all others do not.

    Args:
        anchor_BD: Embeddings of the anchors.
        candidate_ND: Embeddings of the candidates, at least one for every anchor.
        temperature: Temperature that the similarities are divided by.
        excluded_BN: True where a candidate is left out of an anchor's sum; never where it belongs to the anchor.

    Returns:
        Mean cross-entropy in nats, a float32 scalar.
    """
    logits_BN = cosine(anchor_BD, candidate_ND) / temperature
    if excluded_BN is not None:
        logits_BN = logits_BN.masked_fill(excluded_BN, -torch.inf)
    return nn.functional.cross_entropy(logits_BN, torch.arange(len(logits_BN), device=logits_BN.device))


def supervised_loss(
    model: SentenceTransformer,
    *,
    temperature: float = 0.05,
    false_negative_margin: float | None = None,
    mini_batch_size: int,
) -> CachedMultipleNegativesRankingLoss | CachedGISTEmbedLoss:
    """Makes InfoNCE from a query to its positive, among all positives and hard negatives of the batch.

    Gradients are cached, see :class:`TwoViewsLoss`.

    Args:
        model: The SentenceTransformer to train.
        temperature: Temperature that the similarities are divided by.
        false_negative_margin: None takes every other text for a negative. A number masks false negatives as GISTEmbed
            does, guided by the model itself as it is in training, dropout included: one more forward pass.
        mini_batch_size: Texts per forward pass.

    References:
        GISTEmbed (Solatorio 2024, arXiv 2402.16829) for the masking.
    """
    if false_negative_margin is None:
        return _info_nce(model, temperature, mini_batch_size)
    return gist_loss(
        model,
        similarity=cosine,
        temperature=temperature,
        margin=false_negative_margin,
        mini_batch_size=mini_batch_size,
    )


def _info_nce(
    model: SentenceTransformer, temperature: float, mini_batch_size: int
) -> CachedMultipleNegativesRankingLoss:
    return CachedMultipleNegativesRankingLoss(
        model, scale=1 / temperature, similarity_fct=cosine, mini_batch_size=mini_batch_size
    )


def cosine(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """Computes `cosine_NM` in float32, whatever the dtype of the embeddings."""
    cosine_NM: Tensor = cos_sim(first_ND.float(), second_MD.float())
    return cosine_NM


def require_two_views(model: SentenceTransformer, text: str) -> None:
    """Proves that a text embedded twice in training mode gives two vectors.

    Raises:
        InputError: The vectors are equal: no dropout is on, and nothing can be learnt.
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
            "dropout: the two views of a text are equal, since none is on; expected some; set `attention_dropout` or "
            "`lora.dropout` above 0"
        )
