"""Affine maps behind the pooling: what can be improved in a decoder's embeddings without training.

A decoder's embeddings lie in a narrow cone and carry directions that only serve to predict frequent tokens. A map
takes the cone's axis away (the mean), keeps a band of the decoder layer's spectrum, or evens out the variances. Behind
it all vectors are brought to the same length: whitened ones differ in length, and k-means and the like give the long
ones too much weight.

Shapes: N texts, D hidden, K kept dimensions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling
from torch import nn

from selfembed.errors import InputError

LENGTH = 4.0  # of every mapped vector; a classifier with a fixed penalty does worse at 1 (docs/log.md)
_ROWS = 8_192  # of the decoder layer at once


@dataclass(frozen=True)
class AffineMap:
    """A map `e' = e matrix + bias` of embeddings e.

    Attributes:
        name: What the map does, in words.
        matrix_DK: Matrix, float32.
        bias_K: Bias, float32.
    """

    name: str
    matrix_DK: np.ndarray
    bias_K: np.ndarray

    def __call__(self, vectors_ND: np.ndarray) -> np.ndarray:
        """Maps embeddings; returns `mapped_NK` in float32."""
        mapped_NK: np.ndarray = vectors_ND.astype(np.float32) @ self.matrix_DK + self.bias_K
        return mapped_NK

    @property
    def changes_nothing(self) -> bool:
        """Whether the map is the identity."""
        width = self.matrix_DK.shape
        return width[0] == width[1] and not self.bias_K.any() and bool((self.matrix_DK == np.eye(width[0])).all())

    def modules(self) -> list[nn.Module]:
        """Makes sentence-transformers' own modules, float32, their weights fixed: the map, and the length after it.

        The length is :data:`LENGTH`, by a LayerNorm, which takes the mean of a vector's own entries away too: one
        direction of K.
        """
        height, width = self.matrix_DK.shape
        dense = Dense(
            height,
            width,
            bias=True,
            activation_function=nn.Identity(),
            init_weight=torch.from_numpy(np.ascontiguousarray(self.matrix_DK.T)),
            init_bias=torch.from_numpy(self.bias_K.copy()),
        )
        length = LayerNorm(width)
        nn.init.constant_(length.norm.weight, LENGTH / width**0.5)
        return [dense.requires_grad_(False), length.requires_grad_(False)]


def identity(width: int) -> AffineMap:
    """Makes the map that leaves every embedding of that width as it is."""
    return AffineMap("as it is", np.eye(width, dtype=np.float32), np.zeros(width, np.float32))


def spectrum(weight_VD: torch.Tensor) -> np.ndarray:
    """Computes `vectors_DD`, a decoder layer's right singular vectors as columns, by falling singular values.

    They are the eigenvectors of `W^T W`, which is summed up in float64 without a copy of the layer.
    """
    width = weight_VD.shape[1]
    gram_DD = torch.zeros(width, width, dtype=torch.float64)
    for rows_RD in weight_VD.split(_ROWS):
        rows_RD = rows_RD.detach().to("cpu", torch.float64)
        gram_DD += rows_RD.T @ rows_RD
    _, vectors_DD = np.linalg.eigh(gram_DD.numpy())
    return vectors_DD[:, ::-1]


def candidates(vectors_ND: np.ndarray, spectrum_DD: np.ndarray | None = None, parts: int = 1) -> Iterator[AffineMap]:
    """Yields the maps that are compared with each other, the plainest first.

    Args:
        vectors_ND: Embeddings of unlabelled texts, from which means and variances are computed.
        spectrum_DD: Singular vectors, see :func:`spectrum`, of a part's width; None where there is no decoder layer,
            and thus no bands.
        parts: Number of poolings whose vectors stand one after the other in an embedding; each is mapped by itself.

    References:
        The band is EmbedFilter's (arXiv 2606.07502): the middle half of the right singular vectors.
    """
    yield identity(vectors_ND.shape[1])
    for maps in zip(*(_of_part(part_ND, spectrum_DD) for part_ND in np.split(vectors_ND, parts, axis=1)), strict=True):
        yield side_by_side(maps)


def _of_part(vectors_ND: np.ndarray, spectrum_DD: np.ndarray | None) -> Iterator[AffineMap]:
    vectors_ND = vectors_ND.astype(np.float64)
    width = vectors_ND.shape[1]
    mean_D, none_D = vectors_ND.mean(0), np.zeros(width)

    def made(name: str, matrix_DK: np.ndarray, shift_D: np.ndarray) -> AffineMap:
        return AffineMap(name, matrix_DK.astype(np.float32), (-shift_D @ matrix_DK).astype(np.float32))

    yield made("centred", np.eye(width), mean_D)
    if spectrum_DD is not None:
        for name, low, high in (("middle half", 0.25, 0.75), ("without the top quarter", 0.25, 1.0)):
            band_DK = spectrum_DD[:, round(low * width) : round(high * width)]
            yield made(name, band_DK, none_D)
            yield made(f"centred, {name}", band_DK, mean_D)
    if len(vectors_ND) > 1:
        variances_D, axes_DD = np.linalg.eigh(np.cov(vectors_ND.T))
        variances_D = np.maximum(variances_D, 0)
        for name, share in (("whitened, much shrunk", 1.0), ("whitened, shrunk", 0.1)):
            floor = share * variances_D.mean()
            if floor > 0:
                yield made(name, (axes_DD * (variances_D + floor) ** -0.5) @ axes_DD.T, mean_D)


def side_by_side(maps: Sequence[AffineMap]) -> AffineMap:
    """Joins maps of the same kind, each of its part of an embedding."""
    if len(maps) == 1:
        return maps[0]
    heights, widths = zip(*(one.matrix_DK.shape for one in maps), strict=True)
    matrix_DK = np.zeros((sum(heights), sum(widths)), np.float32)
    row = column = 0
    for one in maps:
        height, width = one.matrix_DK.shape
        matrix_DK[row : row + height, column : column + width] = one.matrix_DK
        row, column = row + height, column + width
    return AffineMap(maps[0].name, matrix_DK, np.concatenate([one.bias_K for one in maps]))


def parts_of(embedder: SentenceTransformer) -> int:
    """Counts the poolings whose vectors stand one after the other in an embedder's embeddings."""
    pooling = next((module for module in embedder if isinstance(module, Pooling)), None)
    return 1 if pooling is None or isinstance(pooling.pooling_mode, str) else len(pooling.pooling_mode)


