"""The result of a comparison, and its views: lines for the screen, Markdown, HTML."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from selfembed.evaluation.items import DRAWS
from selfembed.ground.page import box, fill, joined, page, plain, table_row


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The score of a column less that of the first column, in percentage points.

    Attributes:
        value: The difference of the scores.
        low: The lower end of the bootstrap interval; None without one.
        high: The upper end of the bootstrap interval; None without one.
        reason: The reason why there is no interval; None with one.
    """

    value: float
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def significant(self) -> bool | None:
        """Tells whether 0 is outside the interval; None without one."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The score of a column in one row, in percent.

    Attributes:
        score: The mean over the column's runs; None if one of them has no score.
        sd: The standard deviation over the runs (n - 1); None for a single run.
        runs: The scores of the runs.
        difference: The difference to the first column; None in that column, and where one of the two has no score.
        reason: The reason why there is no score; None with one.
    """

    score: float | None
    sd: float | None = None
    runs: tuple[float, ...] = ()
    difference: Difference | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A task, or an average.

    Attributes:
        name: The task's name; among the averages `per task`, `per category` or a category.
        category: The task type, as mteb calls it; empty for an average.
        metric: The task's main score; empty for an average.
        data: The source of the task's data, as in :class:`~selfembed.evaluation.scores.TaskScore`.
        note: A sentence on how local data differs from mteb's.
        items: The number of items that were resampled; 0 without an interval.
        unit: What an item is.
        in_average: Whether the task counts in the averages.
        cells: One cell for each column.
    """

    name: str
    cells: tuple[Cell, ...]
    category: str = ""
    metric: str = ""
    data: str = ""
    note: str = ""
    items: int = 0
    unit: str = ""
    in_average: bool = True


@dataclass(frozen=True, kw_only=True)
class Column:
    """An embedder, or the runs of one recipe that differ in their seed.

    Attributes:
        name: The column's name; no two columns have the same.
        runs: The names of the embedders.
        hashes: The content hashes of the embedders.
        seeds: The seeds of their training; None where a seed is not known.
        settings: What the first embedder does to a text (prompt, pooling, dtype and so on).
    """

    name: str
    runs: tuple[str, ...]
    hashes: tuple[str, ...]
    seeds: tuple[int | None, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name, with the number of runs where there are several."""
        return self.name if len(self.runs) == 1 else f"{self.name} ({len(self.runs)} seeds)"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A table of tasks by embedders, with the differences to the first embedder.

    Attributes:
        columns: The embedders; the others are compared with the first.
        tasks: One row for each task, by category.
        average_name: What the averages are over; None if no task has a score in all columns.
        averages: The mean over tasks, the mean over categories, and the mean of each category.
        resamples: The number of resamples of the bootstrap.
        level: The level of the intervals, such as 0.95.
        seed: The seed of the resamples.
        differing: The settings and versions in which the columns differ, each with one value for each column.
    """

    columns: tuple[Column, ...]
    tasks: tuple[Row, ...]
    average_name: str | None
    averages: tuple[Row, ...]
    resamples: int
    level: float
    seed: int
    differing: dict[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain JSON values; `significant` is beside every interval."""
        plain = dataclasses.asdict(self)
        for row, plain_row in zip((*self.tasks, *self.averages), plain["tasks"] + plain["averages"], strict=True):
            for cell, plain_cell in zip(row.cells, plain_row["cells"], strict=True):
                if cell.difference is not None:
                    plain_cell["difference"]["significant"] = cell.difference.significant
        return plain

    def notes(self) -> list[str]:
        """Returns what a reader must know besides the numbers, one sentence or two a line."""
        notes = ["Scores in percent."]
        missing: dict[str, list[str]] = {}
        rows = (*self.tasks, *self.averages)
        if any(len(column.runs) > 1 for column in self.columns):
            notes.append("± is the standard deviation over seeds (n - 1).")
        if len(self.columns) > 1:
            level = 100 * self.level
            notes.append(
                f"Signed: the difference to {self.columns[0].name}, and its {level:.0f} % interval from a paired "
                f"bootstrap: {self.resamples:,} resamples of the test items (seed {self.seed}), training seeds drawn "
                "too where there are several. n.s.: it contains 0, the difference is not significant. Each interval "
                f"stands alone: of many differences between equals about {100 - level:.0f} % show as significant."
            )
        if drawn := [row.name for row in self.tasks if row.unit == DRAWS]:
            notes.append(
                "Intervals over draws from the same texts, not over texts, are too narrow, as are those of averages "
                f"with them: {', '.join(drawn)}."
            )
        for row in self.tasks:
            lacking = [i for i, cell in enumerate(row.cells) if cell.score is None]
            reasons = dict.fromkeys(row.cells[i].reason for i in lacking)
            of = "" if len(lacking) == len(row.cells) else " of " + ", ".join(self.columns[i].name for i in lacking)
            if lacking:
                missing.setdefault(f"No score{of}: {'; '.join(map(str, reasons))}", []).append(row.name)
        for row in rows:
            for reason in dict.fromkeys(cell.difference.reason for cell in row.cells if cell.difference):
                if reason is not None:
                    missing.setdefault(f"No interval: {reason}", []).append(row.name)
        notes += [f"{what} ({', '.join(names)})." for what, names in missing.items()]
        left_out = [
            row.name for row in self.tasks if not row.in_average and all(c.score is not None for c in row.cells)
        ]
        if left_out:
            notes.append(f"Not in the averages, as not the benchmark's tasks on MTEB's data: {', '.join(left_out)}.")
        notes += [f"Data of {row.name}, {row.data}: {row.note}." for row in self.tasks if row.note]
        return notes

    def lines(self) -> list[str]:
        """Returns a table for the screen."""
        table = [["", "", *(column.title for column in self.columns)]]
        for heading, rows in self._sections():
            table.append([heading])
            table += [[f"  {row.name}", _size(row), *map(_shown, row.cells)] for row in rows]
        widths = [max(map(len, column)) for column in zip(*(cells for cells in table if len(cells) > 1), strict=True)]
        lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() if len(cells) > 1 else cells[0] for cells in table]
        if self.differing:
            lines += ["", "settings that differ"]
            for name, values in self.differing.items():
                lines.append(f"  {name}")
                lines += [f"    {column.name}: {value}" for column, value in zip(self.columns, values, strict=True)]
        return [plain(line) for line in [*lines, "", *self.notes()]]

    def markdown(self) -> str:
        """Returns a table in Markdown, as GitHub shows it."""
        titles = ["task", "items", *(column.title for column in self.columns)]
        lines = [_markdown_row(titles), "|" + "---|" * 2 + "---:|" * len(self.columns)]
        for heading, rows in self._sections():
            lines.append(_markdown_row([heading, *[""] * (len(titles) - 1)], bold=True))
            lines += [_markdown_row([row.name, _size(row), *map(_shown, row.cells)]) for row in rows]
        if self.differing:
            lines += ["", _markdown_row(["setting", *(column.name for column in self.columns)])]
            lines.append("|" + "---|" * (1 + len(self.columns)))
            lines += [_markdown_row([name, *values]) for name, values in self.differing.items()]
        lines += ["", *(f"- {_markdown(note)}" for note in self.notes())]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """Returns one page without scripts, links or anything from a network, readable on light and dark."""
        title = "Comparison of embedders"
        return page(title, joined([fill("<h1>{}</h1>", title), self.body()]))

    def body(self) -> Markup:
        """Returns what :meth:`html` shows below its title, to be put into another page."""
        titles = ["task", "items", *(column.title for column in self.columns)]
        rows = [table_row(titles, tag="th")]
        for heading, group in self._sections():
            rows.append(fill('<tr><th class="group" colspan="{}">{}</th></tr>', len(titles), heading))
            for line in group:
                cells = joined(map(_html_cell, line.cells))
                rows.append(
                    fill('<tr><th scope="row">{}</th><td class="number">{}</td>{}</tr>', line.name, _size(line), cells)
                )
        parts = [box(rows)]
        if self.differing:
            settings = [table_row([name, *values]) for name, values in self.differing.items()]
            header = table_row(["setting", *(column.name for column in self.columns)], tag="th")
            parts += [fill("<h3>Settings that differ</h3>"), box([header, *settings])]
        notes = joined(fill("<li>{}</li>", note) for note in self.notes())
        return joined([*parts, fill("<h3>How to read it</h3>\n<ul>\n{}\n</ul>", notes)])

    def _sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Yields headings with the rows below them."""
        for category in dict.fromkeys(row.category for row in self.tasks):
            yield category, [row for row in self.tasks if row.category == category]
        if self.average_name is not None:
            yield self.average_name, list(self.averages)


def _size(row: Row) -> str:
    """Names what a task's interval is over."""
    return f"{row.items:,} {row.unit}" if row.items else ""


