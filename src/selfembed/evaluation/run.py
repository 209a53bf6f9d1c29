"""Evaluates an embedder on tasks."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformer

from selfembed.errors import InputError
from selfembed.evaluation.identity import embedder_settings, name_of, training_run
from selfembed.evaluation.scores import Scores
from selfembed.ground.environment import environment
from selfembed.ground.progress import Progress, silent
from selfembed.model.embedder import load_embedder

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

_PACKAGES = ("mteb", "scikit-learn", "scipy")  # that scores depend on, beyond those of every record


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
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Scores:
    """Scores an embedder on mteb's own tasks and on own data.

    Args:
        embedder: a folder (or hub id) that sentence-transformers loads, or a SentenceTransformer.
        benchmark: one of mteb's, such as "MTEB(eng, v2)".
        tasks: names of tasks; with a benchmark, some of its tasks.
        data: folder with a sub-folder a task; None takes the data from the hub. See `tasks.choose_tasks`.
        own: tasks over own data, as the functions of `own_data` make them.
        batch_size: texts in one forward pass, at most; on a CPU fewer long ones.
        cache: keep vectors under ``SELFEMBED_CACHE`` and take from there what is known.
        name: what the embedder is called; None takes the folder's name.
        device: as SentenceTransformer takes it; None lets it choose.
        trust_remote_code: let the Python code of the backbone run that the embedder's folder carries.
        progress: told how far the encoding is.

    Raises:
        InputError: an unknown task or benchmark, nothing to run, unusable data, no embedder at that place, an
            embedder whose vectors are not finite or zero, or a cache that cannot be written.
    """
    # mteb takes seconds to import, and finished scores are read and compared without it.
    from selfembed.evaluation.encoder import CachedEncoder
    from selfembed.evaluation.task_run import run_task
    from selfembed.evaluation.tasks import benchmark_size, choose_tasks

    if batch_size < 1:
        raise InputError(f"batch size {batch_size}: expected at least 1")
    chosen = choose_tasks(benchmark=benchmark, tasks=tasks, data=data, own=own)
    model = embedder
    if not isinstance(model, SentenceTransformer):
        model = load_embedder(model, device=device, trust_remote_code=trust_remote_code)
    model.eval()
    named = name or name_of(embedder)
    encoder = CachedEncoder(model, name=named, cache=cache, progress=progress)
    settings = embedder_settings(model) | {"batch_size": batch_size, "cache": cache}
    if (run := training_run(embedder)) is not None:
        settings["run"] = run
    if benchmark is not None:
        settings["benchmark_tasks"] = benchmark_size(benchmark)
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