def add_map(embedder: SentenceTransformer, chosen: AffineMap) -> SentenceTransformer:
    """Makes the embedder with a map behind its pooling; its other modules are shared, not copied.

    Raises:
        InputError: The embedder has a map already, or the map is of another width.
    """
    if map_of(embedder) is not None:
        raise InputError("embedder: has an affine map behind its pooling already; expected one without")
    width = embedder.get_embedding_dimension()
    if chosen.matrix_DK.shape[0] != width:
        raise InputError(f"map of width {chosen.matrix_DK.shape[0]}: expected {width}, the embedder's")
    mapped = SentenceTransformer(modules=[*embedder.children(), *chosen.modules()], device=str(embedder.device))
    mapped.max_seq_length = embedder.max_seq_length
    mapped.similarity_fn_name = embedder.similarity_fn_name
    return mapped.eval()


def map_of(embedder: SentenceTransformer) -> AffineMap | None:
    """Reads the map behind an embedder's pooling; None where there is none."""
    last = [*embedder.children()][_before_map(embedder) :]
    if not last:
        return None
    dense = last[0]
    weight_KD, bias = dense.linear.weight.detach().float().cpu().numpy(), dense.linear.bias
    bias_K = np.zeros(len(weight_KD), np.float32) if bias is None else bias.detach().float().cpu().numpy()
    return AffineMap("read from the embedder", weight_KD.T, bias_K)


def without_map(embedder: SentenceTransformer) -> SentenceTransformer:
    """Makes the embedder without its map, whose embeddings the decoder layer still reads; modules are shared."""
    if map_of(embedder) is None:
        return embedder
    kept = [*embedder.children()][: _before_map(embedder)]
    plain = SentenceTransformer(modules=kept, device=str(embedder.device))
    plain.max_seq_length = embedder.max_seq_length
    return plain.eval()


def _before_map(embedder: SentenceTransformer) -> int:
    """Counts the modules before the map, all where there is none; a map may stand without a length behind it."""
    modules = [*embedder.children()]
    end = len(modules) - isinstance(modules[-1], LayerNorm)
    return end - 1 if isinstance(modules[end - 1], Dense) else len(modules)
