"""One page on one finished embedder: how it was trained, and what that changed.

Shapes: N texts, K memory tokens, D hidden.
"""

from __future__ import annotations

import itertools
import json
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from sentence_transformers import SentenceTransformer
from torch import nn

from selfembed.backbone import Backbone, best_dtype, load_backbone
from selfembed.corpus import Corpus
from selfembed.embedder import EmbedderConfig
from selfembed.errors import InputError
from selfembed.explain import plots
from selfembed.explain.aligned_tokens import AlignedToken, Explained, aligned_tokens, load_explained
from selfembed.explain.hit_miss import HitMissChange, hit_miss_change
from selfembed.explain.memory_tokens import (
    COPIES,
    MemoryRead,
    correlate_memory,
    memory_tokens_of,
    memory_words,
    read_memory,
)
from selfembed.explain.spectrum import SpectrumChange, alignment, compare_spectra
from selfembed.export import RECORD
from selfembed.page import box, fill, joined, page, table
from selfembed.preview import TargetPreview, view_of
from selfembed.provenance import Progress, silent, writing
from selfembed.targets import model_derived
from selfembed.targets.model_derived import ModelDerived
from selfembed.targets.store import TargetSource, TokenTarget, choose_texts
from selfembed.targets.tagger import Tagger, load_tagger

REPORT = "report.html"
SCORES = "scores.json"
"""Where `selfembed evaluate --json` may leave its scores for the report to find."""

REPORT_TOKENS = 8_000
"""Tokens of a report that costs about half a minute with the embedded backbone on two cores."""

_K = 10  # aligned tokens of a text, as in the paper
_SHOWN_TEXTS = 5
_MEMORY_TEXTS = 2  # whose memory tokens are shown one by one
_SHOWN_CHARACTERS = 280
_HALVED_TEXTS = 50  # for the alignment of two halves
_STATISTICS_TEXTS = 2_000  # counted where the corpus is not the one that was trained on
_CHUNK = 64


