"""The section on how the embeddings lie in their space."""

from __future__ import annotations

from markupsafe import Markup

from selfembed.explanation.report import plots
from selfembed.explanation.report.parts import dim, figure, without
from selfembed.explanation.spectrum import SpectrumChange
from selfembed.ground.page import fill, joined, table

_DEFINITIONS = (
    ("Effective rank", "exp of the entropy of the singular values' shares of their sum (Roy and Vetterli 2007)"),
    ("Participation ratio", "(sum v)² / sum v² of the variances v, the squared singular values (Gao et al. 2017)"),
    ("Anisotropy", "mean cosine over all pairs of different texts; 0: no preferred direction, 1: all alike"),
    ("Uniformity", "log of the mean of exp(-2 d²) over all pairs, d their distance at length 1 (Wang and Isola 2020)"),
    ("Alignment", "mean squared distance at length 1 between the two halves of a text (Wang and Isola 2020); 0 to 4"),
    ("Mean length", "of the embeddings as the model gives them"),
    (
        "Moved by",
        "mean over the texts of trained - raw along each principal component of the raw embeddings, not centred; the "
        "marker is the raw embeddings' own mean along it (Nie et al. 2025)",
    ),
)


def space_section(space: SpectrumChange) -> Markup:
    how = (
        "How the embeddings lie in their space. First picture: the flatter the curve, the more directions are used. "
        "Second: a marker says where the raw texts lie on average along one of their main directions, a bar how far "
        "training moved them; where the two cancel, training has emptied a direction that all texts had in common."
    )
    spectra = plots.singular_values(space.raw.singular_values, space.trained.singular_values, name="spectrum")
    moved = plots.variation(space.variation.by_component, space.variation.raw_coefficient, name="variation")
    pictures = joined(
        [
            figure(spectra, "Singular values of the unit embeddings, their mean taken off"),
            figure(moved, "Where training moved the embeddings (Text2Token, Fig. 6)"),
        ]
    )
    parts = [dim(how), fill('<div class="figures">{}</div>', pictures), table(("", "raw", "trained"), space.rows())]
    if space.raw.alignment is None:
        parts.append(without("no alignment: fewer than two texts have eight words to be cut in half"))
    if space.raw.texts <= space.raw.width:
        parts.append(dim(f"{space.raw.texts} texts span at most {space.raw.texts - 1} directions."))
    defined = joined(fill("<p><strong>{}</strong>: {}.</p>", *entry) for entry in _DEFINITIONS)
    parts.append(fill("<details><summary>How these numbers are defined</summary>{}</details>", defined))
    return joined(parts)
