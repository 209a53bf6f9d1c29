"""Compares embedders on the same tasks: one table, the spread over seeds, paired bootstrap intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sentence_transformers import SentenceTransformer

from selfembed.errors import InputError
from selfembed.evaluation.averages import average_rows, counts
from selfembed.evaluation.bootstrap import LEVEL
from selfembed.evaluation.columns import column, column_names, differing, label, runs_of_one_recipe
from selfembed.evaluation.comparison import Comparison, Row
from selfembed.evaluation.identity import training_run
from selfembed.evaluation.resampling import Resampled, resample_task, run_weights
from selfembed.evaluation.rows import task_row
from selfembed.evaluation.run import evaluate
from selfembed.evaluation.same_data import require_distinct_runs, require_same_data
from selfembed.evaluation.scores import Scores, TaskScore, read_scores
from selfembed.ground.options import Range, check_value
from selfembed.ground.progress import Progress, silent
from selfembed.model.embedder import require_embedder

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


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
    trust_remote_code: bool = False,
    resamples: int = 1_000,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Scores embedders on the same tasks, or takes their finished scores, and compares all with the first.

    Embedders that :func:`selfembed.train` has made of one plan with several seeds share a column.

    Args:
        embedders: Folders, hub ids, `SentenceTransformer` objects, files of scores (`.json`, what
            :meth:`Scores.to_dict` gives) or :class:`~selfembed.evaluation.scores.Scores`; the first is the baseline.
        benchmark: The name of one of mteb's benchmarks. This and the next options, down to `trust_remote_code`, are
            those of :func:`~selfembed.evaluation.run.evaluate`; a choice of tasks is needed unless all are scored
            already.
        tasks: Names of mteb's tasks; with a benchmark, those of its tasks to run.
        data: A folder with one sub-folder for each task; None takes the data from the hub.
        own: Tasks over data of your own.
        batch_size: The largest number of texts in one forward pass.
        cache: Whether vectors are kept under `SELFEMBED_CACHE` and taken from there where they are known.
        device: The device, as `SentenceTransformer` takes it; None lets it choose.
        trust_remote_code: Whether Python code that the embedders' folders carry for their backbones may run.
        resamples: The number of resamples of the bootstrap, at least 100: with fewer the ends of an interval are
            chance.
        seed: The seed of the resamples.
        progress: Is told how many texts are encoded and how many tasks are resampled.

    Returns:
        A table of tasks by embedders, with the differences to the first and their intervals.

    Raises:
        InputError: :func:`~selfembed.evaluation.run.evaluate` refuses something, a file holds no scores, there are
            fewer than two embedders or 100 resamples, scores are not of the same data, a run is there twice, or tasks
            are chosen although all is scored already.
    """
    if isinstance(embedders, str | Path | SentenceTransformer | Scores):
        embedders = [embedders]
    _require_some(len(embedders), resamples)
    known = [_scores_in(embedder) for embedder in embedders]
    asked = benchmark is not None or tasks is not None or data is not None or bool(own)
    if asked and all(known):
        raise InputError(
            "tasks: chosen, but all that is compared are finished scores, whose tasks have run; expected embedders to "
            "run them on; leave out the choice of tasks, or give embedders"
        )
    # before hours of encoding
    for scores, embedder in zip(known, embedders, strict=True):
        if scores is None and not isinstance(embedder, SentenceTransformer | Scores):
            require_embedder(embedder)
    require_distinct_runs(
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
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
        for scores, embedder in zip(known, embedders, strict=True)
    ]
    return compare_scores(found, resamples=resamples, seed=seed, progress=progress)


def compare_scores(
    found: Sequence[Scores], *, resamples: int = 1_000, seed: int = 0, progress: Progress = silent
) -> Comparison:
    """Compares finished scores with the first.

    The interval of a difference is over the test items: both columns are scored again on the same resample of them. A
    column of several runs is the mean over a resample of its runs. In an average the tasks stay as they are and their
    items are resampled.

    Args:
        found: The scores of each embedder, as :func:`~selfembed.evaluation.run.evaluate` gives them.
        resamples: The number of resamples of the bootstrap, at least 100: with fewer the ends of an interval are
            chance.
        seed: The seed of the resamples.
        progress: Is told how many tasks are resampled.

    Returns:
        A table of tasks by embedders, with the differences to the first and their intervals.

    Raises:
        InputError: There are fewer than two scores or 100 resamples, scores are not of the same data, or a run is
            there twice.
    """
    _require_some(len(found), resamples)
    groups = runs_of_one_recipe(found)
    names = column_names(groups)
    require_distinct_runs([(scores.embedder, scores.settings.get("run")) for scores in found])
    runs = [scores for group in groups for scores in group]
    tables = [{score.name: score for score in scores.scores} for scores in runs]
    order: dict[str, TaskScore] = {}
    for table in tables:
        for name, score in table.items():
            order.setdefault(name, score)
    labels = [label(scores, runs) for scores in runs]
    for name in order:
        require_same_data(name, [(label, table.get(name)) for label, table in zip(labels, tables, strict=True)])

    ends = itertools.accumulate(map(len, groups))
    parts = [slice(end - len(group), end) for end, group in zip(ends, groups, strict=True)]  # a column's runs
    shared = [sum(any(name in table for table in tables[part]) for part in parts) > 1 for name in order]
    if len(groups) > 1 and not any(shared):
        raise InputError(
            f"{', '.join(names)}: no two of them have a task in common; expected scores of the same tasks; evaluate "
            "all on the same data"
        )
    weights_BM = run_weights([len(group) for group in groups], resamples, seed)
    ordered = sorted(order, key=lambda name: (order[name].category, name))
    counted = [name for name in ordered if all(counts(table.get(name)) for table in tables)]
    rows: list[Row] = []
    resampled: dict[str, Resampled] = {}
    for number, name in enumerate(ordered):
        progress("bootstrap", number, len(ordered))
        scores = [table.get(name) for table in tables]
        again = resample_task(name, scores, parts, weights_BM, resamples=resamples, seed=seed)
        rows.append(task_row(order[name], scores, parts, again, in_average=name in counted))
        resampled[name] = again
    progress("bootstrap", len(ordered), len(ordered))
    average_name, averages = average_rows(runs, parts, counted, order, resampled)
    return Comparison(
        columns=tuple(column(name, group) for name, group in zip(names, groups, strict=True)),
        tasks=tuple(rows),
        average_name=average_name,
        averages=averages,
        resamples=resamples,
        level=LEVEL,
        seed=seed,
        differing=differing(groups),
    )


def _called(embedder: Any, embedders: Sequence[Any]) -> str | None:
    """Names folders of equal names by their parents too; None leaves the name to :func:`evaluate`."""
    folders = [Path(other).resolve() for other in embedders if isinstance(other, str | Path) and Path(other).is_dir()]
    place = Path(embedder).resolve() if isinstance(embedder, str | Path) else None
    if place not in folders or [folder.name for folder in folders].count(place.name) == 1:
        return None
    return f"{place.parent.name}/{place.name}"


def _require_some(embedders: int, resamples: int) -> None:
    if embedders < 2:
        raise InputError(f"embedders: {embedders} given; expected at least two embedders or files of scores; add one")
    check_value("resamples", resamples, Annotated[int, Range(least=100)])


def _scores_in(embedder: str | Path | SentenceTransformer | Scores) -> Scores | None:
    """Reads finished scores, if that is what was given."""
    if isinstance(embedder, Scores):
        return embedder
    if isinstance(embedder, str | Path) and str(embedder).endswith(".json") and not Path(embedder).is_dir():
        return read_scores(embedder)
    return None
