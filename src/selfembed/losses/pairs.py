"""InfoNCE over pairs of texts that were cut from unlabelled documents.

Shapes: B batch, D hidden, N texts of the stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from selfembed.losses.contrastive import cosine, info_nce
from selfembed.losses.gradient_cache import Features, GradientCache, embed_by_length, mini_batches

CONTRIEVER = """\
@article{contriever,
    title = {Unsupervised Dense Information Retrieval with Contrastive Learning},
    author = {Gautier Izacard and Mathilde Caron and Lucas Hosseini and Sebastian Riedel and Piotr Bojanowski and
              Armand Joulin and Edouard Grave},
    journal = {Transactions on Machine Learning Research},
    year = {2022},
}"""


class PairsLoss(nn.Module):
    """InfoNCE between queries and passages; the other pairs of the batch are the negatives.

    Pairs of one document are never each other's negatives. Gradients are cached where a batch has more than
    `mini_batch_size` pairs (Gao et al. 2021, arXiv 2101.06983): the RAM needed depends on that number, the loss only
    on the batch.

    Args:
        model: The SentenceTransformer to train.
        document_N: The number of the document of every text.
        temperature: Temperature that the cosines are divided by.
        both_directions: Whether passages search for queries too, at equal weight.
        false_negative_margin: None takes every pair of another document for a negative. A number leaves out those
            whose cosine to the query is above that of the query's own passage minus this.
        centred: Whether embeddings lose the mean of the batch's passages before they are compared, as in calibration.
        mini_batch_size: Pairs per forward pass.

    References:
        Contriever (Izacard et al. 2022, arXiv 2112.09118) for pairs out of unlabelled text.

    Inputs:
        +------------------+--------------------+
        | Texts            | Labels             |
        +==================+====================+
        | (query, passage) | number of the text |
        +------------------+--------------------+
    """

    columns = ("query", "text")

    def __init__(
        self,
        model: SentenceTransformer,
        document_N: Sequence[int],
        *,
        temperature: float = 0.05,
        both_directions: bool = True,
        false_negative_margin: float | None = None,
        centred: bool = False,
        mini_batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.model = model
        self.document_N = torch.as_tensor(list(document_N))
        self.temperature = temperature
        self.both_directions = both_directions
        self.false_negative_margin = false_negative_margin
        self.centred = centred
        self.mini_batch_size = mini_batch_size

    def forward(self, sentence_features: Sequence[Features], labels: Tensor) -> Tensor:
        """Computes the mean cross-entropy of a batch in nats, a float32 scalar."""
        features = dict(zip(self.columns, sentence_features, strict=True))
        same_BB = self.constants(features, labels)
        spans = mini_batches(len(labels), self.mini_batch_size)
        if len(spans) == 1 or not torch.is_grad_enabled():
            return self.of_embeddings([self.embed(features[name]) for name in self.columns], same_BB)
        cache = GradientCache(self.embed, features, spans)
        loss = self.of_embeddings([cache.embeddings[name] for name in self.columns], same_BB)
        loss.backward()
        carrier = loss.detach().requires_grad_()
        carrier.register_hook(cache.backward)
        return carrier

    def constants(self, features: Mapping[str, Features], labels: Tensor) -> Tensor:
        """Gives `same_BB`: whether two pairs are of one document."""
        document_B = self.document_N.to(labels.device)[labels]
        return document_B[:, None] == document_B[None, :]

    def of_embeddings(self, embeddings: list[Tensor], same_BB: Tensor) -> Tensor:
        """Computes the loss from `query_BD` and `passage_BD`."""
        query_BD, passage_BD = (embedding_BD.float() for embedding_BD in embeddings)
        if self.centred:
            mean_D = passage_BD.detach().mean(0)
            query_BD, passage_BD = query_BD - mean_D, passage_BD - mean_D
        own_BB = torch.eye(len(same_BB), dtype=torch.bool, device=same_BB.device)
        excluded_BB = same_BB & ~own_BB
        if self.false_negative_margin is not None:
            with torch.no_grad():
                near_BB = cosine(query_BD, passage_BD)
                above_BB = near_BB > near_BB.diagonal()[:, None] - self.false_negative_margin
            excluded_BB = excluded_BB | (above_BB & ~own_BB)
        loss = info_nce(query_BD, passage_BD, temperature=self.temperature, excluded_BN=excluded_BB)
        if self.both_directions:
            back = info_nce(passage_BD, query_BD, temperature=self.temperature, excluded_BN=excluded_BB.T)
            loss = (loss + back) / 2
        return loss

    def embed(self, features: Features) -> Tensor:
        """Gives embedding_BD."""
        return embed_by_length(self.model, features)

    def get_config_dict(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in (
                "temperature",
                "both_directions",
                "false_negative_margin",
                "centred",
                "mini_batch_size",
            )
        }

    @property
    def citation(self) -> str:
        return CONTRIEVER
