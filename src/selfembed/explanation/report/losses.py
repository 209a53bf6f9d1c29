"""The section on what each stage made smaller."""

from __future__ import annotations

import math

from markupsafe import Markup

from selfembed.explanation.report import plots
from selfembed.explanation.report.material import ReportMaterial
from selfembed.explanation.report.parts import dim, figure, without
from selfembed.ground.page import fill, joined
from selfembed.model.folder import RECORD


def losses_section(material: ReportMaterial) -> Markup:
    if material.record is None:
        return without(f"the folder has no {RECORD}: selfembed did not train it, so there is no loss curve")
    figures = []
    for number, stage in enumerate(material.record.stages, 1):
        losses = stage.losses
        caption = f"{stage.name}: {stage.texts:,} texts, {stage.training_seconds:.0f} s"
        if not losses or not all(map(math.isfinite, losses)):
            figures.append(without(f"{stage.name}: its record has no finite losses"))
            continue
        figures.append(figure(plots.loss_curve(losses, name=f"loss-{number}"), caption))
        for place, part in enumerate(stage.parts):
            curve = plots.loss_curve(stage.losses_of(part), name=f"loss-{number}-{place}")
            figures.append(figure(curve, f"{stage.name}, of it {part}"))
    how = (
        "What each stage made smaller, in nats: the thick line should fall, and flatten where nothing more is learnt. "
        "The losses of different stages cannot be compared."
    )
    return joined([dim(how), fill('<div class="figures">{}</div>', joined(figures))])
