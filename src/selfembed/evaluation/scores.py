"""Runs mteb's tasks on an embedder and records the scores with all that they depend on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks import AbsTask
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from selfembed.errors import InputError
from selfembed.evaluation.encoder import CachedEncoder
from selfembed.evaluation.items import Items, task_items
from selfembed.evaluation.tasks import ChosenTask, choose_tasks
from selfembed.ground.environment import environment
from selfembed.ground.files import writing
from selfembed.ground.hashing import content_hash
from selfembed.ground.progress import Progress, silent
from selfembed.model.attention import probe_attention
from selfembed.model.embedder import load_embedder
from selfembed.model.folder import RunRecord

_PACKAGES = ("mteb", "scikit-learn", "scipy")  # that scores depend on, beyond those of every record
# of a training run's record, what makes two runs differ in nothing but the seed
_PLAN = ("model_fingerprint", "corpus_fingerprint", "recipe", "dtype", "device", "tagger")


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task's score, or why there is none.

    Attributes:
        name: of the task.
        category: mteb's task type.
        metric: the task's main score.
        score: in percent, mean over splits and languages; None if the task was not run.
        reason: why there is none.
        data: ``hub``, ``exact``, ``near``, ``not MTEB's``, ``unchecked``, ``own data`` or ``none``.
        note: how local data differs from mteb's.
        in_average: whether it counts in the average: all that ran, but of a benchmark only on mteb's data.
        revision: of mteb's data set on the hub, or the content hash of own data.
        splits: evaluated on.
        languages: mteb's subsets evaluated on.
        prompts: put before the texts by mteb's rules from the embedder's prompts; an embedder's own prompt, which is
            in its tokenizer, is in the settings of `Scores`.
        seed: of the task's draws.
        seconds: wall time of the task, loading from the hub included.
        texts: that the task asked for, with repetitions.
        texts_encoded: that were encoded; the others were known.
        texts_per_second: of those encoded; None if all were known.
        texts_hash: content hash of the texts in any order: the same for the same data.
        items: per-item results, of each split and language; for intervals (`compare`).
        no_items: why there are none.
    """

    name: str
    category: str
    metric: str
    score: float | None
    reason: str | None = None
    data: str = "hub"
    note: str = ""
    in_average: bool = True
    revision: str | None = None
    splits: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    seed: int | None = None
    seconds: float | None = None
    texts: int = 0
    texts_encoded: int = 0
    texts_per_second: float | None = None
    texts_hash: str | None = None
    items: tuple[Items, ...] = field(default=(), repr=False, compare=False)
    no_items: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        plain = dataclasses.asdict(dataclasses.replace(self, items=()))
        return plain | {"items": [items.to_dict() for items in self.items]}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TaskScore:
        """Back from `to_dict`.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is not what `to_dict` gives.
        """
        plain = dict(record)
        plain["items"] = tuple(Items.from_dict(items) for items in plain.get("items", ()))
        for name in ("splits", "languages", "prompts"):
            plain[name] = tuple(map(str, plain.get(name, ())))
        for name in ("name", "category", "metric"):
            plain[name] = str(plain[name])
        score = plain["score"]
        if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
            raise ValueError(f"the score of {plain['name']} is no number")
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class Average:
    """Both averages over tasks, in percent.

    Attributes:
        name: what it is an average of; a benchmark's bare name only where all its tasks ran on mteb's data.
        tasks: mean over tasks.
        categories: mean over categories of the mean over a category's tasks (macro).
        by_category: category -> mean over its tasks.
    """

    name: str
    tasks: float
    categories: float
    by_category: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an evaluation found.

    Attributes:
        embedder: its name.
        embedder_hash: 64 hex digits of its content.
        benchmark: if one was asked for.
        scores: one entry a task, those not run included.
        settings: prompt, pooling, attention, max_length, batch_size, dtype, ..., and the environment.
    """

    embedder: str
    embedder_hash: str
    benchmark: str | None
    scores: list[TaskScore]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def average(self) -> Average | None:
        """Both averages over what ran; None if nothing counts."""
        counted = {score.name: score for score in self.scores if score.in_average and score.score is not None}
        if not counted:
            return None
        groups: dict[str, list[float]] = {}
        for score in counted.values():
            groups.setdefault(score.category, []).append(score.score)
        means = {category: _mean(values) for category, values in sorted(groups.items())}
        asked = [score for score in self.scores if score.in_average or score.score is None]
        name = self._average_name(list(counted.values()), asked)
        per_task = _mean([score.score for score in counted.values()])
        return Average(name=name, tasks=per_task, categories=_mean(list(means.values())), by_category=means)

    def _average_name(self, counted: list[TaskScore], asked: list[TaskScore]) -> str:
        if self.benchmark is None:
            if len(counted) == len(asked):
                return f"average over the {_tasks(len(counted))}"
            return f"average over the {len(counted)} of {_tasks(len(asked))} that ran"
        total = self.settings["benchmark_tasks"]
        if len(counted) < total:
            return f"average over the {len(counted)} of {_tasks(total)} of {self.benchmark} that ran"
        near = [score.name for score in counted if score.data == "near"]
        return self.benchmark + (f" (data near MTEB's: {', '.join(near)})" if near else "")

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {
            "embedder": self.embedder,
            "embedder_hash": self.embedder_hash,
            "benchmark": self.benchmark,
            "average": dataclasses.asdict(self.average) if self.average else None,
            "scores": [score.to_dict() for score in self.scores],
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Scores:
        """Back from `to_dict`.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is not what `to_dict` gives.
        """
        benchmark, settings = record["benchmark"], dict(record["settings"])
        if benchmark is not None:
            settings["benchmark_tasks"] = int(settings["benchmark_tasks"])
        if settings.get("run") is not None:
            settings["run"] = {name: settings["run"][name] for name in ("recipe", "seed", "plan")}
        settings["environment"] = dict(settings.get("environment") or {})
        return cls(
            embedder=str(record["embedder"]),
            embedder_hash=str(record["embedder_hash"]),
            benchmark=None if benchmark is None else str(benchmark),
            scores=[TaskScore.from_dict(score) for score in record["scores"]],
            settings=settings,
        )

    def lines(self) -> list[str]:
        """A table for the screen: tasks by category, then what was not run, then the averages."""
        ran = sorted((s for s in self.scores if s.score is not None), key=lambda s: (s.category, s.name))
        width = max([len(score.name) for score in ran] + [4])
        lines = [f"{'task':<{width}}  {'category':<18}  {'metric':<16}  {'score':>6}  data"]
        for score in ran:
            data = score.data + ("" if score.in_average else " (not in the average)")
            cells = f"{score.name:<{width}}  {score.category:<18}  {score.metric:<16}  {score.score:6.2f}"
            lines.append(f"{cells}  {data}")
        lines += [f"data of {score.name}, {score.data}: {score.note}" for score in ran if score.note]
        reasons: dict[str, list[str]] = {}
        for score in self.scores:
            if score.reason is not None:
                state = "not run" if score.data == "none" else "no score"
                reasons.setdefault(f"{state}, {score.reason}", []).append(score.name)
        lines += [f"{reason}: {', '.join(names)}" for reason, names in reasons.items()]
        if self.average is not None:
            lines.append(self.average.name)
            lines.append(f"  {'per task':<20}  {self.average.tasks:6.2f}")
            lines.append(f"  {'per category':<20}  {self.average.categories:6.2f}")
            lines += [f"    {category:<18}  {mean:6.2f}" for category, mean in self.average.by_category.items()]
        return lines


def evaluate(
    embedder: str | Path | SentenceTransformer,
    *,
    benchmark: str | None = None,
    tasks: Sequence[str] | None = None,
    data: str | Path | None = None,
    own: Sequence[AbsTask] = (),
    batch_size: int = 32,
    cache: bool = True,
    name: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Scores:
    """Scores of an embedder on mteb's own tasks and on own data.

    Args:
        embedder: a folder (or hub id) that sentence-transformers loads, or a SentenceTransformer.
        benchmark: one of mteb's, such as "MTEB(eng, v2)".
        tasks: names of tasks; with a benchmark, some of its tasks.
        data: folder with a sub-folder a task; None takes the data from the hub. See `tasks.choose_tasks`.
        own: tasks over own data, as the functions of `own_data` make them.
        batch_size: texts in one forward pass.
        cache: keep vectors under ``SELFEMBED_CACHE`` and take from there what is known.
        name: what the embedder is called; None takes the folder's name.
        device: as SentenceTransformer takes it; None lets it choose.
        progress: told how far the encoding is.

    Raises:
        InputError: an unknown task or benchmark, nothing to run, unusable data, no embedder at that place, an
            embedder whose vectors are not finite or zero, or a cache that cannot be written.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size}: expected at least 1")
    chosen = choose_tasks(benchmark=benchmark, tasks=tasks, data=data, own=own)
    model = embedder if isinstance(embedder, SentenceTransformer) else load_embedder(embedder, device=device)
    model.eval()
    named = name or _name(embedder)
    encoder = CachedEncoder(model, name=named, cache=cache, progress=progress)
    settings = embedder_settings(model) | {"batch_size": batch_size, "cache": cache}
    if (run := training_run(embedder)) is not None:
        settings["run"] = run
    if benchmark is not None:
        settings["benchmark_tasks"] = len(mteb.get_benchmark(benchmark).tasks)
    scores = [run_task(encoder, task, batch_size=batch_size, benchmark=benchmark) for task in chosen]
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    surroundings = environment()
    surroundings["versions"] |= versions
    return Scores(
        embedder=named,
        embedder_hash=encoder.hash,
        benchmark=benchmark,
        scores=scores,
        settings=settings | {"environment": surroundings},
    )