class Encoded(nn.Module):
    """An embedder that has read its texts already: they are encoded once for all sections of a report.

    Attributes:
        vectors_ND: their embeddings, float32.
        states_NKD: the states of their memory tokens; None where the embedder has not several.
    """

    def __init__(self, embedder: SentenceTransformer, texts: Sequence[str], progress: Progress, task: str) -> None:
        super().__init__()
        self.row_of = {text: row for row, text in enumerate(texts)}
        vectors, states = [], []
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            if memory_tokens_of(embedder):
                read = read_memory(embedder, chunk)
                vectors.append(read.embedding_ND)
                states.append(read.states_NKD)
            else:
                vectors.append(embedder.encode(chunk, convert_to_tensor=True, show_progress_bar=False).float())
            progress(task, start + len(chunk), len(texts))
        self.vectors_ND = torch.cat(vectors)
        self.states_NKD = torch.cat(states) if states else None

    def encode(self, texts: Sequence[str], *, convert_to_tensor: bool = False, **unused: Any) -> Any:
        """Vectors of texts it has read, as SentenceTransformer gives them."""
        vectors_ND = self.vectors_ND[self._rows(texts)]
        return vectors_ND if convert_to_tensor else vectors_ND.cpu().numpy()

    def memory(self, texts: Sequence[str]) -> MemoryRead:
        """Memory states and vectors of texts it has read."""
        rows = self._rows(texts)
        return MemoryRead(self.states_NKD[rows], self.vectors_ND[rows])

    def get_embedding_dimension(self) -> int:
        return self.vectors_ND.shape[1]

    def _rows(self, texts: Sequence[str]) -> list[int]:
        return [self.row_of[text] for text in texts]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the sections draw on.

    Args:
        backbone: that the embedder was made from.
        record: of the run; None where selfembed did not make the folder.
        corpus: where the texts are from.
        texts: the sample.
        explained: embedder and raw backbone, both as :class:`Encoded`, and the decoder layer.
        halves: rows are texts; (first half, second half), raw and trained; None where too few texts can be halved.
        tagger: of parts of speech, where it is loaded already.
        progress: told of work that takes time.
    """

    backbone: Backbone
    record: dict[str, Any] | None
    corpus: Corpus
    texts: list[str]
    explained: Explained
    halves: dict[str, tuple[Any, Any]] | None
    tagger: Tagger | None
    progress: Progress


def build_report(
    folder: str | Path,
    corpus: Corpus,
    *,
    texts: int = 200,
    tokens: int | None = None,
    model: str | Path | None = None,
    scores: Sequence[str | Path] = (),
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
        tagger: what the targets were tagged with; None loads it.
        progress: told how far the work is.

    Raises:
        InputError: no embedder or no record and no model, fewer than two texts, a file that holds no scores.
    """
    folder = Path(folder)
    if texts < 2:
        raise InputError(f"sample of {texts}: expected at least 2 texts")
    score_files = [Path(file) for file in scores] or [file for file in (folder / SCORES,) if file.is_file()]
    backbone, explained, record = _load(folder, model)
    scored = _scores(score_files, explained.embedder)
    chosen = _sample(corpus, texts, tokens, explained.embedder)
    sides, halves = _read(explained, chosen, progress)
    dtype = str(explained.embedder.dtype).removeprefix("torch.")
    seen = Seen(
        backbone=backbone,
        record=record,
        corpus=corpus,
        texts=chosen,
        explained=replace(explained, **sides),
        halves=halves,
        tagger=tagger,
        progress=progress,
    )
    hits = hit_miss_change(seen.explained, seen.texts, k=min(_K, len(seen.explained.head.weight)))
    space = compare_spectra(*(side.encode(seen.texts) for side in (seen.explained.raw, seen.explained.embedder)))
    sections = [
        ("recipe", "Recipe and data", _recipe(seen)),
        ("losses", "Loss", _losses(seen)),
        ("targets", "Targets", _targets(seen)),
        ("tokens", "What the embeddings say", _tokens(seen)),
        *([("memory", "Memory tokens", _memory(seen))] if seen.explained.embedder.states_NKD is not None else []),
        ("hits", "Hits and misses", _hits(hits)),
        ("space", "The shape of the space", _space(space, seen)),
        ("scores", "Scores", scored or _no_scores(folder)),
    ]
    links = Markup(" · ").join(fill('<a href="#{}">{}</a>', name, title) for name, title, _ in sections)
    head = [
        fill("<h1>{}</h1>", folder.resolve().name),
        fill('<p class="dim">A text embedder made with selfembed: how it was trained, and what that changed.</p>')
        if record
        else fill('<p class="dim">A text embedder, beside the backbone it was made from.</p>'),
        _glance(hits, space),
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


def _sample(corpus: Corpus, texts: int, tokens: int | None, embedder: SentenceTransformer) -> list[str]:
    """A seeded sample without repetitions, of at most that many texts and about that many tokens."""
    chosen = list(dict.fromkeys(choose_texts(corpus.texts(), texts, seed=0)["text"]))
    if tokens is not None:
        limit = embedder.max_seq_length or math.inf
        lengths = [min(len(ids), limit) for ids in embedder.tokenizer(chosen)["input_ids"]]
        fitting = sum(total <= tokens for total in itertools.accumulate(lengths))
        chosen = chosen[: max(2, fitting)]
    if len(chosen) < 2:
        raise InputError(f"corpus {corpus.name}: {len(chosen)} text to look at; expected at least 2 different ones")
    return chosen


def _read(
    explained: Explained, texts: list[str], progress: Progress
) -> tuple[dict[str, Encoded], dict[str, tuple[Any, Any]] | None]:
    """Embedder and raw backbone with the sample read, and the vectors of texts' halves."""
    words = [text.split() for text in texts]
    cut = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in words if len(w) >= 8][:_HALVED_TEXTS]
    needed = list(dict.fromkeys([*texts, *(half for pair in cut for half in pair)]))
    sides, halves = {}, {}
    for name, side, embedder in (("raw", "raw", explained.raw), ("trained", "embedder", explained.embedder)):
        embedder.to(best_dtype(embedder.device))
        sides[side] = Encoded(embedder, needed, progress, f"report: {name} vectors")
        if len(cut) >= 2:
            halves[name] = tuple(sides[side].encode(list(half)) for half in zip(*cut, strict=True))
    return sides, halves or None


