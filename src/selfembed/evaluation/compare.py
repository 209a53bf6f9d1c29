"""Compares embedders on the same tasks: one table, spread over seeds, paired bootstrap intervals.

Shapes: B resamples, R runs of one recipe, M runs of all columns.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mteb.abstasks import AbsTask
from sentence_transformers import SentenceTransformer

from selfembed.errors import InputError
from selfembed.evaluation.bootstrap import LEVEL, percentile_interval, resampled_scores, seed_of
from selfembed.evaluation.comparison import Cell, Column, Comparison, Difference, Row
from selfembed.evaluation.scores import Average, Scores, TaskScore, evaluate, training_run
from selfembed.ground.progress import Progress, silent
from selfembed.model.embedder import require_embedder

_SETTINGS = (
    "input",
    "prompts",
    "pooling",
    "attention",
    "attention_implementation",
    "max_length",
    "normalized",
    "similarity",
    "dimensions",
    "dtype",
    "device",
    "batch_size",
)
_CLOSE = 0.02  # in percent: scores are rounded, and items are float32
_VERSIONS = ("mteb", "scikit-learn", "scipy", "sentence-transformers", "transformers", "torch")


def compare(
    embedders: Sequence[str | Path | SentenceTransformer | Scores],
    *,
    benchmark: str | None = None,
    tasks: Sequence[str] | None = None,
    data: str | Path | None = None,
    own: Sequence[AbsTask] = (),
    batch_size: int = 32,
    cache: bool = True,
    device: str | None = None,
    resamples: int = 1_000,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Evaluates embedders on the same tasks, or takes their finished scores, and compares them with the first.

    Embedders that `selfembed.train` has made of one plan with several seeds are one column.

    Args:
        embedders: folders, hub ids, SentenceTransformers, score files (``.json``, what `Scores.to_dict` gives) or
            `Scores`; the first is the baseline.
        benchmark: as for `evaluate`, like all down to ``device``; needed unless all have been scored already.
        tasks: names of tasks.
        data: folder with a sub-folder a task.
        own: tasks over own data.
        batch_size: texts in one forward pass.
        cache: keep and use vectors under ``SELFEMBED_CACHE``.
        device: as SentenceTransformer takes it.
        resamples: of the bootstrap.
        seed: of the resamples.
        progress: told how far the encoding and the bootstrap are.

    Raises:
        InputError: as `evaluate`; a file without scores; fewer than two embedders; scores that are not of the same
            data; the same run twice.
    """
    if isinstance(embedders, str | Path | SentenceTransformer | Scores):
        embedders = [embedders]
    _require_some(len(embedders), resamples)
    known = [_scores_in(embedder) for embedder in embedders]
    asked = benchmark is not None or tasks is not None or data is not None or bool(own)
    if asked and all(known):
        raise InputError(
            "tasks were chosen, but all that is compared are finished scores, whose tasks have run; leave out the "
            "choice of tasks, or give embedders"
        )
    # before hours of encoding
    for scores, embedder in zip(known, embedders, strict=True):
        if scores is None and not isinstance(embedder, SentenceTransformer):
            require_embedder(embedder)
    _require_distinct_runs(
        [
            (scores.embedder, scores.settings.get("run")) if scores else (str(embedder), training_run(embedder))
            for scores, embedder in zip(known, embedders, strict=True)
        ]
    )
    found = [
        scores
        or evaluate(
            embedder,
            name=_called(embedder, embedders),
            benchmark=benchmark,
            tasks=tasks,
            data=data,
            own=own,
            batch_size=batch_size,
            cache=cache,
            device=device,
            progress=progress,
        )
        for scores, embedder in zip(known, embedders, strict=True)
    ]
    return compare_scores(found, resamples=resamples, seed=seed, progress=progress)


