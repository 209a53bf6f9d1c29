"""InfoNCE over pairs of texts that were cut from unlabelled documents.

Shapes: B batch, D hidden, N texts of the stage, H hard negatives of a pair, C = B (1 + H) candidates of a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from selfembed.losses.contrastive import cosine, info_nce
from selfembed.losses.gradient_cache import Features, GradientCache, embed_by_length, mini_batch, mini_batches
from selfembed.model.modes import mode_kept, turn_adapters_off

CONTRIEVER = """\
@article{contriever,
    title = {Unsupervised Dense Information Retrieval with Contrastive Learning},
    author = {Gautier Izacard and Mathilde Caron and Lucas Hosseini and Sebastian Riedel and Piotr Bojanowski and
              Armand Joulin and Edouard Grave},
    journal = {Transactions on Machine Learning Research},
    year = {2022},
}"""

_PAIR = ("query", "text")


class Constants(NamedTuple):
    """What the loss needs of a batch besides embeddings.

    Attributes:
        same_BB: Whether two pairs are of one document.
        near_NN: Cosines of all N = 2 B texts, queries before passages, with the adapter off; None where they are not
            to be kept.
        excluded_BM: Whether a query leaves out a hard negative of the batch, M = B H of them, the first of every pair
            before the second: it is of the query's document, or none was found; None where pairs have none.
    """

    same_BB: Tensor
    near_NN: Tensor | None
    excluded_BM: Tensor | None = None


class PairsLoss(nn.Module):
    """InfoNCE between queries and passages; the other pairs of the batch are the negatives.

    Pairs of one document are never each other's negatives. Hard negatives are further candidates of every query, of
    another document than its own; no passage searches for them, and nothing of them is kept. Gradients are cached
    where a batch has more than `mini_batch_size` pairs (Gao et al. 2021, arXiv 2101.06983): the RAM needed depends on
    that number, the loss only on the batch.

    Args:
        model: The SentenceTransformer to train.
        document_N: The number of the document of every text.
        negative_document_NH: For every text the document numbers of its hard negatives, -1 where fewer were found:
            what stands in their place is left out of the softmax.
        temperature: Temperature that the cosines are divided by.
        both_directions: Whether passages search for queries too, at equal weight.
        false_negative_margin: None takes every pair of another document for a negative. A number leaves out those,
            hard negatives among them, whose cosine to the query is above that of the query's own passage minus this.
        centred: Whether embeddings lose the mean of the batch's passages before they are compared, as in calibration.
        keep: Weight of a second loss, which keeps what the embedder knew before: the mean KL divergence of how near
            each text of the batch is to the others, the adapter off and on, see :func:`kept_similarities`. 0 leaves
            it out, and a forward pass with it.
        mini_batch_size: Pairs per forward pass.

    References:
        Contriever (Izacard et al. 2022, arXiv 2112.09118) for pairs out of unlabelled text; SEED (Fang et al. 2021,
        arXiv 2101.04731) for keeping similarities.

    Inputs:
        +----------------------------------------------------+--------------------+
        | Texts                                              | Labels             |
        +====================================================+====================+
        | (query, passage)                                   | number of the text |
        +----------------------------------------------------+--------------------+
        | (query, first negative, ..., last, passage)        | number of the text |
        +----------------------------------------------------+--------------------+
    """

    def __init__(
        self,
        model: SentenceTransformer,
        document_N: Sequence[int],
        *,
        negative_document_NH: Sequence[Sequence[int]] | None = None,
        temperature: float = 0.05,
        both_directions: bool = True,
        false_negative_margin: float | None = None,
        centred: bool = False,
        keep: float = 0.0,
        mini_batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.model = model
        self.document_N = torch.as_tensor(list(document_N))
        self.negative_document_NH = None if negative_document_NH is None else torch.as_tensor(negative_document_NH)
        negatives = 0 if self.negative_document_NH is None else self.negative_document_NH.shape[1]
        self.columns = ("query", *negative_columns(negatives), "text")
        self.temperature = temperature
        self.both_directions = both_directions
        self.false_negative_margin = false_negative_margin
        self.centred = centred
        self.keep = keep
        self.mini_batch_size = mini_batch_size

    def forward(self, sentence_features: Sequence[Features], labels: Tensor) -> Tensor:
        """Computes the mean cross-entropy of a batch in nats, a float32 scalar."""
        features = dict(zip(self.columns, sentence_features, strict=True))
        constants = self.constants(features, labels)
        spans = mini_batches(len(labels), self.mini_batch_size)
        if len(spans) == 1 or not torch.is_grad_enabled():
            return self.of_embeddings([self.embed(features[name]) for name in self.columns], constants)
        cache = GradientCache(self.embed, features, spans)
        loss = self.of_embeddings([cache.embeddings[name] for name in self.columns], constants)
        loss.backward()
        carrier = loss.detach().requires_grad_()
        carrier.register_hook(cache.backward)
        return carrier

    def constants(self, features: Mapping[str, Features], labels: Tensor) -> Constants:
        """Gives which pairs are of one document and, where they are to be kept, the cosines with the adapter off."""
        document_B = self.document_N.to(labels.device)[labels]
        same_BB = document_B[:, None] == document_B[None, :]
        excluded_BM = None
        if self.negative_document_NH is not None:
            negative_M = self.negative_document_NH.to(labels.device)[labels].T.flatten()
            excluded_BM = (document_B[:, None] == negative_M[None, :]) | (negative_M < 0)
        if not self.keep:
            return Constants(same_BB, None, excluded_BM)
        spans = mini_batches(len(labels), self.mini_batch_size)
        with torch.no_grad(), mode_kept(self.model):
            turn_adapters_off(self.model)
            self.model.eval()
            parts = [self.embed(mini_batch(features[name], span)) for name in _PAIR for span in spans]
            raw_ND = torch.cat(parts).float()
        return Constants(same_BB, cosine(raw_ND, raw_ND), excluded_BM)

    def of_embeddings(self, embeddings: list[Tensor], constants: Constants) -> Tensor:
        """Computes the loss from `query_BD`, an embedding of each hard negative, and `passage_BD`."""
        query_BD, *negatives, passage_BD = (embedding_BD.float() for embedding_BD in embeddings)
        same_BB, near_NN, excluded_BM = constants
        kept = None
        if near_NN is not None:
            text_ND = torch.cat([query_BD, passage_BD])
            kept = kept_similarities(cosine(text_ND, text_ND), near_NN, temperature=self.temperature)
        if self.centred:
            mean_D = passage_BD.detach().mean(0)
            query_BD, passage_BD = query_BD - mean_D, passage_BD - mean_D
            negatives = [negative_BD - mean_D for negative_BD in negatives]
        # without hard negatives nothing is joined: gradients are then added up in another order
        candidate_CD = torch.cat([passage_BD, *negatives]) if negatives else passage_BD
        other_BC = ~torch.eye(len(query_BD), len(candidate_CD), dtype=torch.bool, device=same_BB.device)
        excluded_BC = (same_BB if excluded_BM is None else torch.cat([same_BB, excluded_BM], 1)) & other_BC
        if self.false_negative_margin is not None:
            with torch.no_grad():
                near_BC = cosine(query_BD, candidate_CD)
                above_BC = near_BC > near_BC.diagonal()[:, None] - self.false_negative_margin
            excluded_BC = excluded_BC | (above_BC & other_BC)
        loss = info_nce(query_BD, candidate_CD, temperature=self.temperature, excluded_BN=excluded_BC)
        if self.both_directions:
            excluded_BB = excluded_BC[:, : len(passage_BD)]
            back = info_nce(passage_BD, query_BD, temperature=self.temperature, excluded_BN=excluded_BB.T)
            loss = (loss + back) / 2
        return loss if kept is None else loss + self.keep * kept

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
                "keep",
                "mini_batch_size",
            )
        }

    @property
    def citation(self) -> str:
        return CONTRIEVER


def negative_columns(count: int) -> tuple[str, ...]:
    """Names the columns of the hard negatives."""
    return tuple(f"negative_{number}" for number in range(1, count + 1))


def kept_similarities(near_NN: Tensor, before_NN: Tensor, *, temperature: float) -> Tensor:
    """Computes how far the similarities of a batch have moved, KL(before || now) in nats, mean over its texts.

    Each text has a softmax over its cosines to all other texts, its own pair among them.

    Args:
        near_NN: Cosines of the texts to each other, float32.
        before_NN: The same of the embedder that is to be kept; it gets no gradient.
        temperature: Temperature that the cosines are divided by.

    References:
        SEED (Fang et al. 2021, arXiv 2101.04731), with the batch itself in place of a queue.
    """
    own_NN = torch.eye(len(near_NN), dtype=torch.bool, device=near_NN.device)
    log_q_NN, log_p_NN = (
        (cosine_NN / temperature).masked_fill(own_NN, torch.finfo(torch.float32).min).log_softmax(-1)
        for cosine_NN in (near_NN, before_NN.detach())
    )
    return nn.functional.kl_div(log_q_NN, log_p_NN, log_target=True, reduction="batchmean")
