"""One page on one finished embedder: how it was trained, and what that changed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from sentence_transformers import SentenceTransformer

from selfembed.data.corpus import Corpus
from selfembed.encoding.identity import embedder_hash
from selfembed.errors import InputError
from selfembed.evaluation.compare import compare_scores
from selfembed.evaluation.scores import read_scores
from selfembed.explanation import plots
from selfembed.explanation.aligned_tokens import AlignedToken, Explained, load_explained
from selfembed.explanation.hit_miss import HitMissChange
from selfembed.explanation.memory_tokens import COPIES, correlate_memory, memory_words
from selfembed.explanation.reading import Reading, read_texts, sample_texts
from selfembed.explanation.spectrum import SpectrumChange
from selfembed.explanation.target_preview import TargetPreview, view_of
from selfembed.ground.files import writing
from selfembed.ground.page import box, fill, joined, page, shorten, table
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import Backbone, best_dtype, load_backbone
from selfembed.model.embedder import EmbedderConfig
from selfembed.model.folder import RECORD
from selfembed.objectives import recorded_objective
from selfembed.objectives.objective import Material
from selfembed.targets.tagger import Tagger, load_tagger

REPORT = "report.html"
SCORES = "scores.json"
"""Where `selfembed evaluate --json` may leave its scores for the report to find."""

REPORT_TOKENS = 8_000
"""Tokens of a report that costs about half a minute with the embedded backbone on two cores."""

_SHOWN_TEXTS = 5
_MEMORY_TEXTS = 2  # whose memory tokens are shown one by one
_SHOWN_CHARACTERS = 280
_STATISTICS_TEXTS = 2_000  # counted where the corpus is not the one that was trained on

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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the sections draw on.

    Args:
        backbone: that the embedder was made from.
        record: of the run; None where selfembed did not make the folder.
        corpus: where the texts are from.
        reading: of the sample.
        k: aligned tokens of a text.
        tagger: of parts of speech, where it is loaded already.
        progress: told of work that takes time.
    """

    backbone: Backbone
    record: dict[str, Any] | None
    corpus: Corpus
    reading: Reading
    k: int
    tagger: Tagger | None
    progress: Progress

    @property
    def texts(self) -> list[str]:
        return self.reading.texts

    @property
    def explained(self) -> Explained:
        return self.reading.explained


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
    """A self-contained HTML page on a finished embedder: no script, nothing from a network.

    Args:
        folder: of the embedder.
        corpus: texts to look at; those that were trained on, or others.
        texts: of the corpus, a seeded sample of at most that many.
        tokens: stop the sample at about that many tokens, prompt included; None takes all.
        model: the backbone it was made from; None takes the one named in the record.
        scores: files that ``selfembed evaluate --json`` has written; of several, the first is what the others are
            held against. None given: ``scores.json`` in the folder, if there is one.
        k: aligned tokens of a text.
        tagger: what the targets were tagged with; None loads it.
        progress: told how far the work is.

    Raises:
        InputError: no embedder or no record and no model, fewer than two texts, a file that holds no scores.
    """
    folder = Path(folder)
    score_files = [Path(file) for file in scores] or [file for file in (folder / SCORES,) if file.is_file()]
    backbone, explained, record = _load(folder, model)
    scored = _scores(score_files, explained.embedder)
    chosen = _fitting(sample_texts(corpus, texts), tokens, explained.embedder)
    for side in (explained.raw, explained.embedder):
        side.to(best_dtype(side.device))
    reading = read_texts(explained, chosen, k=k, progress=progress)
    seen = Seen(
        backbone=backbone, record=record, corpus=corpus, reading=reading, k=k, tagger=tagger, progress=progress
    )
    dtype = str(explained.embedder.dtype).removeprefix("torch.")
    sections = [
        ("recipe", "Recipe and data", _recipe(seen)),
        ("losses", "Loss", _losses(seen)),
        ("targets", "Targets", _targets(seen)),
        ("tokens", "What the embeddings say", _tokens(seen)),
        *([("memory", "Memory tokens", _memory(seen))] if reading.memory is not None else []),
        ("hits", "Hits and misses", _hits(reading.hits)),
        ("space", "The shape of the space", _space(reading.space)),
        ("scores", "Scores", scored or _no_scores(folder)),
    ]
    links = Markup(" · ").join(fill('<a href="#{}">{}</a>', name, title) for name, title, _ in sections)
    head = [
        fill("<h1>{}</h1>", folder.resolve().name),
        fill('<p class="dim">A text embedder made with selfembed: how it was trained, and what that changed.</p>')
        if record
        else fill('<p class="dim">A text embedder, beside the backbone it was made from.</p>'),
        _glance(reading.hits, reading.space),
        _how("Raw is the backbone before any training, read in the same way: same prompt, pooling and attention."),
        fill("<p>Measured on {} texts of {}, chosen by seed 0, in {}.</p>", f"{len(chosen):,}", corpus.name, dtype),
        fill("<nav>{}</nav>", links),
    ]
    parts = [fill('<section id="{}">\n<h2>{}</h2>\n{}\n</section>', *section) for section in sections]
    return page(f"Report on {folder.resolve().name}", joined([*head, *parts]))


