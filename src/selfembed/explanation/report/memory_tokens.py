"""The section on memory tokens, of embedders that have several."""

from __future__ import annotations

from markupsafe import Markup

from selfembed.explanation.memory_tokens import COPIES, correlate_memory, memory_words
from selfembed.explanation.report import plots
from selfembed.explanation.report.material import ReportMaterial
from selfembed.explanation.report.parts import chips, dim, figure, quote
from selfembed.ground.page import fill, joined

_SHOWN_TEXTS = 2  # whose memory tokens are shown one by one


def memory_section(material: ReportMaterial) -> Markup | None:
    """Shows how alike the memory tokens of the embedder are, and what each says of a few texts; None without any."""
    explained, texts = material.explained, material.texts[:_SHOWN_TEXTS]
    memory = material.reading.memory
    if memory is None:
        return None
    correlation = correlate_memory(memory.states_NKD)
    how = (
        "The embedding is the mean over the memory tokens, so each should add something. Cells: the cosine of two "
        f"tokens' states, mean over the texts; framed from {COPIES:g} on, where one is a copy of the other."
    )
    drawn = plots.heat_map(correlation.matrix, name="memory", framed=COPIES)
    parts = [dim(how)]
    if correlation.warning:
        parts.append(fill("<p><strong>Warning:</strong> {}.</p>", correlation.warning))
    parts.append(figure(drawn, f"Memory tokens of {len(material.texts):,} texts"))
    parts.append(dim("What each memory token says of a text by itself, below the whole embedding:"))
    found = memory_words(memory.of(range(len(texts))), explained.head, explained.tokenizer, texts, k=material.k)
    for text, words in zip(texts, found, strict=True):
        parts += [quote(text), chips("embedding", words.pooled)]
        parts += [chips(f"memory {number}", tokens) for number, tokens in enumerate(words.memory, 1)]
    return joined(parts)