def run_task(
    encoder: CachedEncoder, chosen: ChosenTask, *, batch_size: int = 32, benchmark: str | None = None
) -> TaskScore:
    """One task's score; a task without data comes back with the reason.

    Raises:
        InputError: the embedder gives no usable vectors, or the cache cannot be written.
    """
    task = chosen.task
    about = {
        "name": chosen.name,
        "category": task.metadata.type,
        "metric": task.metadata.main_score,
        "data": chosen.data,
        "note": chosen.note,
        "in_average": benchmark is None or (chosen.in_benchmark and chosen.comparable),
    }
    if chosen.reason is not None:
        return TaskScore(score=None, reason=chosen.reason, **about)
    encoder.reset()
    started = time.monotonic()
    with _quiet():
        if not task.data_loaded and not task.is_aggregate:
            try:
                task.load_data()
            except Exception as error:  # the hub's errors have no common class; each becomes a line of the table
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                return TaskScore(
                    score=None, reason=f"its data could not be loaded ({reason})", **about | {"data": "none"}
                )
        with tempfile.TemporaryDirectory(prefix="selfembed-") as folder, writing(Path(folder)):
            named_like_file = Path(task.prediction_file_name).name == task.prediction_file_name
            # No cache of mteb's: it files results under a task's name, whatever data they were computed on.
            result = mteb.evaluate(
                encoder,
                task,
                cache=None,
                co2_tracker=False,
                show_progress_bar=False,
                encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
                prediction_folder=Path(folder) if named_like_file else None,
            ).task_results[0]
            items = task_items(task, result.scores, Path(folder))
        if chosen.data == "hub" and task.data_loaded:
            task.unload_data()
    found = 100 * float(result.get_score())
    if not math.isfinite(found):
        reason = f"its {about['metric']} is no number: the embedder finds all of its texts alike, or they are the same"
        return TaskScore(score=None, reason=reason, **about)
    return TaskScore(
        score=round(found, 4),
        revision=task.metadata.revision,
        splits=tuple(result.scores),
        languages=tuple(dict.fromkeys(row["hf_subset"] for rows in result.scores.values() for row in rows)),
        prompts=tuple(sorted(encoder.prompts - {""})),
        seed=task.seed,
        seconds=round(time.monotonic() - started, 2),
        texts=encoder.asked,
        texts_encoded=encoder.encoded,
        texts_per_second=round(encoder.encoded / max(encoder.seconds, 1e-9), 1) if encoder.encoded else None,
        texts_hash=encoder.texts_hash,
        items=() if isinstance(items, str) else items,
        no_items=items if isinstance(items, str) else None,
        **about,
    )


