"""The section on scores, where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from sentence_transformers import SentenceTransformer

from selfembed.encoding.identity import embedder_hash
from selfembed.explanation.report import plots
from selfembed.explanation.report.parts import dim, figure, without
from selfembed.ground.page import joined, table

SCORES = "scores.json"
"""The file in an embedder's folder where the report looks for the JSON of `selfembed evaluate`."""


def scores_section(files: Sequence[Path], embedder: SentenceTransformer) -> Markup | None:
    """Shows scores and their table; None without files."""
    if not files:
        return None
    # Evaluation is an extra, and most reports have no scores.
    from selfembed.evaluation.compare import compare_scores
    from selfembed.evaluation.scores import read_scores

    found = [read_scores(file) for file in files]
    parts = [dim("Each task's main score in percent, higher is better; the kind of data says whose it is.")]
    if embedder_hash(embedder) not in {scores.embedder_hash for scores in found}:
        parts.append(without("these scores are not of this embedder: its content differs from what was scored"))
    if len(found) > 1:
        return joined([*parts, compare_scores(found).body()])
    (scores,) = found
    ran = sorted((s for s in scores.scores if s.score is not None), key=lambda s: (s.category, s.name))
    bars = [(s.name, s.score) for s in ran if s.score is not None]
    if bars:
        picture = plots.score_bars(bars, name="scores")
        parts.append(figure(picture, scores.embedder))
    rows = [(s.name, s.category, s.metric, f"{s.score:.2f}", s.data) for s in ran]
    if scores.average is not None:
        rows.append((scores.average.name, "", "per task", f"{scores.average.tasks:.2f}", ""))
        rows.append(("", "", "per category", f"{scores.average.categories:.2f}", ""))
    parts.append(table(("task", "category", "metric", "score", "data"), rows))
    parts += [without(f"{s.name} not run: {s.reason}") for s in scores.scores if s.reason is not None]
    return joined(parts)


def no_scores_section(folder: Path) -> Markup:
    return without(
        f"no scores: let selfembed evaluate score {folder}, on tasks or by self-retrieval on a corpus of yours, keep "
        f"its JSON as {folder / SCORES}, and write the report again"
    )
