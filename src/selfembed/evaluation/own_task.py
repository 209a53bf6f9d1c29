"""A task of mteb's kinds over data in memory."""

from __future__ import annotations

from typing import Any

from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata

from selfembed.ground.hashing import content_hash


def own_task(
    base: type[AbsTask], name: str, kind: str, main_score: str, dataset: Any, content: Any, **settings: Any
) -> Any:
    """Makes an object of one of mteb's task classes over data in memory.

    It makes a subclass, as mteb wants new tasks to be made.

    Args:
        base: The task class of mteb.
        name: The task's name.
        kind: The task type, as mteb calls it.
        main_score: The name of the metric.
        dataset: The data, in the form that mteb's own loading would give.
        content: What the task's revision is the hash of.
        **settings: Attributes of the class; a `note` is shown below the task's score.

    Returns:
        The task, its data loaded.
    """
    metadata = TaskMetadata(
        name=name,
        description=f"own data: {kind}",
        dataset={"path": f"local/{name}", "revision": content_hash(content)[:40]},
        type=kind,
        modalities=["text"],
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],  # mteb asks for one; nothing depends on it
        main_score=main_score,
    )
    task = type(f"Own{kind}", (base,), {"metadata": metadata, **settings})()
    task.dataset = dataset
    task.data_loaded = True
    return task
