"""The section on which aligned tokens occur in their text."""

from __future__ import annotations

from markupsafe import Markup

from selfembed.explanation.hit_miss import HitMissChange
from selfembed.explanation.report import plots
from selfembed.explanation.report.parts import dim, figure
from selfembed.ground.page import fill, joined, table


def hits_section(hits: HitMissChange) -> Markup:
    how = (
        f"Of every text's top {hits.raw.k} aligned tokens, how many occur in the text. Training on key tokens should "
        "lengthen the lower bar and move the histogram to the right."
    )
    sides = (hits.raw, hits.trained)
    rows = [
        ("hits per text, mean", *(f"{side.mean:.2f}" for side in sides)),
        ("hits per text, commonest", *(side.mode for side in sides)),
        ("hits", *(f"{side.hits:,}" for side in sides)),
        ("misses", *(f"{side.misses:,}" for side in sides)),
    ]
    share = plots.hit_share(hits.raw.share, hits.trained.share, name="hit-share")
    histogram = plots.hit_histogram(hits.raw.histogram, hits.trained.histogram, name="hit-histogram")
    pictures = joined([figure(share, "All texts together"), figure(histogram, "Text by text")])
    return joined([dim(how), fill('<div class="figures">{}</div>', pictures), table(("", "raw", "trained"), rows)])