def write_report(file: str | Path, html: str) -> None:
    """Writes a page; the file appears under its name only when complete.

    Raises:
        InputError: it cannot be written.
    """
    file = Path(file)
    partial = file.with_name(f".{file.name}.partial")
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"report {file}: expected the name of a file in a folder that exists")
    try:
        with writing(file):
            partial.write_text(html, encoding="utf-8", errors="replace")
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _load(folder: Path, model: str | Path | None) -> tuple[Backbone, Explained, dict[str, Any] | None]:
    """The backbone, the embedder with the backbone read the same way, and the run's record if there is one."""
    explained = load_explained(folder, model=model)
    file = folder / RECORD
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return load_backbone(model if model is not None else record["model"]), explained, record


def _fitting(texts: list[str], tokens: int | None, embedder: SentenceTransformer) -> list[str]:
    """The first texts, of about that many tokens; at least two."""
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


def _recipe(seen: Seen) -> Markup:
    record = seen.record
    if record is None:
        return _without(f"the folder has no {RECORD}: selfembed did not train it, so its recipe is not known")
    recipe, report = record["recipe"], record["corpus_report"]
    embedder, lora = recipe["embedder"], recipe["lora"]
    versions = record.get("environment", {}).get("versions", {})
    seconds = sum(stage["training_seconds"] + stage["preparation_seconds"] for stage in record["stages"])
    prompt = EmbedderConfig(**embedder).template
    left_out = "; ".join(f"{count:,} x {reason}" for reason, count in report["skipped"].items()) or "nothing"
    facts = [
        ("backbone", f"{record['model']} ({record['model_fingerprint'][:12]})"),
        ("corpus", f"{record['corpus']} ({record['corpus_fingerprint'][:12]})"),
        ("", f"{report['texts']:,} texts, {report['words']:,} words; left out: {left_out}"),
        ("recipe", recipe["name"]),
        ("read as", f"{embedder['pooling']} pooling, {embedder['attention']} attention, prompt {prompt}"),
        ("adapter", f"LoRA r {lora['r']}, alpha {lora['alpha']}, dropout {lora['dropout']}"),
        ("run", f"seed {record['seed']}, {record['dtype']} on {record['device']}, tagger {record['tagger']}"),
        ("took", f"{seconds / 60:.1f} min, {record.get('peak_memory_gib', float('nan')):.1f} GiB at the most"),
        ("versions", ", ".join(f"{package} {version}" for package, version in versions.items())),
    ]
    stages = [
        (
            name,
            stage["objective"]["kind"],
            *(f"{stage[key]:,}" for key in ("steps", "batch_size", "max_length")),
            f"{stage['learning_rate']:g}",
        )
        for name, stage in recipe["stages"].items()
    ]
    return joined(
        [
            _how("What was trained on what; the stages ran from top to bottom."),
            box(fill('<tr class="wide"><th scope="row">{}</th><td>{}</td></tr>', *fact) for fact in facts),
            table(("stage", "objective", "steps", "texts a step", "tokens at most", "learning rate"), stages),
            fill(
                "<details><summary>Every number of the recipe</summary><pre>{}</pre></details>",
                _lines(json.dumps(recipe, indent=2, ensure_ascii=False)),
            ),
        ]
    )


def _losses(seen: Seen) -> Markup:
    if seen.record is None:
        return _without(f"the folder has no {RECORD}: selfembed did not train it, so there is no loss curve")
    figures = []
    for number, stage in enumerate(seen.record["stages"], 1):
        losses = [entry["loss"] for entry in stage["loss_curve"]]
        caption = f"{stage['name']}: {stage['texts']:,} texts, {stage['training_seconds']:.0f} s"
        if not losses or not all(map(math.isfinite, losses)):
            figures.append(_without(f"{stage['name']}: its record has no finite losses"))
            continue
        figures.append(_figure(plots.loss_curve(losses, name=f"loss-{number}"), caption))
        for place, part in enumerate(stage["loss_curve"][0].get("parts", ())):
            losses = [entry["parts"][part] for entry in stage["loss_curve"]]
            curve = plots.loss_curve(losses, name=f"loss-{number}-{place}")
            figures.append(_figure(curve, f"{stage['name']}, of it {part}"))
    how = (
        "What each stage made smaller, in nats: the thick line should fall, and flatten where nothing more is learnt. "
        "The losses of different stages cannot be compared."
    )
    return joined([_how(how), fill('<div class="figures">{}</div>', joined(figures))])


