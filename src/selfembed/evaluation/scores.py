"""What an evaluation found: one score for each task, their averages, and all that they depend on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfembed.errors import InputError
from selfembed.evaluation.items import Items


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """The score of one task, or the reason why there is none.

    Attributes:
        name: The task's name.
        category: The task type, as mteb calls it.
        metric: The task's main score.
        score: The score in percent, the mean over splits and languages; None if there is none.
        reason: The reason why there is no score; None if there is one.
        data: The source of the data: `hub`, `exact`, `near`, `not MTEB's`, `unchecked`, `own data` or `none`.
        note: A sentence on how local data differs from mteb's.
        in_average: Whether the task counts in the average: everything that ran does, but of a benchmark only what ran
            on mteb's data.
        revision: The revision of mteb's data set on the hub, or the content hash of own data.
        splits: The splits that were evaluated on.
        languages: The subsets that were evaluated on, as mteb calls them.
        prompts: The prompts that mteb's rules chose from the embedder's and put before the texts. A prompt that is in
            the embedder's tokenizer is in the settings of :class:`Scores` instead.
        seed: The seed of the task's draws.
        seconds: The wall time of the task in seconds, loading from the hub included.
        texts: The number of texts that the task asked for, with repetitions.
        texts_encoded: The number of texts that were encoded; the vectors of the others were known.
        texts_per_second: The texts encoded in a second; None if all vectors were known.
        texts_hash: A content hash of the texts in any order: equal for equal data.
        items: The per-item results of each split and language, which intervals are made from.
        no_items: The reason why there are no per-item results.
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
        """Returns everything as plain JSON values."""
        plain = dataclasses.asdict(dataclasses.replace(self, items=()))
        return plain | {"items": [items.to_dict() for items in self.items]}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TaskScore:
        """Makes a score out of what :meth:`to_dict` gave.

        Raises:
            ValueError: A value is not what :meth:`to_dict` gives.
                KeyError: A value is missing.
                TypeError: A value is of another type, or there is one too many.
                AttributeError: A value is of another type.
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
    """The two averages over tasks, in percent.

    Attributes:
        name: What is averaged; a benchmark's bare name only where all its tasks ran on mteb's data.
        tasks: The mean over tasks.
        categories: The mean over categories of the mean over a category's tasks (macro average).
        by_category: For each category, the mean over its tasks.
    """

    name: str
    tasks: float
    categories: float
    by_category: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an evaluation found.

    Attributes:
        embedder: The embedder's name.
        embedder_hash: A hash of the embedder's content, 64 hex digits.
        benchmark: The benchmark that was asked for; None for none.
        scores: One entry for each task, those not run included.
        settings: Everything else that scores depend on: prompt, pooling, attention, `max_length`, `batch_size`, dtype
            and so on, and the environment.
    """

    embedder: str
    embedder_hash: str
    benchmark: str | None
    scores: list[TaskScore]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def average(self) -> Average | None:
        """Averages over the tasks that ran; returns None if none of them counts."""
        counted = {score.name: score for score in self.scores if score.in_average and score.score is not None}
        values = {name: score.score for name, score in counted.items() if score.score is not None}
        if not counted:
            return None
        groups: dict[str, list[float]] = {}
        for name, value in values.items():
            groups.setdefault(counted[name].category, []).append(value)
        means = {category: _mean(group) for category, group in sorted(groups.items())}
        asked = [score for score in self.scores if score.in_average or score.score is None]
        name = self._average_name(list(counted.values()), asked)
        per_task = _mean(list(values.values()))
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
        """Returns everything as plain JSON values."""
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
        """Makes scores out of what :meth:`to_dict` gave.

        Raises:
            ValueError: A value is not what :meth:`to_dict` gives.
                KeyError: A value is missing.
                TypeError: A value is of another type.
                AttributeError: A value is of another type.
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
        """Returns a table for the screen: tasks by category, then what was not run, then the averages."""
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


def read_scores(file: str | Path) -> Scores:
    """Reads scores from a JSON file that `selfembed evaluate` has written.

    Raises:
        InputError: The file cannot be read, or it holds no scores.
    """
    file = Path(file)
    try:
        return Scores.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror}); expected a file of scores; correct the path"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: is no file of scores ({type(error).__name__}: {' '.join(str(error).split())[:100]}); expected "
            "the JSON that selfembed evaluate gives; evaluate again"
        ) from error


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"