def _shown(cell: Cell) -> str:
    if cell.score is None:
        return "-"
    return " ".join(filter(None, (_score(cell), _difference(cell))))


def _score(cell: Cell) -> str:
    spread = "" if cell.sd is None else f" ± {cell.sd:.2f}"
    return f"{cell.score:.2f}{spread}"


def _difference(cell: Cell) -> str:
    found = cell.difference
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{_signed(found.value)} [no interval]"
    interval = f"{_signed(found.value)} [{_signed(found.low)}, {_signed(found.high)}]"
    return interval if found.significant else f"{interval} n.s."


def _signed(value: float) -> str:
    rounded = round(value, 2)
    return "0.00" if rounded == 0 or not math.isfinite(rounded) else f"{rounded:+.2f}"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", plain(text))


def _markdown_row(cells: list[str], *, bold: bool = False) -> str:
    shown = [_markdown(cell) for cell in cells]
    return "| " + " | ".join(f"**{cell}**" if bold and cell else cell for cell in shown) + " |"


def _html_cell(cell: Cell) -> Markup:
    if cell.score is None:
        return fill('<td class="number">-</td>')
    significant = cell.difference.significant if cell.difference else None
    kind = {True: "clear", False: "unclear", None: "unknown"}[significant]
    difference = fill('<br><small class="{}">{}</small>', kind, _difference(cell)) if cell.difference else ""
    return fill('<td class="number">{}{}</td>', _score(cell), difference)
