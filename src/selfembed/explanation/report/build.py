"""Builds the page as a whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from sentence_transformers import SentenceTransformer

from selfembed.data.corpus import Corpus
from selfembed.explanation.aligned_tokens import load_explained
from selfembed.explanation.hit_miss import HitMissChange
from selfembed.explanation.reading import read_texts, sample_texts
from selfembed.explanation.report.hits import hits_section
from selfembed.explanation.report.losses import losses_section
from selfembed.explanation.report.material import ReportMaterial
from selfembed.explanation.report.memory_tokens import memory_section
from selfembed.explanation.report.parts import dim
from selfembed.explanation.report.recipe import recipe_section
from selfembed.explanation.report.scores import SCORES, no_scores_section, scores_section
from selfembed.explanation.report.space import space_section
from selfembed.explanation.report.targets import targets_section
from selfembed.explanation.report.tokens import tokens_section
from selfembed.explanation.spectrum import SpectrumChange
from selfembed.ground.page import fill, joined, page, table
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import best_dtype
from selfembed.targets.tagger import Tagger


def build_report(
    folder: str | Path,
    corpus: Corpus,
    *,
    texts: int = 200,
    tokens: int | None = None,
    model: str | Path | None = None,
    scores: Sequence[str | Path] = (),
    k: int = 10,
    tagger: Tagger | None = None,
    progress: Progress = silent,
) -> str:
    """Builds a self-contained HTML page on a finished embedder: no script, nothing from a network.

    Args:
        folder: The folder of the embedder.
        corpus: The texts to look at; those that were trained on, or others.
        texts: The largest number of texts, of which a seeded sample is drawn from the corpus.
        tokens: The number of tokens, prompt included, at which the sample stops; None takes all.
        model: The backbone that the embedder was made from; None takes the one named in the record.
        scores: Files with the JSON of `selfembed evaluate`; the first is the baseline of the others. Without any,
            `scores.json` in the folder is taken, if it is there.
        k: The number of aligned tokens of a text.
        tagger: The tagger that the targets were made with; None loads it.
        progress: Is told how far the work is.

    Returns:
        The page.

    Raises:
        InputError: There is no embedder, its backbone is not known, there are fewer than two texts, or a file holds no
            scores.
    """
    folder = Path(folder)
    score_files = [Path(file) for file in scores] or [file for file in (folder / SCORES,) if file.is_file()]
    explained = load_explained(folder, model=model)
    scored = scores_section(score_files, explained.embedder)
    chosen = _fitting(sample_texts(corpus, texts), tokens, explained.embedder)
    for side in (explained.raw, explained.embedder):
        side.to(best_dtype(side.device))
    reading = read_texts(explained, chosen, k=k, progress=progress)
    material = ReportMaterial(corpus=corpus, reading=reading, k=k, tagger=tagger, progress=progress)
    dtype = str(explained.embedder.dtype).removeprefix("torch.")
    found = [
        ("recipe", "Recipe and data", recipe_section(material)),
        ("losses", "Loss", losses_section(material)),
        ("targets", "Targets", targets_section(material)),
        ("tokens", "What the embeddings say", tokens_section(material)),
        ("memory", "Memory tokens", memory_section(material)),
        ("hits", "Hits and misses", hits_section(reading.hits)),
        ("space", "The shape of the space", space_section(reading.space)),
        ("scores", "Scores", scored or no_scores_section(folder)),
    ]
    sections = [section for section in found if section[-1] is not None]
    links = Markup(" · ").join(fill('<a href="#{}">{}</a>', name, title) for name, title, _ in sections)
    head = [
        fill("<h1>{}</h1>", folder.resolve().name),
        fill('<p class="dim">A text embedder made with selfembed: how it was trained, and what that changed.</p>')
        if explained.record
        else fill('<p class="dim">A text embedder, beside the backbone it was made from.</p>'),
        _glance(reading.hits, reading.space),
        dim("Raw is the backbone before any training, read in the same way: same prompt, pooling and attention."),
        fill("<p>Measured on {} texts of {}, chosen by seed 0, in {}.</p>", f"{len(chosen):,}", corpus.name, dtype),
        fill("<nav>{}</nav>", links),
    ]
    parts = [fill('<section id="{}">\n<h2>{}</h2>\n{}\n</section>', *section) for section in sections]
    return page(f"Report on {folder.resolve().name}", joined([*head, *parts]))


def _fitting(texts: list[str], tokens: int | None, embedder: SentenceTransformer) -> list[str]:
    """Takes the first texts, of about that many tokens; at least two."""
    if tokens is None:
        return texts
    limit = embedder.max_seq_length or math.inf
    lengths = [min(len(ids), limit) for ids in embedder.tokenizer(texts)["input_ids"]]
    return texts[: max(2, sum(total <= tokens for total in itertools.accumulate(lengths)))]


def _glance(hits: HitMissChange, space: SpectrumChange) -> Markup:
    shapes = (space.raw, space.trained)
    rows = [
        (
            "tokens read out of an embedding that occur in its text",
            f"{hits.raw.share:.1%}",
            f"{hits.trained.share:.1%}",
        ),
        ("directions in use (effective rank)", *(f"{shape.effective_rank:.1f}" for shape in shapes)),
        ("mean cosine of two texts; 1: all alike", *(f"{shape.anisotropy:.3f}" for shape in shapes)),
    ]
    return table(("", "raw", "trained"), rows)
