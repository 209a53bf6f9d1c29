"""The section on what the embeddings say in words."""

from __future__ import annotations

from markupsafe import Markup

from selfembed.explanation.report.material import ReportMaterial
from selfembed.explanation.report.parts import chips, dim, quote
from selfembed.ground.page import joined

_SHOWN_TEXTS = 5


def tokens_section(material: ReportMaterial) -> Markup:
    how = (
        "The likeliest tokens when the model's own decoder layer reads an embedding, with their probability. "
        "A solid frame: the token occurs in the text (case and leading space aside); dashed: it does not."
    )
    parts = [dim(how)]
    read = material.reading
    shown = list(zip(read.texts, read.raw_tokens, read.trained_tokens, strict=True))[:_SHOWN_TEXTS]
    for text, raw, trained in shown:
        parts += [quote(text), chips("raw", raw), chips("trained", trained)]
    return joined(parts)
