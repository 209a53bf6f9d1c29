"""What an evaluation found: a score a task, averages, and all that they depend on."""

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


def read_scores(file: str | Path) -> Scores:
    """Scores from a JSON file that `selfembed evaluate` has written.

    Raises:
        InputError: there is no such file, or it holds no scores.
    """
    file = Path(file)
    try:
        return Scores.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); expected a file of scores") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: is no file of scores ({type(error).__name__}: {' '.join(str(error).split())[:100]}); expected "
            "what selfembed evaluate --json writes: evaluate again"
        ) from error


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"