def compare_scores(
    found: Sequence[Scores], *, resamples: int = 1_000, seed: int = 0, progress: Progress = silent
) -> Comparison:
    """Compares finished scores with the first.

    The interval of a difference is over the test items: both columns are scored again on the same resample of them.
    A column of several runs is the mean over a resample of its runs. In an average the tasks stay as they are and
    their items are resampled.

    Args:
        found: what `evaluate` gave for each embedder.
        resamples: of the bootstrap.
        seed: of the resamples.
        progress: told how many tasks are resampled.

    Raises:
        InputError: fewer than two; not of the same data; the same run twice.
    """
    _require_some(len(found), resamples)
    groups = _runs_of_one_recipe(found)
    names = _names(groups)
    _require_distinct_runs([(scores.embedder, scores.settings.get("run")) for scores in found])
    runs = [scores for group in groups for scores in group]
    tables = [{score.name: score for score in scores.scores} for scores in runs]
    order: dict[str, TaskScore] = {}
    for table in tables:
        for name, score in table.items():
            order.setdefault(name, score)
    labels = [_label(scores, runs) for scores in runs]
    for name in order:
        _require_same_data(name, [(label, table.get(name)) for label, table in zip(labels, tables, strict=True)])

    ends = itertools.accumulate(map(len, groups))
    parts = [slice(end - len(group), end) for end, group in zip(ends, groups, strict=True)]  # a column's runs
    shared = [sum(any(name in table for table in tables[part]) for part in parts) > 1 for name in order]
    if len(groups) > 1 and not any(shared):
        raise InputError(
            f"{', '.join(names)}: no two of them have a task in common; expected scores of the same tasks: evaluate "
            "all on the same data"
        )
    weights_BM = _run_weights([len(group) for group in groups], resamples, seed)
    rows: list[Row] = []
    resampled: dict[str, list[np.ndarray | None]] = {}
    ordered = sorted(order, key=lambda name: (order[name].category, name))
    for number, name in enumerate(ordered):
        progress("bootstrap", number, len(ordered))
        scores = [table.get(name) for table in tables]
        boot, reasons, count, unit = _resample_task(name, scores, parts, weights_BM, resamples=resamples, seed=seed)
        row = _task_row(order[name], scores, parts, boot, reasons)
        rows.append(dataclasses.replace(row, items=count, unit=unit))
        resampled[name] = boot
    progress("bootstrap", len(ordered), len(ordered))

    counted = [name for name in ordered if all(_counts(table.get(name)) for table in tables)]
    rows = [dataclasses.replace(row, in_average=row.name in counted) for row in rows]
    average_name, averages = _averages(runs, parts, counted, order, resampled)
    return Comparison(
        columns=tuple(_column(name, group) for name, group in zip(names, groups, strict=True)),
        tasks=tuple(rows),
        average_name=average_name,
        averages=averages,
        resamples=resamples,
        level=LEVEL,
        seed=seed,
        differing=_differing(groups),
    )


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


def _called(embedder: Any, embedders: Sequence[Any]) -> str | None:
    """Folders of one name bear their parents' names too; None leaves it to `evaluate`."""
    folders = [Path(other).resolve() for other in embedders if isinstance(other, str | Path) and Path(other).is_dir()]
    place = Path(embedder).resolve() if isinstance(embedder, str | Path) else None
    if place not in folders or [folder.name for folder in folders].count(place.name) == 1:
        return None
    return f"{place.parent.name}/{place.name}"


def _require_some(embedders: int, resamples: int) -> None:
    if embedders < 2:
        raise InputError(f"{embedders} given to compare; expected at least two embedders or score files")
    if resamples < 100:
        raise InputError(f"{resamples} resamples: expected at least 100, or the ends of an interval are chance")


def _scores_in(embedder: str | Path | SentenceTransformer | Scores) -> Scores | None:
    """Finished scores, if that is what was given."""
    if isinstance(embedder, Scores):
        return embedder
    if isinstance(embedder, str | Path) and str(embedder).endswith(".json") and not Path(embedder).is_dir():
        return read_scores(embedder)
    return None