def _glance(hits: HitMissChange, space: SpectrumChange) -> Markup:
    rows = [("of the aligned tokens occur in the text", *(f"{_share(side):.1%}" for side in (hits.raw, hits.trained)))]
    rows.append(("effective rank", *(f"{side.effective_rank:.1f}" for side in (space.raw, space.trained))))
    rows.append(("mean cosine of two texts", *(f"{side.anisotropy:.3f}" for side in (space.raw, space.trained))))
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
        if losses and all(map(math.isfinite, losses)):
            figures.append(_figure(plots.loss_curve(losses, name=f"loss-{number}"), caption))
        else:
            figures.append(_without(f"{stage['name']}: its record has no finite losses"))
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
    kinds = {kind.__name__: kind for kind in typing.get_args(TokenTarget)}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    kind = kinds.get(options.pop("kind"))
    if kind is None:
        raise InputError(f"the objective {fields['kind']} has none")
    objective = kind(**options)
    raw, head, tokenizer = seen.explained.raw, seen.explained.head, seen.explained.tokenizer
    if isinstance(objective, ModelDerived):
        common = model_derived.common_distribution(raw, head, seen.texts)
        targets = model_derived.build_targets(raw, head, seen.texts, common, objective)
        note = f"Against the common distribution of the {len(seen.texts):,} texts of this page."
    else:
        same = seen.corpus.fingerprint == seen.record["corpus_fingerprint"]
        most = seen.record["recipe"]["statistics_texts"]
        source = TargetSource(
            backbone=seen.backbone,
            corpus=seen.corpus,
            tagger=seen.tagger or _tagger(seen.record["tagger"]),
            statistics_texts=most if same else min(most, _STATISTICS_TEXTS),
        )
        targets = source.targets(objective, seen.texts, seen.progress)
        note = "" if same else "Token statistics are of the corpus of this page, not of the one trained on."
    return view_of(name, targets, seen.texts, tokenizer, _SHOWN_TEXTS), note


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
            f"In the middle a target is worth {view.effective_support:.1f} equal tokens, out of {view.support:.0f} "
            f"with weight; {view.punctuation:.1%} of all weight is on punctuation, {view.function_words:.1%} on "
            f"function words. {note}"
        )
        parts.append(fill("<p>{}</p>", words))
    parts += [fill("<p><strong>Warning:</strong> {}.</p>", warning) for warning in view.warnings]
    for text, tokens in view.samples:
        chips = [_chip(token, f"{weight:.2f}") for token, weight in tokens]
        parts += [_quote(text), fill('<p class="tokens">{}</p>', joined(chips) or "no target")]
    return joined(parts)


def _tokens(seen: Seen) -> Markup:
    texts, head = seen.texts[:_SHOWN_TEXTS], seen.explained.head
    sides = [
        aligned_tokens(embedder, head, seen.explained.tokenizer, texts, k=min(_K, len(head.weight)))
        for embedder in (seen.explained.raw, seen.explained.embedder)
    ]
    how = (
        "The likeliest tokens when the model's own decoder layer reads an embedding, with their probability. "
        "A solid frame: the token occurs in the text (case and leading space aside); dashed: it does not."
    )
    parts = [_how(how)]
    for text, raw, trained in zip(texts, *sides, strict=True):
        parts += [_quote(text), _chips("raw", raw), _chips("trained", trained)]
    return joined(parts)


def _chips(who: str, tokens: Sequence[AlignedToken]) -> Markup:
    chips = [_chip(token.token, f"{token.probability:.1%}", hit=token.in_text) for token in tokens]
    return fill('<p class="tokens"><span class="who">{}</span> {}</p>', who, joined(chips))


