"""Several losses of one batch, which share forward passes where they read the same embeddings.

Shapes: B batch, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import RandContext
from torch import Tensor, nn

from selfembed.losses.gradient_cache import Features, GradientCache, mini_batch, mini_batches

View = tuple[str, int]  # a column, and how often it was embedded before


@runtime_checkable
class LossOfEmbeddings(Protocol):
    """A loss that can be computed from embeddings, whoever makes them.

    Attributes:
        columns: Columns whose embeddings the loss reads; one named twice is embedded twice, with other dropout.
    """

    columns: tuple[str, ...]

    def constants(self, features: dict[str, Features], labels: Tensor) -> Any:
        """Gives what the loss needs besides embeddings, without a gradient.

        Args:
            features: Features of the batch by column.
            labels: Labels of the batch.
        """

    def of_embeddings(self, embeddings: list[Tensor], constants: Any) -> Tensor:
        """Computes the loss of a batch, a float32 scalar.

        Args:
            embeddings: An `embedding_BD` for each of `columns`.
            constants: What :meth:`constants` gave.
        """


class MixtureLoss(nn.Module):
    """A weighted sum of losses, part by part, as the trainer adds them up and logs them.

    Parts that can be computed from embeddings (:class:`LossOfEmbeddings`) share the forward passes: a column is
    embedded as often as the part that reads it most often asks for. The others run their own.

    Args:
        model: The SentenceTransformer to train.
        parts: Losses by name.
        weights: Weights by the same names.
        columns: Columns of the data set in order, without labels.
        text_of_turn: Number of the text for each label; parts in `by_text` get it in place of the label.
        by_text: Names of the parts whose labels are numbers of texts.
        whole: Names of the parts that run their own forward passes and cannot be cut into mini-batches.
        mini_batch_size: Texts per forward pass. Where a batch has more, gradients are cached (Gao et al. 2021, arXiv
            2101.06983), and what runs by itself is run anew in the backward pass; None takes the batch at once.

    Inputs:
        +-------------------------------------+---------------------+
        | Texts                               | Labels              |
        +=====================================+=====================+
        | the columns that the parts read     | number of the turn  |
        +-------------------------------------+---------------------+
    """

    def __init__(
        self,
        model: SentenceTransformer,
        parts: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        *,
        columns: Sequence[str],
        text_of_turn: Sequence[int],
        by_text: Sequence[str] = (),
        whole: Sequence[str] = (),
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.parts = nn.ModuleDict(parts)
        self.weights = dict(weights)
        self.columns = tuple(columns)
        self.text_of_turn = torch.tensor(text_of_turn)
        self.by_text = frozenset(by_text)
        self.mini_batch_size = mini_batch_size
        self.sharing: dict[str, LossOfEmbeddings] = {
            name: part for name, part in parts.items() if isinstance(part, LossOfEmbeddings)
        }
        others = [name for name in parts if name not in self.sharing]
        self.cut = [name for name in others if name not in whole]
        self.uncut = [name for name in others if name in whole]
        read = [part.columns for part in self.sharing.values()]
        self.views: list[View] = [
            (column, k)
            for column in self.columns
            for k in range(max((columns.count(column) for columns in read), default=0))
        ]

    def forward(self, sentence_features: Sequence[Features], labels: Tensor) -> dict[str, Tensor]:
        """Computes the weighted loss of each part, float32 scalars by name; their sum is what is trained."""
        features = dict(zip(self.columns, sentence_features, strict=True))
        spans = mini_batches(len(labels), self.mini_batch_size or len(labels))
        constants = {name: part.constants(features, self.labels(name, labels)) for name, part in self.sharing.items()}
        if len(spans) > 1 and torch.is_grad_enabled():
            values = self.cached(features, labels, constants, spans)
        else:
            values = self.of_views({view: self.embed(features[view[0]]) for view in self.views}, constants)
            values |= {name: self.alone(name, features, labels) for name in self.cut}
        values |= {name: self.alone(name, features, labels) for name in self.uncut}
        return {name: values[name] for name in self.parts}

    def labels(self, name: str, labels: Tensor) -> Tensor:
        """Gives the labels as a part knows them."""
        return self.text_of_turn[labels.cpu()].to(labels.device) if name in self.by_text else labels

    def embed(self, features: Features) -> Tensor:
        """Computes `embedding_BD`."""
        embedding_BD: Tensor = self.model(dict(features))["sentence_embedding"]
        return embedding_BD

    def of_views(self, views: Mapping[View, Tensor], constants: Mapping[str, Any]) -> dict[str, Tensor]:
        """Computes the weighted losses of the parts that read embeddings."""
        values = {}
        for name, part in self.sharing.items():
            columns = part.columns
            read = [views[column, columns[:place].count(column)] for place, column in enumerate(columns)]
            values[name] = self.weights[name] * part.of_embeddings(read, constants[name])
        return values

    def cached(
        self, features: Mapping[str, Features], labels: Tensor, constants: Mapping[str, Any], spans: Sequence[slice]
    ) -> dict[str, Tensor]:
        """Computes the losses of the parts that can be cut, keeping the activations of one mini-batch at a time."""
        states: dict[tuple[str, int], RandContext] = {}
        values: dict[str, Tensor] = {}
        cache = GradientCache(self.embed, {view: features[view[0]] for view in self.views}, spans)
        with torch.no_grad():
            for name in self.cut:
                parts = []
                for span in spans:
                    states[name, span.start] = RandContext(*features[self.columns[0]].values())
                    parts.append(self.alone(name, features, labels, span))
                values[name] = torch.stack(parts).sum()
        read = self.of_views(cache.embeddings, constants)
        if read:
            torch.stack(list(read.values())).sum().backward()
            values |= {name: value.detach() for name, value in read.items()}
        if values:
            # The gradient of the sum goes by way of one of its terms; the others are numbers.
            carrier = next(iter(values.values())).requires_grad_()
            carrier.register_hook(partial(self.backward_again, features, labels, spans, states, cache))
        return values

    def backward_again(
        self,
        features: Mapping[str, Features],
        labels: Tensor,
        spans: Sequence[slice],
        states: Mapping[tuple[str, int], RandContext],
        cache: GradientCache[View],
        upstream: Tensor,
    ) -> None:
        """Runs every mini-batch once more, with the same dropout, and takes its gradient back into the model."""
        cache.backward(upstream)
        with torch.enable_grad():
            for name in self.cut:
                for span in spans:
                    with states[name, span.start]:
                        value = self.alone(name, features, labels, span)
                    value.backward(upstream)

    def alone(self, name: str, features: Mapping[str, Features], labels: Tensor, span: slice | None = None) -> Tensor:
        """Computes the weighted loss of a part that runs its own forward passes, or the share of some texts in it."""
        part, numbers = self.parts[name], self.labels(name, labels)
        read = [features[column] for column in getattr(part, "columns", self.columns)]
        if span is None:
            whole: Tensor = self.weights[name] * part([dict(column) for column in read], numbers)
            return whole
        share = (span.stop - span.start) / len(labels)
        cut: Tensor = self.weights[name] * share * part([mini_batch(column, span) for column in read], numbers[span])
        return cut

    def state(self) -> dict[str, Tensor]:
        """Gives what the parts keep beside the model, by part."""
        tensors: dict[str, Tensor] = {}
        part: Any
        for name, part in self.parts.items():
            if hasattr(part, "state"):
                tensors |= {f"{name}.{key}": tensor for key, tensor in part.state().items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`state` gave."""
        part: Any
        for name, part in self.parts.items():
            if hasattr(part, "restore"):
                start = f"{name}."
                part.restore({key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)})

    def get_config_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}