def _runs_of_one_recipe(found: Sequence[Scores]) -> list[list[Scores]]:
    """Runs of one plan together, in the order in which they were given."""
    groups: dict[Any, list[Scores]] = {}
    for number, scores in enumerate(found):
        run = scores.settings.get("run")
        groups.setdefault(run["plan"] if run else number, []).append(scores)
    return list(groups.values())


def _require_distinct_runs(runs: list[tuple[str, dict[str, Any] | None]]) -> None:
    """Two runs of one seed are no two runs: their spread would say nothing."""
    seen: dict[tuple[Any, Any], str] = {}
    for name, run in runs:
        if run is None:
            continue
        key = (run["plan"], run["seed"])
        if key in seen:
            raise InputError(
                f"{name}: is a second run of one recipe with seed {run['seed']}, beside {seen[key]}; expected runs of "
                "different seeds: leave one out"
            )
        seen[key] = name


def _names(groups: list[list[Scores]]) -> list[str]:
    """Of runs what their names have in common, else the recipe; numbered where names repeat."""
    names: list[str] = []
    for group in groups:
        name = group[0].embedder
        if len(group) > 1:
            common = os.path.commonprefix([scores.embedder for scores in group])
            common = re.sub(r"[-_. ]*(seed|s|run)?[-_. ]*$", "", common)
            name = common or group[0].settings["run"]["recipe"]
        number, free = 1, name
        while free in names:
            number += 1
            free = f"{name} ({number})"
        names.append(free)
    return names


def _label(scores: Scores, others: list[Scores]) -> str:
    """An embedder's name, told apart from others of the same name."""
    same = sum(other.embedder == scores.embedder for other in others) > 1
    return f"{scores.embedder} ({scores.embedder_hash[:8]})" if same else scores.embedder


def _column(name: str, group: list[Scores]) -> Column:
    return Column(
        name=name,
        runs=tuple(scores.embedder for scores in group),
        hashes=tuple(scores.embedder_hash for scores in group),
        seeds=tuple((scores.settings.get("run") or {}).get("seed") for scores in group),
        settings={key: group[0].settings[key] for key in _SETTINGS if key in group[0].settings},
    )


def _require_same_data(name: str, given: list[tuple[str, TaskScore | None]]) -> None:
    """Refuses scores of one task that are not comparable."""
    ran = [(label, score) for label, score in given if score is not None and score.score is not None]
    for other, score in ran[1:]:
        first, base = ran[0]
        # hub and exact are the same data by mteb's own statistics; the texts decide
        sources = {base.data, score.data}
        same_source = len(sources) == 1 or (sources == {"hub", "exact"} and base.texts_hash == score.texts_hash)
        pairs: list[tuple[str, Any, Any, bool]] = [
            ("metric", base.metric, score.metric, base.metric == score.metric),
            ("category", base.category, score.category, base.category == score.category),
            ("data", base.data, score.data, same_source),
            ("revision", str(base.revision)[:8], str(score.revision)[:8], base.revision == score.revision),
            ("splits", base.splits, score.splits, set(base.splits) == set(score.splits)),
            ("languages", base.languages, score.languages, set(base.languages) == set(score.languages)),
            ("seed of draws", base.seed, score.seed, base.seed == score.seed),
        ]
        if base.texts_hash and score.texts_hash:
            same = base.texts_hash == score.texts_hash
            pairs.append(("texts", base.texts_hash[:8], score.texts_hash[:8], same))
        for what, left, right, same in pairs:
            if not same:
                raise InputError(
                    f"task {name}: {what} {_value(left)} for {first}, but {_value(right)} for {other}; expected the "
                    "same: evaluate both on the same data"
                )
        for left, right in zip(base.items, score.items, strict=False):
            alike = (left.part, left.unit) == (right.part, right.unit)
            if alike and left.unit in ("pairs", "texts", "queries") and left.key != right.key:
                raise InputError(
                    f"task {name}: other labels or judgements of {left.part} for {first} than for {other}; expected "
                    "the same: evaluate both on the same data"
                )


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _run_weights(sizes: list[int], resamples: int, seed: int) -> np.ndarray:
    """``weights_BM``: each column's runs drawn with replacement, as shares that add up to 1 a column."""
    random = np.random.default_rng(seed_of(seed, "runs"))
    return np.concatenate(
        [random.multinomial(size, [1 / size] * size, size=resamples) / size for size in sizes], axis=1
    )


