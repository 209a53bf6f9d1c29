"""One self-contained HTML page: its style, tables, and escaping that cannot be forgotten.

Text becomes part of a page through :func:`fill` only, which escapes whatever is not :class:`markupsafe.Markup` yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

# Characters that join letters or signs in many scripts; str.isprintable counts them as controls.
_JOINERS = "\u200c\u200d"


def plain(text: str) -> str:
    """Replaces what moves a cursor or reverses the direction of writing by "?": names and texts come from files."""
    return "".join(c if c.isprintable() or c in _JOINERS else "?" for c in text)


def shorten(text: str, characters: int = 200) -> str:
    """Cuts a text to the characters that are shown."""
    return text if len(text) <= characters else text[:characters] + " ..."


def fill(form: str, *parts: Any) -> Markup:
    """Replaces each `{}` of a form by a part: markup as it is, anything else plain and escaped."""
    return Markup(form).format(*(part if isinstance(part, Markup) else plain(str(part)) for part in parts))


def joined(parts: Iterable[Markup]) -> Markup:
    """Joins pieces of markup, a line each."""
    return Markup("\n").join(parts)


def table_row(cells: Iterable[Any], *, tag: str = "td") -> Markup:
    """Makes a table row of plain cells."""
    return fill("<tr>{}</tr>", joined(fill(f"<{tag}>{{}}</{tag}>", cell) for cell in cells))


def box(rows: Iterable[Markup]) -> Markup:
    """Makes a table of rows, which scrolls by itself where it is wider than the page."""
    return fill('<div class="box"><table>\n{}\n</table></div>', joined(rows))


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markup:
    """Makes a table whose first column names the rows; the others are numbers or words."""
    lines = [table_row(header, tag="th")] if header else []
    for name, *cells in rows:
        values = joined(fill('<td class="number">{}</td>', cell) for cell in cells)
        lines.append(fill('<tr><th scope="row">{}</th>{}</tr>', name, values))
    return box(lines)


def page(title: str, body: Markup) -> str:
    """Makes the whole page: no script, nothing from a network, readable on light and dark."""
    return str(Markup(_PAGE).format(title=plain(title), style=Markup(_STYLE), body=body))


# Series differ by colour on either ground, and by dash, hatching or marker besides.
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f23; --dim: #5c646d; --grid: #d9dde1;
  --raw: #b4500b; --trained: #0b5fa5; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e4e7ea; --dim: #9aa3ac; --grid: #343a41; --raw: #f0a35c; --trained: #6db7f5; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
a { color: var(--trained); }
p { max-width: 46rem; margin: .5rem 0; }
.dim, figcaption { color: var(--dim); }
.box { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--grid); padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top;
  font-weight: normal; }
tr:first-child th:not([scope]), .group { font-weight: bold; }
.group { padding-top: 1rem; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide td { white-space: normal; min-width: 8rem; }
.clear { font-weight: bold; }
.unclear, .unknown { opacity: .75; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem 2rem; }
figure { margin: .5rem 0; min-width: 0; }
figure svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
pre { overflow-x: auto; font-size: .85rem; border: 1px solid var(--grid); padding: .8rem; }
blockquote { margin: 1.2rem 0 .3rem; padding-left: .8rem; border-left: 3px solid var(--grid); }
.tokens { line-height: 2; margin: .2rem 0; max-width: none; }
.said { padding-left: 5.5rem; }
.token { display: inline-block; line-height: 1.45; padding: 0 .4rem; border-radius: .3rem; white-space: pre-wrap;
  border: 1px solid var(--grid); }
.token.miss { border-style: dashed; }
.token.hit { border: 1px solid currentColor; font-weight: 600; }
.token small { color: var(--dim); font-weight: normal; }
form { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0 1.5rem; }
input, select, button { font: inherit; padding: .3rem .5rem; }
input[type=search] { flex: 1 1 16rem; min-width: 0; }
.hits { padding-left: 2rem; }
.hits li { margin: 0 0 1.2rem; }
.who { display: inline-block; width: 5.5rem; margin-left: -5.5rem; color: var(--dim); }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
