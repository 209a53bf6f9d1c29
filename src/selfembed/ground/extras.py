"""Packages that only some of the work needs, and what to install for them."""

from __future__ import annotations

from importlib.util import find_spec

from selfembed.errors import MissingPackage

# The extras of pyproject.toml, with the modules that each brings and what it is for.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "eval": ("scoring embedders", ("mteb", "pytrec_eval", "scipy")),
    "search": ("searching by words", ("bm25s", "snowballstemmer")),
    "faiss": ("approximate search", ("faiss",)),
    "explain": ("the report's pictures", ("matplotlib",)),
    "tagger": ("the tagger 'hanta'", ("HanTa",)),
    "spacy": ("a tagger of spaCy's", ("spacy",)),
}


def missing_package(extra: str) -> str | None:
    """Names the first package of an extra that is not installed; None where all are. Nothing is imported."""
    _, modules = EXTRAS[extra]
    return next((name for name in modules if find_spec(name) is None), None)


def require_extra(extra: str) -> None:
    """Refuses to begin work for which a package is missing.

    Args:
        extra: Name of the extra, a key of `EXTRAS`.

    Raises:
        MissingPackage: One of its packages is not installed; the message says how to install them.
    """
    name = missing_package(extra)
    if name is not None:
        purpose, _ = EXTRAS[extra]
        raise MissingPackage(
            f'package {name}: not installed; expected for {purpose}; run: pip install "selfembed[{extra}]"', name=name
        )