def _resample_task(
    name: str,
    scores: list[TaskScore | None],
    parts: list[slice],
    weights_BM: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> tuple[list[np.ndarray | None], list[str | None], int, str]:
    """For each column its resampled scores in percent, or why there are none; how many items of what."""
    reasons = [_no_items(score) for score in scores]
    base = next((score for score, reason in zip(scores, reasons, strict=True) if reason is None), None)
    if base is None:
        return [None] * len(parts), _by_column(reasons, parts), 0, ""
    for m, score in enumerate(scores):
        if reasons[m] is None and [items.key for items in score.items] != [items.key for items in base.items]:
            reasons[m] = "mteb judged other items for one embedder than for the other"
    usable = [m for m, reason in enumerate(reasons) if reason is None]
    boot_MB = np.full((len(scores), resamples), np.nan)
    # a task's score is the mean over its splits and languages
    boot_MB[usable] = 100 * np.mean(
        [
            resampled_scores(
                [scores[m].items[part] for m in usable],
                resamples=resamples,
                seed=seed_of(seed, name, items.part),
            )
            for part, items in enumerate(base.items)
        ],
        axis=0,
    )
    column_reasons = _by_column(reasons, parts)
    columns = [
        None if reason else (weights_BM[:, part].T * boot_MB[part]).sum(0)
        for part, reason in zip(parts, column_reasons, strict=True)
    ]
    return columns, column_reasons, sum(map(len, base.items)), base.items[0].unit


def _no_items(score: TaskScore | None) -> str | None:
    if score is None or score.score is None:
        return "no score"
    if not score.items:
        return score.no_items or "the scores were recorded without per-item results; evaluate again"
    if sum(map(len, score.items)) < 2:
        return "there is one item only"
    # of a file that was edited, or made by another version
    found = 100 * statistics.fmean(items.score for items in score.items)
    return None if abs(found - score.score) <= _CLOSE else "the per-item results do not give the score"


def _by_column(reasons: list[str | None], parts: list[slice]) -> list[str | None]:
    """The first reason among a column's runs."""
    return [next(filter(None, reasons[part]), None) for part in parts]


def _task_row(
    about: TaskScore,
    scores: list[TaskScore | None],
    parts: list[slice],
    boot: list[np.ndarray | None],
    reasons: list[str | None],
) -> Row:
    values = [None if score is None else score.score for score in scores]
    why = ["not among its tasks" if score is None else score.reason for score in scores]
    ran = next((score for score in scores if score is not None and score.score is not None), about)
    return Row(
        name=about.name,
        category=about.category,
        metric=about.metric,
        data=ran.data,
        note=ran.note,
        cells=_cells(values, parts, boot, reasons, missing=_by_column(why, parts)),
    )


def _cells(
    values: list[float | None],
    parts: list[slice],
    boot: list[np.ndarray | None],
    reasons: list[str | None],
    *,
    missing: list[str | None],
) -> tuple[Cell, ...]:
    """A row's cells from the runs' scores and the columns' resampled ones."""
    cells: list[Cell] = []
    for column, part in enumerate(parts):
        runs = values[part]
        if any(value is None for value in runs):
            cells.append(Cell(score=None, reason=missing[column] or "no score of one of its runs"))
            continue
        cell = Cell(
            score=round(statistics.fmean(runs), 4),
            sd=round(statistics.stdev(runs), 4) if len(runs) > 1 else None,
            runs=tuple(runs),
        )
        if column and cells[0].score is not None:
            reason = reasons[0] or reasons[column]
            # of unrounded means, so that it is that of the runs
            value = round(statistics.fmean(runs) - statistics.fmean(cells[0].runs), 4)
            difference = Difference(value=value, reason=reason)
            if reason is None:
                difference = _difference(value, boot[column] - boot[0])
            cell = dataclasses.replace(cell, difference=difference)
        cells.append(cell)
    return tuple(cells)


def _difference(value: float, boot_B: np.ndarray) -> Difference:
    interval = percentile_interval(boot_B)
    if interval is None:
        return Difference(value=value, reason="too many resamples have no score; the test set is too small")
    return Difference(value=value, low=round(interval[0], 4), high=round(interval[1], 4))


def _counts(score: TaskScore | None) -> bool:
    return score is not None and score.score is not None and score.in_average


def _averages(
    runs: list[Scores],
    parts: list[slice],
    counted: list[str],
    order: dict[str, TaskScore],
    resampled: dict[str, list[np.ndarray | None]],
) -> tuple[str | None, tuple[Row, ...]]:
    """Both averages and those of the categories, over the tasks that all columns have."""
    if not counted:
        return None, ()
    averages = [_average_over(scores, counted, order, same_benchmark=_one_benchmark(runs)) for scores in runs]
    groups: dict[str, list[str]] = {}
    for name in counted:
        groups.setdefault(order[name].category, []).append(name)
    columns = range(len(parts))
    by_category = {
        category: [_mean_of([resampled[name][column] for name in names]) for column in columns]
        for category, names in groups.items()
    }

    def row(name: str, value: Callable[[Average], float], boot: list[np.ndarray | None], over: list[str]) -> Row:
        without = [task for task in over if any(part is None for part in resampled[task])]
        reason = f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} none"
        reasons = [reason if part is None else None for part in boot]
        values: list[float | None] = [value(average) for average in averages]
        return Row(name=name, cells=_cells(values, parts, boot, reasons, missing=[None] * len(parts)))

    per_task = [_mean_of([resampled[name][column] for name in counted]) for column in columns]
    per_category = [_mean_of([means[column] for means in by_category.values()]) for column in columns]
    rows = [
        row("per task", lambda average: average.tasks, per_task, counted),
        row("per category", lambda average: average.categories, per_category, counted),
    ]
    for category, names in groups.items():
        rows.append(row(category, lambda average, c=category: average.by_category[c], by_category[category], names))
    return averages[0].name, tuple(rows)


