"""Runs one of mteb's tasks on an embedder."""

from __future__ import annotations

import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mteb

from selfembed.evaluation.encoder import CachedEncoder
from selfembed.evaluation.scores import TaskScore
from selfembed.evaluation.task_items import task_items
from selfembed.evaluation.tasks import ChosenTask
from selfembed.ground.files import writing


def run_task(
    encoder: CachedEncoder, chosen: ChosenTask, *, batch_size: int = 32, benchmark: str | None = None
) -> TaskScore:
    """Runs one task and returns its score; a task without data comes back with the reason.

    Args:
        encoder: The embedder, as mteb takes it.
        chosen: The task, and where its data is from.
        batch_size: The largest number of texts in one forward pass.
        benchmark: The benchmark that the task is run for; None outside of any.

    Raises:
        InputError: A vector of the embedder is zero or not finite, or the cache cannot be written.
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences advice to use other versions of a task (the user chose), and on metrics that are not the main score."""
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
