"""The lexical side: BM25 over stemmed words, by bm25s.

bm25s and snowballstemmer are an extra; both are checked before anything is computed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np

from selfembed.ground.extras import require_extra
from selfembed.ground.options import require_choice

# Languages that have both stop words (bm25s) and a stemmer (Snowball); "none" uses neither.
Language = Literal[
    "english", "danish", "dutch", "french", "german", "italian", "norwegian", "portuguese", "russian", "spanish",
    "swedish", "turkish", "none",
]  # fmt: skip
LANGUAGES: tuple[Language, ...] = get_args(Language)

# Two letters or more make a word; scripts that put no space between words are taken sign by sign.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]{{2,}}")


class Words:
    """Turns texts into stemmed words without stop words, always in the same way."""

    def __init__(self, language: str) -> None:
        """Prepares one language.

        Args:
            language: The language, one of :data:`LANGUAGES`.

        Raises:
            InputError: The language is unknown, or the extra `search` is not installed.
        """
        require_choice("language", language, LANGUAGES)
        require_extra("search")
        self._stems: dict[str, str] = {}  # "" for a stop word
        self._stemmer: Any = None
        if language != "none":
            stop_words = importlib.import_module("bm25s.stopwords")
            lists = {"english": "STOPWORDS_EN"}
            self._stems = dict.fromkeys(getattr(stop_words, lists.get(language, f"STOPWORDS_{language.upper()}")), "")
            self._stemmer = importlib.import_module("snowballstemmer").stemmer(language)

    def of(self, text: str) -> list[str]:
        """Returns the words of a text in order."""
        found = (self._stem(word) for word in _WORD.findall(text.lower()))
        return [word for word in found if word]

    def _stem(self, word: str) -> str:
        stem = self._stems.get(word)
        if stem is None:
            stem = self._stems[word] = self._stemmer.stemWord(word) if self._stemmer else word
        return stem


class LexicalIndex:
    """A BM25 index on disk."""

    def __init__(self, folder: Path, language: str) -> None:
        """Names an index that :meth:`write` has left.

        Args:
            folder: The folder of the index, which is read when it is first needed.
            language: The language that it was written with.
        """
        self.folder = folder
        self.words = Words(language)

    @staticmethod
    def write(folder: Path, texts: Iterable[str], language: str) -> None:
        """Writes the index of some texts; equal texts in the same order make equal files.

        Args:
            folder: The folder of the index; it is made if it is not there.
            texts: The texts to be found.
            language: The language of stop words and stemmer.
        """
        import bm25s  # type: ignore[import-untyped]

        words = Words(language)
        numbers: dict[str, int] = {}
        ids = [[numbers.setdefault(word, len(numbers)) for word in words.of(text)] for text in texts]
        if not numbers:  # stop words alone: bm25s takes no empty vocabulary, and nothing will ask for this word
            numbers, ids[0] = {"": 0}, [0]
        # lucene's variant: never negative, nothing for a word that does not occur
        model = bm25s.BM25(method="lucene")
        model.index((ids, numbers), show_progress=False)
        model.save(folder, show_progress=False)

    @cached_property
    def _model(self) -> Any:
        import bm25s

        return bm25s.BM25.load(self.folder, mmap=True, show_progress=False)

    def scores(self, words: Sequence[str]) -> np.ndarray | None:
        """Scores every passage by BM25, shape (N,); returns None where no passage has any of the words.

        Args:
            words: The words of the query, from `self.words`.
        """
        known = [self._model.vocab_dict[word] for word in words if word in self._model.vocab_dict]
        return self._model.get_scores_from_ids(known) if known else None


@contextmanager
def temporary_index(texts: Iterable[str], language: str = "english") -> Iterator[LexicalIndex]:
    """Makes the index of some texts, which is gone when the block is left.

    Args:
        texts: The texts to be found.
        language: The language of stop words and stemmer.

    Raises:
        InputError: The extra `search` is not installed.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        LexicalIndex.write(Path(folder), texts, language)
        yield LexicalIndex(Path(folder), language)
