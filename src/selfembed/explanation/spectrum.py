"""The shape of an embedding space, raw and trained: where training moved it, and how many directions it uses.

Shapes: N texts, D hidden, R components (at most the smaller of N and D), P positive pairs: texts that mean the same.
Embeddings are used as they come where a formula says E; `unit` means scaled to length 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selfembed.errors import InputError
from selfembed.explanation.checks import of_unit_length, require_vectors

_SHOWN_COMPONENTS = 5
# Rows of the N x N matrix of distances that are held at a time.
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How far training moved the embeddings along each principal component of the raw space (Text2Token Fig. 6).

    Attributes:
        by_component: The movement v_i along each component, length R, in the embeddings' own units; the component with
            the largest singular value comes first.
        raw_coefficient: The mean coefficient of the raw embeddings on each component, length R, never negative, which
            fixes the components' signs. Where v_i is near its negative, training has emptied the component.
    """

    by_component: tuple[float, ...]
    raw_coefficient: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The shape of one embedding space.

    Attributes:
        texts: The number of texts, N.
        width: The width of the embeddings, D.
        mean_length: The mean Euclidean length of E.
        singular_values: The singular values of the unit embeddings after their mean is taken off, largest first,
            length min(N, D). The variance along component i is the square over N.
        effective_rank: The :func:`effective_rank` of the singular values; at most N - 1.
        participation_ratio: The :func:`participation_ratio` of the singular values.
        uniformity: The :func:`uniformity` of E.
        anisotropy: The :func:`anisotropy` of E.
        pairs: The number of positive pairs, P.
        alignment: The :func:`alignment` of the positive pairs; None without pairs.
    """

    texts: int
    width: int
    mean_length: float
    singular_values: tuple[float, ...]
    effective_rank: float
    participation_ratio: float
    uniformity: float
    anisotropy: float
    pairs: int = 0
    alignment: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**asdict(self), "singular_values": list(self.singular_values)}


@dataclass(frozen=True, kw_only=True)
class SpectrumChange:
    """The shapes of two spaces of the same texts, and the way from one to the other."""

    raw: Spectrum
    trained: Spectrum
    variation: Variation

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        variation = {name: list(values) for name, values in asdict(self.variation).items()}
        return {"raw": self.raw.to_dict(), "trained": self.trained.to_dict(), "variation": variation}

    def rows(self) -> list[tuple[str, str, str]]:
        """Returns what is measured, with how it is to be read; its value raw; its value trained."""
        rows = [
            (f"effective rank (at most {min(self.raw.texts - 1, self.raw.width)})", "effective_rank", ".1f"),
            ("participation ratio (the same, leaning to the strongest)", "participation_ratio", ".1f"),
            ("anisotropy: mean cosine of two texts", "anisotropy", ".3f"),
            ("uniformity (0: all equal; lower: spread out)", "uniformity", ".3f"),
        ]
        if self.raw.alignment is not None:
            rows.append((f"alignment of two halves ({self.raw.pairs} texts; 0: equal)", "alignment", ".3f"))
        rows.append(("mean length", "mean_length", ".2f"))
        return [
            (name, format(getattr(self.raw, attribute), form), format(getattr(self.trained, attribute), form))
            for name, attribute, form in rows
        ]

    def lines(self) -> list[str]:
        """Returns the lines for a terminal."""
        lines = [f"{self.raw.texts:,} texts, width {self.raw.width}", f"  {'':<56}{'raw':>9}{'trained':>9}"]
        lines += [f"  {name:<56}{raw:>9}{trained:>9}" for name, raw, trained in self.rows()]
        moved, coefficients = self.variation.by_component, self.variation.raw_coefficient
        lines.append(f"moved along the raw principal components (first {min(_SHOWN_COMPONENTS, len(moved))}):")
        for i, (v, coefficient) in enumerate(zip(moved, coefficients, strict=True)):
            if i == _SHOWN_COMPONENTS:
                break
            lines.append(f"  {i + 1:>3}  {v:+9.3f}  from {coefficient:.3f}")
        if self.raw.texts <= self.raw.width:
            lines.append(
                f"note: {self.raw.texts} texts span at most {self.raw.texts - 1} directions; more would tell more"
            )
        return lines


def compare_spectra(
    raw_ND: Any,
    trained_ND: Any,
    *,
    raw_pairs: tuple[Any, Any] | None = None,
    trained_pairs: tuple[Any, Any] | None = None,
) -> SpectrumChange:
    """Measures the raw and the trained embeddings of the same texts.

    Both sides must have been read the same way: prompt, pooling, normalisation.

    Args:
        raw_ND: The embeddings by the raw backbone.
        trained_ND: The embeddings by the trained embedder, row by row of the same texts.
        raw_pairs: The two sides of positive pairs by the raw backbone, for :func:`alignment`.
        trained_pairs: The two sides of the same pairs by the trained embedder.

    Raises:
        InputError: :func:`measure_spectrum` or :func:`variation` refuses something.
    """
    return SpectrumChange(
        variation=variation(raw_ND, trained_ND),
        raw=measure_spectrum(raw_ND, pairs=raw_pairs, name="raw"),
        trained=measure_spectrum(trained_ND, pairs=trained_pairs, name="trained"),
    )


def measure_spectrum(embedding_ND: Any, *, pairs: tuple[Any, Any] | None = None, name: str = "the") -> Spectrum:
    """Measures the shape of one embedding space.

    Args:
        embedding_ND: The embeddings, E.
        pairs: The embeddings of either side of positive pairs, each (P, D), for :func:`alignment`.
        name: The name of the embeddings, for errors.

    Raises:
        InputError: There are fewer than two texts, a row is zero or not finite, or the pairs have different shapes.
    """
    embedding_ND = require_vectors(embedding_ND, name, least=2)
    singular_R = singular_values(embedding_ND)
    return Spectrum(
        texts=embedding_ND.shape[0],
        width=embedding_ND.shape[1],
        mean_length=float(np.linalg.norm(embedding_ND, axis=1).mean()),
        singular_values=tuple(singular_R.tolist()),
        effective_rank=effective_rank(singular_R),
        participation_ratio=participation_ratio(singular_R),
        uniformity=uniformity(embedding_ND),
        anisotropy=anisotropy(embedding_ND),
        pairs=len(pairs[0]) if pairs else 0,
        alignment=alignment(*pairs) if pairs else None,
    )


def variation(raw_ND: Any, trained_ND: Any) -> Variation:
    """Measures where training moved the embeddings.

    The raw embeddings E0 = U S V^T are taken apart *uncentred*; with E1 the trained embeddings of the same texts,

        v_i = mean over the texts of ((E1 - E0) V)_i

    The sign of each column of V is arbitrary in the authors' code; here it is such that the raw embeddings' mean
    coefficient is not negative. Columns that the raw embeddings do not span, where the direction is arbitrary too, are
    left out. The first v is far larger than the rest in the paper (10,000 texts).

    Args:
        raw_ND: The raw embeddings, E0.
        trained_ND: The trained embeddings, E1.

    Raises:
        InputError: There are fewer than two texts, a row is zero or not finite, the shapes differ, or only one side
            has unit length.

    References:
        Text2Token, Figure 6, after Nie et al. 2025 (arXiv 2406.17378) and their `spectral_analyze.py`.
    """
    raw_ND = require_vectors(raw_ND, "raw", least=2)
    trained_ND = require_vectors(trained_ND, "trained", least=2)
    if len(raw_ND) != len(trained_ND):
        raise InputError(
            f"embeddings: {len(raw_ND)} raw and {len(trained_ND)} trained; expected one of each per text; "
            "embed the same texts with both"
        )
    if raw_ND.shape != trained_ND.shape:
        raise InputError(
            f"embeddings: raw of width {raw_ND.shape[1]}, trained of width {trained_ND.shape[1]}; "
            "expected one backbone, raw and trained; embed with that"
        )
    unit = [of_unit_length(side_ND) for side_ND in (raw_ND, trained_ND)]
    if unit[0] != unit[1]:
        names = ("raw", "trained") if unit[0] else ("trained", "raw")
        raise InputError(
            f"embeddings: the {names[0]} ones have length 1, the {names[1]} ones do not; "
            "expected both read the same way; normalise both or neither"
        )
    _, singular_R, components_RD = np.linalg.svd(raw_ND, full_matrices=False)
    components_RD = components_RD[singular_R > singular_R[0] * max(raw_ND.shape) * np.finfo(np.float64).eps]
    coefficient_R = components_RD @ raw_ND.mean(0)
    sign_R = np.where(coefficient_R < 0, -1.0, 1.0)
    moved_R = components_RD @ (trained_ND - raw_ND).mean(0)
    return Variation(
        by_component=tuple((sign_R * moved_R).tolist()), raw_coefficient=tuple((sign_R * coefficient_R).tolist())
    )


def singular_values(embedding_ND: Any) -> np.ndarray:
    """Computes the singular values of the unit embeddings after their mean is taken off, shape (min(N, D),).

    They come largest first, and their squares over N are the eigenvalues of the covariance, whose spectrum LLM2Comp
    plots (arXiv 2511.17129). What float32 cannot tell from zero is zero.

    Raises:
        InputError: There are fewer than two texts, or a row is zero or not finite.
    """
    unit_ND = _unit(require_vectors(embedding_ND, "the", least=2))
    singular_R = np.linalg.svd(unit_ND - unit_ND.mean(0), compute_uv=False)
    # Models compute in float32 at best: equal texts of two batches differ by about this much.
    singular_R[singular_R <= np.finfo(np.float32).eps * np.sqrt(len(unit_ND))] = 0
    return singular_R


def effective_rank(singular_R: Any) -> float:
    """Counts the directions in use: the exponential of the entropy of the singular values' shares of their sum.

    With the shares s = sigma / sum sigma this is exp(-sum s_i ln s_i). R equal singular values give R, a single one
    gives 1; it is 0 where nothing varies.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1.
    """
    singular_R = np.asarray(singular_R, dtype=np.float64)
    if not singular_R.any():
        return 0.0
    share_R = singular_R[singular_R > 0] / singular_R.sum()
    return float(np.exp(-(share_R * np.log(share_R)).sum()))


def participation_ratio(singular_R: Any) -> float:
    """Counts the directions in use: (sum lambda_i)^2 / sum lambda_i^2 of the variances lambda = sigma^2.

    R equal singular values give R, a single one gives 1; it is 0 where nothing varies. It leans to the large ones more
    than :func:`effective_rank` does.

    References:
        Gao et al. 2017, "A theory of multineuronal dimensionality, dynamics and measurement".
    """
    singular_R = np.asarray(singular_R, dtype=np.float64)
    if not singular_R.any():
        return 0.0
    variance_R = np.square(singular_R / singular_R.max())
    return float(variance_R.sum() ** 2 / np.square(variance_R).sum())


def alignment(left_PD: Any, right_PD: Any) -> float:
    """Averages the squared distance of the unit embeddings of positive pairs: 0 (equal) to 4 (opposite).

    Args:
        left_PD: The embedding of one text of each pair.
        right_PD: The embedding of the other text.

    Raises:
        InputError: A row is zero or not finite, or the shapes differ.

    References:
        Wang and Isola 2020 (arXiv 2005.10242), L_align with alpha 2.
    """
    left_PD, right_PD = require_vectors(left_PD, "left"), require_vectors(right_PD, "right")
    if left_PD.shape != right_PD.shape:
        raise InputError(
            f"pairs: of shapes {left_PD.shape} and {right_PD.shape}; expected two of the same shape; pair them up"
        )
    return float(np.square(_unit(left_PD) - _unit(right_PD)).sum(1).mean())


def uniformity(embedding_ND: Any) -> float:
    """Computes the logarithm of the mean of exp(-2 |x - y|^2) over all pairs of different texts, unit embeddings.

    It is 0 where all embeddings are equal, and about -4 where they spread evenly over many dimensions: lower is more
    uniform.

    Raises:
        InputError: There are fewer than two texts, or a row is zero or not finite.

    References:
        Wang and Isola 2020 (arXiv 2005.10242), L_uniform with t 2.
    """
    unit_ND = _unit(require_vectors(embedding_ND, "the", least=2))
    total, texts = 0.0, len(unit_ND)
    for start in range(0, texts, _CHUNK):
        distance_CN = 2 - 2 * unit_ND[start : start + _CHUNK] @ unit_ND.T
        total += np.exp(-2 * distance_CN.clip(min=0)).sum()
    # each text's distance to itself, 0, has been counted with weight exp(0)
    return float(np.log((total - texts) / (texts * (texts - 1))))


def anisotropy(embedding_ND: Any) -> float:
    """Averages the cosine over all pairs of different texts: 0 where no direction is preferred, 1 for a single ray.

    The mean over all pairs is (|sum of the unit embeddings|^2 - N) / (N (N - 1)): as cheap as a sample of them, and
    exact.

    Raises:
        InputError: There are fewer than two texts, or a row is zero or not finite.

    References:
        Ethayarajh 2019 (arXiv 1909.00512), with random pairs.
    """
    unit_ND = _unit(require_vectors(embedding_ND, "the", least=2))
    texts = len(unit_ND)
    return float((np.square(unit_ND.sum(0)).sum() - texts) / (texts * (texts - 1)))


def _unit(embedding_ND: np.ndarray) -> np.ndarray:
    unit_ND: np.ndarray = embedding_ND / np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    return unit_ND
