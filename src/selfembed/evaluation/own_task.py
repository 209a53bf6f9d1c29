"""A task of mteb's kinds over data in memory."""

from __future__ import annotations

from typing import Any

from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata

from selfembed.ground.hashing import content_hash


def own_task(
    base: type[AbsTask], name: str, kind: str, main_score: str, dataset: Any, content: Any, **settings: Any
) -> Any:
    """Makes an object of a mteb task class; subclassing is how mteb wants new tasks made.

    Args:
        base: the task class.
        name: of the task.
        kind: mteb's task type.
        main_score: the metric.
        dataset: in the form that mteb's own loading would give.
        content: of which the task's revision is the hash.
        **settings: attributes of the class; a ``note`` stands below the task's score.
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
