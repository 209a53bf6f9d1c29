"""Draws numbers as pictures: SVG to stand inside a page, its text as text and its colours the page's.

Everything is drawn in stand-in colours, which become the CSS variables of :mod:`selfembed.ground.page`, so that a
picture follows the page from light to dark. Series differ by dash, hatching or marker too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

_INK, _DIM, _GRID, _PAPER, _RAW, _TRAINED = (f"#0{i}0{i}0{i}" for i in range(1, 7))
_VARIABLES = {
    _INK: "var(--ink)",
    _DIM: "var(--dim)",
    _GRID: "var(--grid)",
    _PAPER: "var(--paper)",
    _RAW: "var(--raw)",
    _TRAINED: "var(--trained)",
}
_FONT = "system-ui, sans-serif"
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _DIM,
    "axes.labelcolor": _DIM,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "xtick.color": _DIM,
    "ytick.color": _DIM,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 1.0,
    "hatch.color": _RAW,
    "legend.frameon": False,
}
_WIDTH = 5.2  # inches, of 72 units each
_RAW_BARS = {"facecolor": _PAPER, "edgecolor": _RAW, "hatch": "////", "linewidth": 1}
_TRAINED_BARS = {"facecolor": _TRAINED, "edgecolor": _TRAINED, "linewidth": 1}
_TINT = 0.45  # of a cell's colour at the most: its number stays readable on either ground
_NUMBERED = 16  # rows of a heat map whose cells have room for a number


def loss_curve(losses: Sequence[float], *, name: str) -> str:
    """Draws the loss of every step, and its running mean over a tenth of the steps, at least five.

    Args:
        losses: The losses in nats, one for each step, at least one.
        name: The beginning of all ids in the picture; no two pictures of a page may share it.
    """
    steps = np.arange(1, len(losses) + 1)
    window = min(len(losses), max(5, len(losses) // 10))
    summed = np.cumsum([0.0, *losses])
    starts = np.maximum(steps - window, 0)
    mean = (summed[steps] - summed[starts]) / (steps - starts)

    def draw(axes: Axes) -> None:
        marker = "o" if len(losses) == 1 else None
        axes.plot(steps, losses, color=_DIM, linewidth=0.7, linestyle=(0, (2, 1.2)), marker=marker, label="each step")
        axes.plot(steps, mean, color=_TRAINED, linewidth=2, label=f"mean of the last {window}")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("loss, nats")

    return _svg(draw, name, f"loss of {len(losses)} steps, from {losses[0]:.3f} to {losses[-1]:.3f}")


def hit_share(raw: float, trained: float, *, name: str) -> str:
    """Draws two bars: the share of the aligned tokens that occur in their text, from 0 to 1."""

    def draw(axes: Axes) -> None:
        axes.barh([1], [100 * raw], height=0.6, **_RAW_BARS)
        axes.barh([0], [100 * trained], height=0.6, **_TRAINED_BARS)
        for y, share in ((1, raw), (0, trained)):
            axes.text(100 * share + 1.5, y, f"{share:.1%}", va="center")
        axes.set_yticks([1, 0], ["raw", "trained"])
        axes.set_xlim(0, 115)
        axes.set_xticks(range(0, 101, 20))
        axes.grid(axis="y", visible=False)
        axes.set_title("aligned tokens that occur in the text, %")

    return _svg(draw, name, f"share of hits: raw {raw:.1%}, trained {trained:.1%}", height=1.5, legend=False)


def hit_histogram(raw: Sequence[int], trained: Sequence[int], *, name: str) -> str:
    """Draws the numbers of texts with h hits, at place h of either sequence."""
    hits = np.arange(len(raw))

    def draw(axes: Axes) -> None:
        axes.bar(hits - 0.2, raw, width=0.36, label="raw", **_RAW_BARS)
        axes.bar(hits + 0.2, trained, width=0.36, label="trained", **_TRAINED_BARS)
        axes.set_xlabel(f"hits among the top {len(raw) - 1}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)
        axes.set_title("texts")

    return _svg(draw, name, f"texts by hits; raw: {list(raw)}; trained: {list(trained)}")


def singular_values(raw: Sequence[float], trained: Sequence[float], *, name: str) -> str:
    """Draws both spectra, largest first, those values above zero, on a logarithmic scale."""

    def draw(axes: Axes) -> None:
        for values, label, style in (
            (raw, "raw", {"color": _RAW, "linestyle": (0, (4, 1.5))}),
            (trained, "trained", {"color": _TRAINED}),
        ):
            shown = [value for value in values if value > 0]
            axes.plot(range(1, len(shown) + 1), shown, label=label, linewidth=1.8, **style)
        if positive := [value for value in (*raw, *trained) if value > 0]:
            axes.set_yscale("log")
            narrow = max(positive) < 300 * min(positive)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("direction, strongest first")
        axes.set_title("singular value")

    return _svg(draw, name, f"singular values of {len(raw)} directions, raw and trained")


def variation(by_component: Sequence[float], raw_coefficient: Sequence[float], *, name: str, shown: int = 12) -> str:
    """Draws how far training moved the embeddings along the first principal components of the raw ones."""
    moved, coefficients = list(by_component)[:shown], list(raw_coefficient)[:shown]
    components = np.arange(1, len(moved) + 1)

    def draw(axes: Axes) -> None:
        # The first component is often a hundred times the rest: logarithmic, but linear about zero.
        largest = max(map(abs, (*moved, *coefficients))) or 1.0
        axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(largest / 30)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.bar(components, moved, width=0.6, label="moved by", **_TRAINED_BARS)
        axes.plot(
            components,
            coefficients,
            color=_RAW,
            linestyle="none",
            marker="D",
            markersize=4.5,
            markerfacecolor=_PAPER,
            clip_on=False,
            label="raw coefficient",
        )
        axes.axhline(0, color=_DIM, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("principal component of the raw embeddings")
        axes.grid(axis="x", visible=False)
        axes.set_title("mean coefficient, logarithmic away from 0")

    return _svg(draw, name, f"first component: {coefficients[0]:.3f}, moved by {moved[0]:+.3f}")


def score_bars(scores: Sequence[tuple[str, float]], *, name: str) -> str:
    """Draws a bar for each task's score in percent."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(scores))[::-1]
        axes.barh(places, [score for _, score in scores], height=0.6, **_TRAINED_BARS)
        for place, (_, score) in zip(places, scores, strict=True):
            axes.text(max(score, 0) + 1.5, place, f"{score:.1f}", va="center")
        axes.set_yticks(places, [task if len(task) <= 28 else task[:27] + "…" for task, _ in scores])
        axes.set_xlim(min(0, *(score for _, score in scores), 0), 115)
        axes.set_xticks(range(0, 101, 20))
        axes.grid(axis="y", visible=False)
        axes.set_title("score, %")

    height = 0.7 + 0.24 * len(scores)
    return _svg(draw, name, "; ".join(f"{task} {score:.1f}" for task, score in scores), height=height, legend=False)


