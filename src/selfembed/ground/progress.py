"""How a long piece of work reports its progress, and bars that show it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

# What a long piece of work reports: its name, how much is done, how much there is (None: unknown).
Progress = Callable[[str, int, "int | None"], None]


def silent(task: str, done: int, total: int | None) -> None:
    """Reports nothing."""


class Bars:
    """Progress bars on standard error, one task after the other.

    What follows a comma in a task's name is a note, which may change. Close the bars, or use them in a `with`
    statement, before something else is written to the screen.
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.task = ""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        from tqdm import tqdm

        name, _, note = task.partition(", ")
        if name != self.task:
            self.close()
            self.task = name
            self.bar = tqdm(total=total, desc=name, leave=True, dynamic_ncols=True)
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar that is shown; the next report begins another one."""
        if self.bar is not None:
            self.bar.close()
        self.bar, self.task = None, ""
