"""What mteb counts in a task's data, by mteb's own code.

This calls a private method of mteb's, the one that all of its task classes implement. The public
`calculate_descriptive_statistics` cannot be used: it gives the published figures back unless it is told to
overwrite them, and then writes into the installed package of mteb, for all splits and languages at once.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from typing import Any

from mteb.abstasks import AbsTask


def descriptive_statistics(task: AbsTask, split: str, subset: str | None = None) -> dict[str, Any]:
    """Counts texts, characters, labels and pairs in the data that a task holds.

    Args:
        task: A task with its data.
        split: The split to count in.
        subset: The language to count in; None where the task has only one.

    Returns:
        Nested figures by name, as mteb publishes them.
    """
    with redirect_stderr(io.StringIO()):  # its progress bars, which cannot be turned off
        found: dict[str, Any] = task._calculate_descriptive_statistics_from_split(split, hf_subset=subset)
    return found
