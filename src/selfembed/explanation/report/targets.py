"""The section on what each stage trains the embedding of a text to decode to."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from selfembed.errors import InputError
from selfembed.explanation.report.material import ReportMaterial
from selfembed.explanation.report.parts import chip, dim, quote, without
from selfembed.explanation.target_preview import TargetPreview, view_of
from selfembed.ground.page import fill, joined
from selfembed.model.embedder import fitting_length
from selfembed.model.folder import RECORD, RunRecord
from selfembed.objectives import recorded_objective
from selfembed.objectives.objective import Material
from selfembed.targets.tagger import Tagger, load_tagger

_SHOWN_TEXTS = 5
_STATISTICS_TEXTS = 2_000  # counted where the corpus is not the one that was trained on


def targets_section(material: ReportMaterial) -> Markup:
    if material.record is None:
        return without(f"the folder has no {RECORD}: selfembed did not train it, so its targets are not known")
    how = (
        "What each stage trains the embedding of a text to decode to, with the weight of each token: they should be "
        "words that say what the text is about."
    )
    parts = [dim(how)]
    for name, stage in material.record.recipe["stages"].items():
        parts.append(fill("<h3>{}</h3>", name))
        try:
            parts.append(_preview(*_targets_of(name, stage, material, material.record)))
        except (InputError, TypeError) as error:  # TypeError: a record of another version, with other options
            parts.append(without(f"no targets shown: {error}"))
    return joined(parts)


def _targets_of(
    name: str, stage: dict[str, Any], material: ReportMaterial, record: RunRecord
) -> tuple[TargetPreview, str]:
    """Makes the targets of the sample, and says what was counted for them.

    Raises:
        InputError: The objective has no token targets, or its tagger cannot be loaded.
    """
    objective = recorded_objective(stage["objective"])
    same = material.corpus.fingerprint == record.corpus_fingerprint
    most = record.recipe["statistics_texts"]
    targets = objective.targets(
        Material(
            backbone=material.backbone,
            reading=record.config,
            make_embedder=lambda: material.reading.raw,
            make_head=lambda: material.explained.head,
            corpus=material.corpus,
            texts=material.texts,
            tagger=(material.tagger or _tagger(record.tagger)) if objective.needs_tagger else None,
            statistics_texts=most if same else min(most, _STATISTICS_TEXTS),
            max_length=fitting_length(material.backbone, record.config, stage["max_length"]),
            look=True,
            progress=material.progress,
        )
    )
    if targets is None:
        raise InputError(f"objective {stage['objective']['kind']}: has no token targets")
    note = "What the model says of texts in general is taken from the texts of this page."
    if not same:
        note += " Token statistics are of the corpus of this page, not of the one trained on."
    return view_of(name, targets, material.texts, material.explained.tokenizer, _SHOWN_TEXTS), note


def _tagger(name: str) -> Tagger | None:
    """Loads the tagger that a record names."""
    if name == "none":
        return None
    pipeline = name.removeprefix("spacy:").partition("-")[0]
    tagger = load_tagger("hanta" if name.startswith("hanta:") else pipeline)
    if tagger.name != name:
        raise InputError(f"tagger {tagger.name}: expected {name}, which it was trained with; install that one")
    return tagger


def _preview(view: TargetPreview, note: str) -> Markup:
    figures, *_ = view.lines()
    parts = [fill("<p>{}.</p>", figures)]
    if view.empty < 1:
        words = (
            f"The median target spreads as widely as {view.effective_support:.1f} equal tokens, out of "
            f"{view.support:.0f} with weight; {view.punctuation:.1%} of all weight is on punctuation, "
            f"{view.function_words:.1%} on function words. {note}"
        )
        parts.append(fill("<p>{}</p>", words))
    parts += [fill("<p><strong>Warning:</strong> {}.</p>", warning) for warning in view.warnings]
    for text, tokens in view.samples:
        chips = [chip(token, f"{weight:.2f}") for token, weight in tokens]
        parts += [quote(text), fill('<p class="tokens">{}</p>', joined(chips) or "no target")]
    return joined(parts)