def _targets(seen: Seen) -> Markup:
    if seen.record is None:
        return _without(f"the folder has no {RECORD}: selfembed did not train it, so its targets are not known")
    how = (
        "What each stage trains the embedding of a text to decode to, with the weight of each token: they should be "
        "words that say what the text is about."
    )
    parts = [_how(how)]
    for name, stage in seen.record["recipe"]["stages"].items():
        parts.append(fill("<h3>{}</h3>", name))
        try:
            parts.append(_preview(*_targets_of(name, stage["objective"], seen)))
        except (InputError, TypeError) as error:  # TypeError: a record of another version, with other options
            parts.append(_without(f"no targets shown: {error}"))
    return joined(parts)


def _targets_of(name: str, fields: dict[str, Any], seen: Seen) -> tuple[TargetPreview, str]:
    """The targets of the sample, and what was counted for them.

    Raises:
        InputError: an objective without token targets, or no tagger.
    """
    objective = recorded_objective(fields)
    same = seen.corpus.fingerprint == seen.record["corpus_fingerprint"]
    most = seen.record["recipe"]["statistics_texts"]
    material = Material(
        backbone=seen.backbone,
        reading=EmbedderConfig(**seen.record["recipe"]["embedder"]),
        make_embedder=lambda: seen.reading.raw,
        make_head=lambda: seen.explained.head,
        corpus=seen.corpus,
        texts=seen.texts,
        tagger=(seen.tagger or _tagger(seen.record["tagger"])) if objective.needs_tagger else None,
        statistics_texts=most if same else min(most, _STATISTICS_TEXTS),
        look=True,
        progress=seen.progress,
    )
    targets = objective.targets(material)
    if targets is None:
        raise InputError(f"the objective {fields['kind']} has none")
    note = "What the model says of texts in general is taken from the texts of this page."
    if not same:
        note += " Token statistics are of the corpus of this page, not of the one trained on."
    return view_of(name, targets, seen.texts, seen.explained.tokenizer, _SHOWN_TEXTS), note


def _tagger(name: str) -> Tagger | None:
    """The tagger that a record names."""
    if name == "none":
        return None
    pipeline = name.removeprefix("spacy:").partition("-")[0]
    tagger = load_tagger("hanta" if name.startswith("hanta:") else pipeline)
    if tagger.name != name:
        raise InputError(f"trained with tagger {name}, here is {tagger.name}")
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
        chips = [_chip(token, f"{weight:.2f}") for token, weight in tokens]
        parts += [_quote(text), fill('<p class="tokens">{}</p>', joined(chips) or "no target")]
    return joined(parts)


def _tokens(seen: Seen) -> Markup:
    how = (
        "The likeliest tokens when the model's own decoder layer reads an embedding, with their probability. "
        "A solid frame: the token occurs in the text (case and leading space aside); dashed: it does not."
    )
    parts = [_how(how)]
    read = seen.reading
    shown = list(zip(read.texts, read.raw_tokens, read.trained_tokens, strict=True))[:_SHOWN_TEXTS]
    for text, raw, trained in shown:
        parts += [_quote(text), _chips("raw", raw), _chips("trained", trained)]
    return joined(parts)


def _chips(who: str, tokens: Sequence[AlignedToken]) -> Markup:
    chips = [_chip(token.token, f"{token.probability:.1%}", hit=token.in_text) for token in tokens]
    return fill('<p class="tokens said"><span class="who">{}</span> {}</p>', who, joined(chips))


def _memory(seen: Seen) -> Markup:
    """How alike the memory tokens of the trained embedder are, and what each says of a few texts."""
    explained, texts = seen.explained, seen.texts[:_MEMORY_TEXTS]
    memory = seen.reading.memory
    assert memory is not None, "the section is left out where there is none"
    correlation = correlate_memory(memory.states_NKD)
    how = (
        "The embedding is the mean over the memory tokens, so each should add something. Cells: the cosine of two "
        f"tokens' states, mean over the texts; framed from {COPIES:g} on, where one is a copy of the other."
    )
    drawn = plots.heat_map(correlation.matrix, name="memory", framed=COPIES)
    parts = [_how(how)]
    if correlation.warning:
        parts.append(fill("<p><strong>Warning:</strong> {}.</p>", correlation.warning))
    parts.append(_figure(drawn, f"Memory tokens of {len(seen.texts):,} texts"))
    parts.append(_how("What each memory token says of a text by itself, below the whole embedding:"))
    found = memory_words(memory.of(range(len(texts))), explained.head, explained.tokenizer, texts, k=seen.k)
    for text, words in zip(texts, found, strict=True):
        parts += [_quote(text), _chips("embedding", words.pooled)]
        parts += [_chips(f"memory {number}", tokens) for number, tokens in enumerate(words.memory, 1)]
    return joined(parts)


