"""The losses of Text2Token: a text's embedding shall decode to its token target.

Shapes: B batch, D hidden, V vocabulary, K support of a target.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from selfembed.errors import TrainingDiverged
from selfembed.losses.divergence import chunked_sparse_kl, chunks
from selfembed.model.backbone import LMHead, raw_backbone
from selfembed.targets.model_derived import CommonDistribution, ModelDerivedOptions
from selfembed.targets.token_targets import TokenTargets

TEXT2TOKEN = """\
@article{text2token,
    title = {Text2Token: Unsupervised Text Representation Learning with Token Target Prediction},
    journal = {arXiv preprint arXiv:2510.10224},
    year = {2025},
}"""


class TokenTargetLoss(nn.Module):
    """KL divergence from stored token targets to the vocabulary distribution that embeddings decode to.

    It is a mean over the batch; its gradient on the logits is `Q - P`, that of cross-entropy with soft targets.
    All that is computed over the vocabulary is in float32.

    Args:
        model: The SentenceTransformer to train.
        head: The backbone's frozen decoder layer, see :meth:`selfembed.model.backbone.Backbone.head`.
        targets: Token targets, one per training text.

    References:
        Text2Token, arXiv 2510.10224, §3.3, Eqs. 8-11.

    Inputs:
        +-------+----------------------------------------------+
        | Texts | Labels                                       |
        +=======+==============================================+
        | text  | the row of `targets` that is the text's own  |
        +-------+----------------------------------------------+

    Relations:
        With :func:`selfembed.targets.bag_of_tokens.build_bag_of_tokens` it is EBAE (Llama2Vec) as Text2Token runs it.

    Example:
        ::

            backbone = load_backbone("embedded")
            model = build_embedder(backbone, EmbedderConfig())
            model.add_adapter(lora_config(model.transformers_model, Lora()))
            loss = TokenTargetLoss(model, backbone.head(), targets)
            dataset = Dataset.from_dict({"text": texts, "label": list(range(len(texts)))})
            SentenceTransformerTrainer(model=model, train_dataset=dataset, loss=loss).train()
    """

    columns = ("text",)

    def __init__(self, model: SentenceTransformer, head: nn.Module, targets: TokenTargets) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.targets = targets

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Computes the mean KL of a batch in nats, a float32 scalar.

        Raises:
            TrainingDiverged: The loss is not a finite number.
        """
        constants = self.constants({}, labels)
        return self.of_embeddings([self.model(sentence_features[0])["sentence_embedding"]], constants)

    def constants(
        self, features: dict[str, dict[str, Tensor]], labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gives `ids_BK`, `weights_BK` and perhaps `rest_B` of the texts of these labels."""
        rows = labels.tolist()
        ids_BK, weights_BK = (tensor.to(labels.device) for tensor in self.targets.batch(rows))
        rest_B = self.targets.rest(rows)
        return ids_BK, weights_BK, None if rest_B is None else rest_B.to(labels.device)

    def of_embeddings(self, embeddings: list[Tensor], constants: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        """Computes the loss from `embedding_BD` and :meth:`constants`.

        Raises:
            TrainingDiverged: The loss is not a finite number.
        """
        return finite(chunked_sparse_kl(embeddings[0], self.head, *constants).mean())

    def get_config_dict(self) -> dict[str, Any]:
        return {"targets": len(self.targets), "vocabulary": self.targets.vocab_size}

    @property
    def citation(self) -> str:
        return TEXT2TOKEN


class OnlineModelDerivedLoss(nn.Module):
    """KL divergence from model-derived targets that are computed in the step, which costs one more forward pass.

    The common distribution is the running mean over the batches seen so far, the present one included. It is part of
    the training state: :attr:`common` has to be saved and restored with a checkpoint.

    Args:
        model: The SentenceTransformer to train; its adapters off, it is the raw backbone.
        head: The backbone's frozen decoder layer.
        options: Options of the targets.

    References:
        Text2Token, arXiv 2510.10224, §3.2.2, Eqs. 18-19.

    Inputs:
        +-------+--------+
        | Texts | Labels |
        +=======+========+
        | text  | unused |
        +-------+--------+
    """

    columns = ("text",)

    def __init__(self, model: SentenceTransformer, head: LMHead, options: ModelDerivedOptions) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.options = options
        self.common = CommonDistribution()

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Computes the mean KL of a batch in nats, a float32 scalar.

        Raises:
            TrainingDiverged: The loss is not a finite number.
        """
        features = sentence_features[0]
        constants = self.constants({"text": features}, labels)
        return self.of_embeddings([self.model(features)["sentence_embedding"]], constants)

    def constants(self, features: dict[str, dict[str, Tensor]], labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Computes `ids_BK` and `weights_BK` by the raw backbone, and adds the texts to the common distribution."""
        with raw_backbone(self.model):
            return self._targets(self.model(dict(features["text"]))["sentence_embedding"])

    def of_embeddings(self, embeddings: list[Tensor], constants: tuple[Tensor, Tensor]) -> Tensor:
        """Computes the loss from `embedding_BD` and :meth:`constants`.

        Raises:
            TrainingDiverged: The loss is not a finite number.
        """
        return finite(chunked_sparse_kl(embeddings[0], self.head, *constants).mean())

    def state(self) -> dict[str, Tensor]:
        """Gives the sum and the number of texts of the common distribution."""
        assert self.common.sum_V is not None, "a step was taken"
        return {"sum": self.common.sum_V.cpu(), "texts": torch.tensor(self.common.texts)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what :meth:`state` gave."""
        self.common.sum_V = tensors["sum"].to(self.head.weight.device)
        self.common.texts = int(tensors["texts"])

    def _targets(self, raw_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Computes `ids_BK` and `weights_BK`; the logits twice, as all texts count before the first target is made."""
        spans = chunks(raw_BD, self.head)
        for span in spans:
            self.common.add(self.head(raw_BD[span]).log_softmax(-1))
        log_common_V = self.common.log_V
        parts = [self.options.distribution(self.head(raw_BD[span]).log_softmax(-1), log_common_V) for span in spans]
        ids, weights = zip(*parts, strict=True)
        return torch.cat(ids), torch.cat(weights)

    def get_config_dict(self) -> dict[str, Any]:
        return {"filter": self.options.filter, "temperature": self.options.temperature}

    @property
    def citation(self) -> str:
        return TEXT2TOKEN


def finite(loss: Tensor) -> Tensor:
    """Gives back the loss as it is.

    Raises:
        TrainingDiverged: The loss is not a finite number.
    """
    if not torch.isfinite(loss):
        raise TrainingDiverged(
            f"loss {loss.item()}: training has diverged; expected a finite number; "
            "lower `learning_rate`, or train in float32 (`dtype='float32'`)"
        )
    return loss
