"""The embedded corpus: the English prose that every Python carries, in its help topics and docstrings."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import random
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfembed.errors import InputError


@dataclass(frozen=True)
class DocstringPair:
    """A docstring as a question and its answer: the summary finds the body.

    Attributes:
        qualified_name: Module and name, like "json.decoder.JSONDecoder.decode".
        summary: Its first paragraph.
        body: Its other paragraphs of prose, joined.
        module: The module whose file it is in.
    """

    qualified_name: str
    summary: str
    body: str
    module: str


def python_docs(*, held_out: Collection[str] = ()) -> Iterator[str]:
    """Yields paragraphs of English prose from this Python's help topics and its standard library's docstrings.

    The order is fixed and there are no duplicates; modules are parsed, never imported.

    Args:
        held_out: Qualified names of docstrings to leave out. Left out too is every paragraph that is part of one of
            them, or that contains one of their paragraphs.

    Raises:
        InputError: No docstring has such a name.
    """
    docs = _docstrings()
    names = set(held_out)
    if unknown := sorted(names - {doc.name for doc in docs}):
        raise InputError(
            f"held_out {unknown[0]!r}: this Python has no such docstring; expected names out of docstring_pairs()"
        )
    held = [paragraph for doc in docs if doc.name in names for paragraph in doc.paragraphs]
    # One string to search, and the paragraphs by their first three words, since all pairs would be too many.
    inside = "\n".join(held).casefold()
    starts: dict[tuple[str, ...], list[str]] = {}
    for paragraph in held:
        if len(words := paragraph.casefold().split()) >= 4:
            starts.setdefault(tuple(words[:3]), []).append(" ".join(words))

    def leaks(paragraph: str) -> bool:
        text = paragraph.casefold()
        words = text.split()
        grams = zip(words, words[1:], words[2:], strict=False)
        return text in inside or any(part in text for gram in grams for part in starts.get(gram, ()))

    paragraphs = [paragraph for topic in _topics().values() for paragraph in topic]
    paragraphs += [paragraph for doc in docs if doc.name not in names for paragraph in doc.paragraphs]
    for paragraph in dict.fromkeys(paragraphs):
        if _is_prose(paragraph) and not (held and leaks(paragraph)):
            yield paragraph


def titled_python_docs(*, held_out: Collection[str] = ()) -> Iterator[dict[str, str]]:
    """Yields the paragraphs of :func:`python_docs` as rows, each with the name of its topic or docstring.

    Args:
        held_out: Names of docstrings to leave out, see :func:`python_docs`.

    Yields:
        Rows with "text" and "title", those of one title one after the other.

    Raises:
        InputError: No docstring has such a name.
    """
    kept = set(python_docs(held_out=held_out))
    documents = [*_topics().items(), *((doc.name, doc.paragraphs) for doc in _docstrings())]
    for title, paragraphs in documents:
        for paragraph in paragraphs:
            if paragraph in kept:
                kept.remove(paragraph)
                yield {"text": paragraph, "title": title}


def docstring_pairs() -> list[DocstringPair]:
    """Gives summaries and bodies of the standard library's docstrings, in a fixed order.

    A summary has 4 to 40 words and a body at least 15 words of prose that do not repeat it. A summary or a body that
    occurs twice picks out nothing, so all its pairs are left out.
    """
    pairs = []
    for doc in _docstrings():
        summary, *rest = doc.paragraphs or ("",)
        body = " ".join(filter(_is_prose, rest))
        if (
            4 <= len(summary.split()) <= 40
            and len(body.split()) >= 15
            and _letters(summary) >= 0.75
            and not _GENERIC.search(summary)
            and _key(summary) not in _key(body)
        ):
            pairs.append(DocstringPair(doc.name, summary, body, doc.module))
    summaries = Counter(_key(pair.summary) for pair in pairs)
    bodies = Counter(_key(pair.body) for pair in pairs)
    names = Counter(pair.qualified_name for pair in pairs)
    return [
        pair
        for pair in pairs
        if summaries[_key(pair.summary)] == bodies[_key(pair.body)] == names[pair.qualified_name] == 1
    ]


def help_pages(*, words: int = 60) -> dict[str, str]:
    """Gives the first words of Python's help on its public modules and on topics of the language.

    Args:
        words: Number of words of each page, at most.

    Returns:
        Pages by name, "gzip" for a module and "topic: lambda" for a topic, without codecs and distutils.
    """
    pages = {
        doc.name: " ".join(doc.paragraphs)
        for doc in _docstrings()
        if doc.name == doc.module
        and not any(part.startswith("_") for part in doc.module.split("."))
        and not doc.module.startswith(("encodings.", "distutils."))
    }
    pages |= {f"topic: {name}": " ".join(paragraphs) for name, paragraphs in _topics().items()}
    return {name: " ".join(text.split()[:words]) for name, text in pages.items()}


def split_pairs(
    pairs: Sequence[DocstringPair], n_held_out: int, seed: int = 0
) -> tuple[list[DocstringPair], list[DocstringPair]]:
    """Splits pairs into those to train on and exactly `n_held_out` others, each in the given order.

    Modules are held out whole, so that the held-out docstrings have few near-duplicates among the others. At most one
    module is divided, to make up the number.

    Args:
        pairs: The pairs.
        n_held_out: Number of pairs to hold out.
        seed: Seed for the order in which modules are held out.

    Returns:
        The pairs to train on, and those held out.

    Raises:
        InputError: There are not that many pairs, or none would be left.
    """
    if not 0 < n_held_out < len(pairs):
        raise InputError(f"n_held_out {n_held_out}: expected 1 to {max(len(pairs) - 1, 1)} of {len(pairs)} pairs")
    sizes = Counter(pair.module for pair in pairs)
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    quota: dict[str, int] = {}
    left = n_held_out
    for module in order:
        if sizes[module] <= left:
            quota[module] = sizes[module]
            left -= sizes[module]
    if left:  # every other module is larger than what is left
        quota[min((module for module in order if module not in quota), key=sizes.__getitem__)] = left
    train, held = [], []
    for pair in pairs:
        if quota.get(pair.module, 0) > 0:
            quota[pair.module] -= 1
            held.append(pair)
        else:
            train.append(pair)
    return train, held


@dataclass(frozen=True)
class _Docstring:
    name: str
    module: str
    paragraphs: tuple[str, ...]


_NOT_WALKED = {"test", "tests", "idlelib", "turtledemo", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
_GENERIC = re.compile(r"help\(type\(self\)\)|^(see|same as|like|this (method|function)|deprecated|internal)\b", re.I)
_FUNCTION_WORDS = re.compile(
    r"\b(an?|and|are|as|at|be|by|can|for|from|has|if|in|is|it|not|of|on|or|that|the|this|to|when|which|will|with)\b",
    re.I,
)
_RULE = re.compile(r"[^\w\s]{3,}")  # the line under a heading
_MARKUP = (
    (re.compile(r":[a-z:]+:`~?([^`<]+?)(?: ?<[^`>]*>)?`"), r"\1"),  # :class:`Name`
    (re.compile(r"``?([^`]+)`?`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s]+)\*(?![\w*])"), r"\1"),
    (re.compile(r"::$"), ":"),
)


@functools.cache
def _docstrings() -> list[_Docstring]:
    """All docstrings of the standard library, parsed once a process."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: list[_Docstring] = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in _NOT_WALKED and name.isidentifier())
        for path in (Path(folder, name) for name in sorted(files) if name.endswith(".py")):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # invalid escapes in old sources
                    tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, OSError, RecursionError):
                continue
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found += (_Docstring(name, module, paragraphs) for name, paragraphs in _documented(tree, module))
    return found


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and paragraphs of a module, class or function and of what is defined inside it."""
    if (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (doc := ast.get_docstring(node, clean=False))
        and (paragraphs := tuple(_paragraphs(doc)))
    ):
        yield name, paragraphs
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child, f"{name}.{child.name}")
        elif isinstance(child, ast.stmt | ast.excepthandler):  # definitions may be under if and try
            yield from _documented(child, name)


def _topics() -> dict[str, list[str]]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some systems leave it out
        return {}
    return {name: list(_paragraphs(topics[name])) for name in sorted(topics)}


def _paragraphs(doc: str) -> Iterator[str]:
    """The paragraphs of a docstring, one line each, without examples and with little markup."""
    lines: list[str] = []
    example = False
    for line in [*inspect.cleandoc(doc).splitlines(), ""]:
        line = line.strip()
        example = bool(line) and (example or line.startswith(">>>"))
        if line and not example:
            if not _RULE.fullmatch(line) and not line.startswith(".. "):
                lines.append(line)
        elif lines:
            text = " ".join(" ".join(lines).split())
            for pattern, plain in _MARKUP:
                text = pattern.sub(plain, text)
            yield text
            lines = []


def _is_prose(text: str) -> bool:
    words = len(text.split())
    if words < 8 or "::=" in text or _letters(text) < 0.8:
        return False
    return len(_FUNCTION_WORDS.findall(text)) >= 0.1 * words  # lists of names have none


def _letters(text: str) -> float:
    """Share of letters and sentence marks in what is not space."""
    solid = "".join(text.split())
    return sum(char.isalpha() or char in ".,;" for char in solid) / len(solid)


def _key(text: str) -> str:
    return text.casefold().rstrip(".")