def training_run(embedder: str | Path | SentenceTransformer) -> dict[str, Any] | None:
    """Which training run made a folder: the recipe, its seed, and the content hash of its plan apart from the seed.

    None for what `selfembed.train` has not made.

    Raises:
        InputError: the record in the folder is damaged.
    """
    record = None if isinstance(embedder, SentenceTransformer) else RunRecord.of_folder(embedder)
    if record is None:
        return None
    plan = {name: getattr(record, name) for name in _PLAN}
    return {"recipe": record.recipe["name"], "seed": record.seed, "plan": content_hash(plan)}


def embedder_settings(embedder: SentenceTransformer) -> dict[str, Any]:
    """What an embedder does to a text before there is a vector.

    ``input`` shows the tokenizer's own additions (prompt, special tokens) around ``{text}``.
    """
    length = embedder.max_seq_length  # infinite for static embeddings
    pooling = next((module for module in embedder if isinstance(module, Pooling)), None)
    config = getattr(embedder.transformers_model, "config", None)
    return {
        "input": _input(embedder.tokenizer),
        "prompts": {key: value for key, value in (embedder.prompts or {}).items() if value},
        "pooling": pooling.pooling_mode if pooling else None,
        "attention": _attention(embedder),
        "attention_implementation": getattr(config, "_attn_implementation", None),
        "max_length": length if length is not None and math.isfinite(length) else None,
        "normalized": any(type(module).__name__ == "Normalize" for module in embedder),
        "similarity": str(embedder.similarity_fn_name) if embedder.similarity_fn_name else "cosine",
        "dimensions": embedder.get_embedding_dimension(),
        "dtype": str(embedder.dtype).removeprefix("torch."),
        "device": str(embedder.device),
    }