def _one_benchmark(runs: list[Scores]) -> bool:
    return len({scores.benchmark for scores in runs}) == 1


def _average_over(scores: Scores, counted: list[str], order: dict[str, TaskScore], *, same_benchmark: bool) -> Average:
    """One embedder's averages, over tasks that all columns have; the others count as not run in the name."""
    table = {score.name: score for score in scores.scores}
    kept = []
    for name, known in order.items():
        score = table.get(name, known)
        if name in counted:
            kept.append(score)
        elif _counts(score) or score.score is None:
            kept.append(dataclasses.replace(score, score=None, reason="not in all columns"))
    benchmark = scores.benchmark if same_benchmark else None
    average = dataclasses.replace(scores, scores=kept, benchmark=benchmark).average
    assert average is not None, "a counted task has a score"
    return average


def _mean_of(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """None if any part is."""
    return None if any(part is None for part in parts) else np.mean(parts, axis=0)


def _differing(groups: list[list[Scores]]) -> dict[str, tuple[str, ...]]:
    """Settings and versions that are not the same in all columns."""
    differing = {}
    for name in (*_SETTINGS, *_VERSIONS):
        values = []
        for group in groups:
            shown = (_setting(scores.settings, name) for scores in group)
            values.append("; ".join(dict.fromkeys(shown)))
        if len(set(values)) > 1:
            differing[f"{name} version" if name in _VERSIONS else name.replace("_", " ")] = tuple(values)
    return differing


def _setting(settings: dict[str, Any], name: str) -> str:
    if name in _VERSIONS:
        versions = (settings.get("environment") or {}).get("versions") or {}
        return str(versions.get(name, "unknown"))
    value = settings.get(name)
    if value is None or value == {}:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
