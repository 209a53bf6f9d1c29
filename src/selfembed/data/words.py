"""What a word, a sentence and a usable text are, in any script.

White space parts words in most scripts. Chinese, Japanese, Thai, Lao, Khmer, Burmese and a few more write none; there
each letter with its marks counts as a word, as Unicode's default word boundaries have it for Chinese (UAX #29). On
tokenizers that know such a script a letter is about two thirds of a token, on those that do not about two tokens, and
an English word is 1.1 to 1.3, so passages come out of about the same size in tokens.
"""

from __future__ import annotations

import re
import unicodedata

MAX_ROW = 64_000_000
"""Number of characters beyond which a row, field or uncut text is refused, which bounds memory."""

_MAX_ASCII_RUN, _MAX_RUN = 1_000, 10_000  # characters of one word: nothing in ASCII is written without spaces

GLUE = "\0"
"""Begins a word that no space parts from the one before; no text has this character."""

_WIDE = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309b-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)  # Han, kana, bopomofo, Yi
_SOUTH_EAST_ASIAN = (
    "\u0e01-\u0e7f\u0e80-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f"
    "\ua980-\ua9df\ua9e0-\ua9ff\uaa00-\uaadf"
)  # Thai, Lao, Tibetan, Myanmar, Khmer, Tai, Balinese, Javanese, Cham


def _marks() -> str:
    """Writes all combining marks of the Basic Multilingual Plane as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x10000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\u{low:04x}-\\u{high:04x}" for low, high in ranges)


MARKS = _marks() + "\u200c\u200d"
"""Combining marks and joiners, for a character class of a regular expression: they belong to the letter before."""

_CLASS = _WIDE + _SOUTH_EAST_ASIAN
_UNSPACED = re.compile(rf"(?=\w)[{_CLASS}]")
_PERHAPS_UNSPACED = re.compile(f"[{_CLASS}]")  # is found sooner
_OPENING = "([{<（［｛「『【〔〖《〈“‘﹁﹃"
# A letter or a word of another script, what opens it, and the marks and signs that follow it.
_UNIT = re.compile(
    rf"(?:(?![{_CLASS}\w])[^\s])*(?:[{_CLASS}][{MARKS}]*|(?:(?![{_CLASS}])[\w{MARKS}])+)"
    rf"(?:(?![{_CLASS}\w{re.escape(_OPENING)}])[^\s])*|[^\s]+?"
)
_JOINED = re.compile(rf"[{_WIDE}\u3001-\u301f\uff01-\uff65]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Western marks end a sentence before a space and a letter that is not small; those of other scripts by themselves.
_CLOSING = "」』”’）】》〉»\"')\\]"
_SENTENCE_END = re.compile(
    rf"(?<=[.!?])(?P<western>[\"')\]]*\s+)(?=[^a-z\s])"
    rf"|(?<=[。！？｡])(?![。！？｡])[{_CLOSING}]*\s*"
    rf"|(?<=[{_WIDE}][.!?])(?=[{_WIDE}])"
    rf"|(?<=[।॥؟۔։።។။])(?![।॥؟۔։።។။])[{_CLOSING}]*\s*"
)


def split_words(text: str) -> list[str]:
    """Splits a text into words; `join_words` makes them a text again, with single spaces for white space.

    Args:
        text: A text without NUL characters.

    Returns:
        The words between white space. Where most of a text is in a script without spaces, each letter is a word, and
        begins with `GLUE` where no space parts it from the word before.
    """
    words = text.split()
    if text.isascii() or not mostly_unspaced(text):
        return words
    units: list[str] = []
    for word in words:
        first, *others = _UNIT.findall(word)
        units.append(first)
        units += (GLUE + other for other in others)
    return units


def join_words(words: list[str]) -> str:
    """Joins words to a text, the reverse of `split_words`."""
    text = " ".join(words)
    return text.replace(f" {GLUE}", "").removeprefix(GLUE) if GLUE in text else text


def count_words(text: str) -> int:
    """Counts the words of a text, in any script."""
    return len(split_words(text.replace(GLUE, " ")))


def joins(before: str, after: str) -> bool:
    """Says whether a line goes on in the next without a space, as wrapped Chinese and Japanese do."""
    last, next_ = before.rstrip()[-1:], after.lstrip()[:1]
    wide = (last in ",.;:!?" or _JOINED.fullmatch(last)) and _JOINED.fullmatch(next_)
    return bool(last and wide) and mostly_unspaced(before.rstrip() + after.lstrip())


def mostly_unspaced(text: str) -> bool:
    """Says whether a text has more than two letters of scripts without spaces for each space-separated word."""
    return _PERHAPS_UNSPACED.search(text) is not None and len(_UNSPACED.findall(text)) > 2 * len(text.split())


def first_sentence(text: str) -> tuple[str, str]:
    """Splits off a text's first line or sentence, whichever ends earlier; the rest may be empty."""
    line, _, below = text.strip().partition("\n")
    if found := _SENTENCE_END.search(line):
        ends = found.start() if found["western"] else found.end()
        return line[:ends].strip(), f"{line[found.end() :]}\n{below}".strip()
    return line.strip(), below.strip()


def heading_of(line: str) -> str:
    """Makes a title of a line; "" where the line reads like running text."""
    line = " ".join(line.split())
    ends_like_text = line.endswith((".", "!", "?", ",", ";", ":", "。", "！", "？", "，", "；", "、", "।"))
    return "" if not line or ends_like_text or len(line) > 120 or count_words(line) > 20 else line


def problem_of(text: str, words: list[str], encoding: str = "utf-8") -> str:
    """Says why a text cannot be used; "" where it can.

    Args:
        text: The text as read, with lone surrogates for bytes that are not in the encoding.
        words: The words of the text, see `split_words`.
        encoding: Name of the encoding, for the message.
    """
    if "\0" in text:
        return "NUL character"
    if not text.isascii() and _SURROGATE.search(text):
        return f"invalid {encoding}"
    if len(text) > _MAX_ASCII_RUN:
        for word in words:
            if len(word) > (_MAX_ASCII_RUN if word.isascii() else _MAX_RUN):
                return f"over {_MAX_ASCII_RUN if word.isascii() else _MAX_RUN:,} characters without a space"
    return ""


def advice_on(problem: str) -> str:
    """Says what to do about what `problem_of` found."""
    if problem.startswith("invalid"):
        return "convert it to UTF-8, or give its encoding"
    if problem.startswith("NUL"):
        return "a binary or UTF-16 file? convert it to UTF-8, or give its encoding"
    return "this is no running text; remove it"