def _attention(embedder: SentenceTransformer) -> str | None:
    """From the configuration; where it says nothing, from the leak probe."""
    config = getattr(embedder.transformers_model, "config", None)
    stated = getattr(config, "is_causal", None)
    if stated is not None:
        return "causal" if stated else "bidirectional"
    try:
        return probe_attention(embedder.transformers_model).verdict
    except Exception:  # a kind of model that the probe was not made for, such as static embeddings
        return None


def _input(tokenizer: Any) -> str | None:
    marker = "text"
    try:
        whole = tokenizer.decode(tokenizer(marker)["input_ids"])
    except Exception:  # not every tokenizer has transformers' interface
        return None
    before, found, after = whole.rpartition(marker)
    return f"{before}{{text}}{after}" if found else whole


def _name(embedder: str | Path | SentenceTransformer) -> str:
    if isinstance(embedder, SentenceTransformer):
        return embedder.model_card_data.model_name or embedder.model_card_data.base_model or "embedder"
    return Path(embedder).resolve().name if Path(embedder).is_dir() else str(embedder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without advice to use other versions of a task (the user chose), and on metrics that are not the main score."""
    log = logging.getLogger("mteb")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The task '.*' is superseded")
            warnings.filterwarnings("ignore", message="An input array is constant")  # then the score says so
            warnings.filterwarnings("ignore", message=".* is ill-defined and being set to 0.0", module="sklearn")
            yield
    finally:
        log.setLevel(level)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"