def _memory(seen: Seen) -> Markup:
    """How alike the memory tokens of the trained embedder are, and what each says of a few texts."""
    explained, texts = seen.explained, seen.texts[:_MEMORY_TEXTS]
    correlation = correlate_memory(explained.embedder.memory(seen.texts).states_NKD)
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
    read = explained.embedder.memory(texts)
    k = min(_K, len(explained.head.weight))
    for text, words in zip(texts, memory_words(read, explained.head, explained.tokenizer, texts, k=k), strict=True):
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
    share = plots.hit_share(*map(_share, sides), name="hit-share")
    histogram = plots.hit_histogram(hits.raw.histogram, hits.trained.histogram, name="hit-histogram")
    pictures = joined([_figure(share, "All texts together"), _figure(histogram, "Text by text")])
    return joined([_how(how), fill('<div class="figures">{}</div>', pictures), table(("", "raw", "trained"), rows)])


def _space(space: SpectrumChange, seen: Seen) -> Markup:
    how = (
        "How the embeddings lie in their space. The flatter the curve of singular values, the more directions are "
        "used; bars that undo their marker are directions common to all texts, which training has emptied."
    )
    sides = (space.raw, space.trained)
    rows = [
        (f"effective rank (at most {min(space.raw.texts - 1, space.raw.width)})", "effective_rank", ".1f"),
        ("participation ratio", "participation_ratio", ".1f"),
        ("uniformity (0: all equal; lower: spread out)", "uniformity", ".3f"),
        ("anisotropy (mean cosine of two texts)", "anisotropy", ".3f"),
        ("mean length", "mean_length", ".2f"),
    ]
    rows = [(name, *(format(getattr(side, attribute), form) for side in sides)) for name, attribute, form in rows]
    notes = []
    if seen.halves is None:
        notes.append(_without("no alignment: fewer than two texts have eight words to be cut in half"))
    else:
        number = len(seen.halves["raw"][0])
        values = (f"{alignment(*seen.halves[name]):.3f}" for name in ("raw", "trained"))
        rows.append((f"alignment (two halves of one text, {number} texts; 0: equal)", *values))
    if space.raw.texts <= space.raw.width:
        notes.append(
            fill('<p class="dim">{} texts span at most {} directions.</p>', space.raw.texts, space.raw.texts - 1)
        )
    spectra = plots.singular_values(space.raw.singular_values, space.trained.singular_values, name="spectrum")
    moved = plots.variation(space.variation.by_component, space.variation.raw_coefficient, name="variation")
    pictures = joined(
        [
            _figure(spectra, "Singular values of the unit embeddings, their mean taken off"),
            _figure(moved, "Where training moved the embeddings (Text2Token, Fig. 6)"),
        ]
    )
    return joined(
        [_how(how), fill('<div class="figures">{}</div>', pictures), table(("", "raw", "trained"), rows), *notes]
    )


def _scores(files: Sequence[Path], embedder: SentenceTransformer) -> Markup | None:
    """Scores and their table; None without files."""
    if not files:
        return None
    # mteb takes seconds to import, and most reports have no scores.
    from selfembed.evaluate.compare import compare_scores, read_scores
    from selfembed.evaluate.encoder import embedder_hash

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


def _share(side: Any) -> float:
    return side.hits / (side.hits + side.misses)


def _how(sentence: str) -> Markup:
    return fill('<p class="dim">{}</p>', sentence)


def _without(reason: str) -> Markup:
    """Says in place of a section, or below it, what is missing and why."""
    return fill('<p class="without">{}.</p>', reason[:1].upper() + reason[1:])


def _figure(svg: str, caption: str) -> Markup:
    return fill("<figure>{}<figcaption>{}</figcaption></figure>", Markup(svg), caption)


def _quote(text: str) -> Markup:
    return fill(
        "<blockquote>{}</blockquote>", text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."
    )


def _chip(token: str, value: str, *, hit: bool = False) -> Markup:
    shown = repr(token)[1:-1]
    if shown.startswith(" "):
        shown = "·" + shown[1:]  # a leading space makes another token
    return fill('<span class="token{}">{} <small>{}</small></span>', " hit" if hit else "", shown, value)


def _lines(text: str) -> Markup:
    """Lines of text, each plain."""
    return Markup("\n").join(fill("{}", line) for line in text.split("\n"))