def _hits(hits: HitMissChange) -> Markup:
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
    pictures = joined([_figure(share, "All texts together"), _figure(histogram, "Text by text")])
    return joined([_how(how), fill('<div class="figures">{}</div>', pictures), table(("", "raw", "trained"), rows)])


def _space(space: SpectrumChange) -> Markup:
    how = (
        "How the embeddings lie in their space. First picture: the flatter the curve, the more directions are used. "
        "Second: a marker says where the raw texts lie on average along one of their main directions, a bar how far "
        "training moved them; where the two cancel, training has emptied a direction that all texts had in common."
    )
    spectra = plots.singular_values(space.raw.singular_values, space.trained.singular_values, name="spectrum")
    moved = plots.variation(space.variation.by_component, space.variation.raw_coefficient, name="variation")
    pictures = joined(
        [
            _figure(spectra, "Singular values of the unit embeddings, their mean taken off"),
            _figure(moved, "Where training moved the embeddings (Text2Token, Fig. 6)"),
        ]
    )
    parts = [_how(how), fill('<div class="figures">{}</div>', pictures), table(("", "raw", "trained"), space.rows())]
    if space.raw.alignment is None:
        parts.append(_without("no alignment: fewer than two texts have eight words to be cut in half"))
    if space.raw.texts <= space.raw.width:
        parts.append(_how(f"{space.raw.texts} texts span at most {space.raw.texts - 1} directions."))
    defined = joined(fill("<p><strong>{}</strong>: {}.</p>", *entry) for entry in _DEFINITIONS)
    parts.append(fill("<details><summary>How these numbers are defined</summary>{}</details>", defined))
    return joined(parts)


def _scores(files: Sequence[Path], embedder: SentenceTransformer) -> Markup | None:
    """Scores and their table; None without files."""
    if not files:
        return None
    found = [read_scores(file) for file in files]
    parts = [_how("Each task's main score in percent, higher is better; the kind of data says whose it is.")]
    if embedder_hash(embedder) not in {scores.embedder_hash for scores in found}:
        parts.append(_without("these scores are not of this embedder: its content differs from what was scored"))
    if len(found) > 1:
        return joined([*parts, compare_scores(found).body()])
    (scores,) = found
    ran = sorted((s for s in scores.scores if s.score is not None), key=lambda s: (s.category, s.name))
    if ran:
        picture = plots.score_bars([(score.name, score.score) for score in ran], name="scores")
        parts.append(_figure(picture, scores.embedder))
    rows = [(s.name, s.category, s.metric, f"{s.score:.2f}", s.data) for s in ran]
    if scores.average is not None:
        rows.append((scores.average.name, "", "per task", f"{scores.average.tasks:.2f}", ""))
        rows.append(("", "", "per category", f"{scores.average.categories:.2f}", ""))
    parts.append(table(("task", "category", "metric", "score", "data"), rows))
    parts += [_without(f"{s.name} not run: {s.reason}") for s in scores.scores if s.reason is not None]
    return joined(parts)


def _no_scores(folder: Path) -> Markup:
    return _without(
        f"no scores: run selfembed evaluate {folder} --self-retrieval CORPUS --json > {folder / SCORES} "
        "(or with --tasks), and write the report again"
    )


def _how(sentence: str) -> Markup:
    return fill('<p class="dim">{}</p>', sentence)


def _without(reason: str) -> Markup:
    """Says in place of a section, or below it, what is missing and why."""
    return fill('<p class="without">{}.</p>', reason[:1].upper() + reason[1:])


def _figure(svg: str, caption: str) -> Markup:
    return fill("<figure>{}<figcaption>{}</figcaption></figure>", Markup(svg), caption)


def _quote(text: str) -> Markup:
    return fill("<blockquote>{}</blockquote>", shorten(text, _SHOWN_CHARACTERS))


def _chip(token: str, value: str, *, hit: bool | None = None) -> Markup:
    """A token with its number, framed by whether it is a hit where that is asked."""
    shown = repr(token)[1:-1]
    if shown.startswith(" "):
        shown = "·" + shown[1:]  # a leading space makes another token
    return fill(
        '<span class="token{}">{} <small>{}</small></span>',
        {None: "", True: " hit", False: " miss"}[hit],
        shown,
        value,
    )


def _lines(text: str) -> Markup:
    """Lines of text, each plain."""
    return Markup("\n").join(fill("{}", line) for line in text.split("\n"))