def heat_map(matrix: Sequence[Sequence[float]], *, name: str, framed: float) -> str:
    """Draws the mean cosines of memory tokens, a cell each; those of two tokens from `framed` on have a frame."""
    size = len(matrix)

    def draw(axes: Axes) -> None:
        for row, column in np.ndindex(size, size):
            value = matrix[row][column]
            colour, tint = _TRAINED if value >= 0 else _RAW, _TINT * min(1.0, abs(value))
            axes.add_patch(Rectangle((column + 0.53, row + 0.53), 0.94, 0.94, facecolor=colour, alpha=tint))
            if row != column and value >= framed:
                axes.add_patch(Rectangle((column + 0.53, row + 0.53), 0.94, 0.94, fill=False, edgecolor=_INK))
            if size <= _NUMBERED:
                shown = f"{value:.2f}"
                axes.text(column + 1, row + 1, shown, ha="center", va="center", fontsize=8.5 if size <= 8 else 6)
        axes.set_xlim(0.5, size + 0.5)
        axes.set_ylim(size + 0.5, 0.5)
        axes.set_aspect("equal")
        axes.set_xticks(range(1, size + 1))
        axes.set_yticks(range(1, size + 1))
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_title("mean cosine of two memory tokens")

    between = np.asarray(matrix)[~np.eye(size, dtype=bool)]
    height = min(_WIDTH, 0.7 + 0.45 * size)
    described = f"mean cosines of {size} memory tokens, from {between.min():.2f} to {between.max():.2f}"
    return _svg(draw, name, described, height=height, legend=False)


def _svg(
    draw: Callable[[Axes], None], name: str, description: str, *, height: float = 2.5, legend: bool = True
) -> str:
    """Draws on one pair of axes and makes it an element of a page."""
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=True)
        axes.tick_params(length=0)
        draw(axes)
        if legend:
            figure.legend(loc="outside upper right", ncols=2, handlelength=2.5)
        file = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _for_page(file.getvalue(), name, description)


def _for_page(svg: bytes, name: str, description: str) -> str:
    """Takes off namespaces, size, style sheet and font; gives the picture ids of its own and the page's colours."""
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == "href":
                value = value.replace("#", f"#{name}-", 1)
            else:
                value = value.replace("url(#", f"url(#{name}-")
            if key == "style":
                value = re.sub(r"(font: [^;']*?px) [^;]*", rf"\1 {_FONT}", value)  # one or the other, as the
                value = re.sub(r"font-family: [^;]*", f"font-family: {_FONT}", value)  # version of matplotlib has it
                value = re.sub(r"#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), value)
            elif value in _VARIABLES:  # a bare attribute takes no variable
                key, value = "style", f"{key}: {_VARIABLES[value]}"
            element.set(key, value)
    box = root.get("viewBox")
    root.attrib.clear()
    root.attrib.update({"viewBox": box or "", "role": "img", "aria-label": description})
    return ElementTree.tostring(root, encoding="unicode")
