"""Scores one embedder on tasks."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sentence_transformers import SentenceTransformer

from selfembed.evaluation.identity import embedder_settings, name_of, training_run
from selfembed.evaluation.scores import Scores
from selfembed.ground.environment import environment
from selfembed.ground.options import Range, check_value
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
    """Scores an embedder on mteb's tasks and on data of your own.

    Args:
        embedder: A folder or hub id that sentence-transformers loads, or a `SentenceTransformer`.
        benchmark: The name of one of mteb's benchmarks, such as `"MTEB(eng, v2)"`.
        tasks: Names of mteb's tasks; with a benchmark, those of its tasks to run.
        data: A folder with one sub-folder for each task; None takes the data from the hub. See
            :func:`selfembed.evaluation.tasks.choose_tasks`.
        own: Tasks over data of your own, as the functions of :mod:`selfembed.evaluation.own_data` make them.
        batch_size: The largest number of texts in one forward pass; on a CPU long texts come in smaller batches.
        cache: Whether vectors are kept under `SELFEMBED_CACHE` and taken from there where they are known.
        name: The embedder's name in the results; None takes the folder's name.
        device: The device, as `SentenceTransformer` takes it; None lets it choose.
        trust_remote_code: Whether Python code that the embedder's folder carries for its backbone may run.
        progress: Is told how many texts are encoded.

    Returns:
        The score of each task in percent, their averages, and all that they depend on.

    Raises:
        InputError: A task or benchmark is unknown, there is nothing to run, data cannot be used, there is no embedder
            at that place, one of its vectors is zero or not finite, `batch_size` is below 1, or the cache cannot be
            written.
    """
    # mteb takes seconds to import, and finished scores are read and compared without it.
    from selfembed.evaluation.encoder import CachedEncoder
    from selfembed.evaluation.task_run import run_task
    from selfembed.evaluation.tasks import benchmark_size, choose_tasks

    check_value("batch_size", batch_size, Annotated[int, Range(least=1)])
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
