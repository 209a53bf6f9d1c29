"""The parts that the sections of the report are put together from."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from selfembed.explanation.aligned_tokens import AlignedToken
from selfembed.ground.page import fill, joined, shorten

_SHOWN_CHARACTERS = 280


def dim(sentence: str) -> Markup:
    """Makes a sentence on how to read what follows."""
    return fill('<p class="dim">{}</p>', sentence)


def without(reason: str) -> Markup:
    """Says in place of a section, or below it, what is missing and why."""
    return fill('<p class="without">{}.</p>', reason[:1].upper() + reason[1:])


def figure(svg: str, caption: str) -> Markup:
    """Puts a picture above its caption."""
    return fill("<figure>{}<figcaption>{}</figcaption></figure>", Markup(svg), caption)


def quote(text: str) -> Markup:
    """Shows the beginning of a text."""
    return fill("<blockquote>{}</blockquote>", shorten(text, _SHOWN_CHARACTERS))


def chips(who: str, tokens: Sequence[AlignedToken]) -> Markup:
    """Shows aligned tokens in a row, behind whose they are."""
    shown = [chip(token.token, f"{token.probability:.1%}", hit=token.in_text) for token in tokens]
    return fill('<p class="tokens said"><span class="who">{}</span> {}</p>', who, joined(shown))


def chip(token: str, value: str, *, hit: bool | None = None) -> Markup:
    """Shows a token with its number; its frame says whether it is a hit, where that is asked."""
    shown = repr(token)[1:-1]
    if shown.startswith(" "):
        shown = "·" + shown[1:]  # a leading space makes another token
    return fill(
        '<span class="token{}">{} <small>{}</small></span>',
        {None: "", True: " hit", False: " miss"}[hit],
        shown,
        value,
    )


def lines(text: str) -> Markup:
    """Shows lines of text, each plain."""
    return Markup("\n").join(fill("{}", line) for line in text.split("\n"))
