"""Part-of-speech taggers: which words of a text are nouns, proper nouns, adjectives or something else.

Text2Token (arXiv 2510.10224, footnote 2) tags with spaCy's `en_core_web_sm`. Any spaCy pipeline will do; HanTa (a
pip package with its English model inside) serves where none is installed.

A *span* is `(start, end, tag)`, a word's half-open character range in its text and its
universal part of speech (NOUN, PROPN, ADJ, VERB, ...; https://universaldependencies.org/u/pos).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from selfembed.data.words import MARKS
from selfembed.errors import InputError
from selfembed.ground.extras import require_extra
from selfembed.targets.language import language_name, other_language

Span = tuple[int, int, str]

# fmt: off
UNIVERSAL_TAGS = frozenset({
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
    "SPACE", "SYM", "VERB", "X",
})
# fmt: on


class Tagger(Protocol):
    """Anything with a name and a `tag` method; it need not be a subclass.

    An attribute `language`, as spaCy abbreviates it, lets :func:`require_language` refuse texts in another one.
    """

    name: str
    """Name with the version: taggers of equal names give equal tags."""

    def tag(self, texts: Sequence[str]) -> Iterable[list[Span]]:
        """Yields for each text the spans of all its words, in order."""
        ...


def load_tagger(name: str = "auto") -> Tagger:
    """Loads a tagger.

    Args:
        name: `"auto"` (the paper's `en_core_web_sm` if it is installed, else HanTa), `"hanta"` (English), or
            a spaCy pipeline: the name of an installed package or a folder.

    Raises:
        InputError: The pipeline cannot be loaded or does not give universal parts of speech.
        MissingPackage: spaCy or HanTa is not installed.
    """
    if name == "auto":
        name = "en_core_web_sm" if find_spec("en_core_web_sm") and find_spec("spacy") else "hanta"
    return HantaTagger() if name == "hanta" else SpacyTagger(name)


def require_language(tagger: Tagger, texts: Iterable[str]) -> None:
    """Refuses texts that are plainly in another language than the tagger's.

    Args:
        tagger: The tagger; one without a `language` takes any.
        texts: The texts, of which the first 200 are read.

    Raises:
        InputError: The texts are plainly in another language.
    """
    language = getattr(tagger, "language", "xx")
    if found := other_language(texts, language):
        raise InputError(
            f"tagger {tagger.name}: expected texts in {language_name(language)}, and these are mostly in {found}; "
            "name a spaCy pipeline of their language as `tagger`, or use `pos=None`, which needs no tagger and keeps "
            "all words"
        )


class SpacyTagger:
    """A spaCy pipeline, reduced to the components that `token.pos_` needs."""

    def __init__(self, pipeline: str | Path) -> None:
        require_extra("spacy")
        try:
            import spacy

            self._nlp = spacy.load(pipeline)
        except (ImportError, OSError, ValueError) as error:
            raise InputError(
                f"tagger {str(pipeline)!r}: cannot be loaded ({str(error).splitlines()[0]}); expected a spaCy "
                "pipeline; install it, give the path of its folder, or use 'hanta' for English"
            ) from error
        if not _gives_pos(self._nlp):
            raise InputError(
                f"tagger {str(pipeline)!r}: gives no universal part of speech (its "
                f"components: {', '.join(self._nlp.pipe_names) or 'none'}); expected a morphologizer, or a tagger "
                "with an attribute_ruler"
            )
        self._pipeline = pipeline
        self.language = str(self._nlp.lang)
        self._unneeded = _unneeded_for_pos(self._nlp)
        meta = self._nlp.meta
        self.name = f"spacy:{meta['lang']}_{meta['name']}-{meta['version']}+spacy-{spacy.__version__}"

    def __reduce__(self) -> tuple[type[SpacyTagger], tuple[str | Path]]:
        return SpacyTagger, (self._pipeline,)  # other processes load it afresh

    def tag(self, texts: Sequence[str]) -> Iterator[list[Span]]:
        for doc in self._nlp.pipe(texts, batch_size=256, disable=self._unneeded):
            yield [(token.idx, token.idx + len(token), token.pos_ or "X") for token in doc]


def _assigns(nlp: Any) -> dict[str, set[str]]:
    return {name: set(nlp.get_pipe_meta(name).assigns) for name in nlp.pipe_names}


def _rulers(nlp: Any) -> list[str]:
    return [name for name in nlp.pipe_names if nlp.get_pipe_meta(name).factory == "attribute_ruler"]


def _gives_pos(nlp: Any) -> bool:
    rulers = _rulers(nlp)
    if any(nlp.get_pipe(name).patterns for name in rulers):
        return True
    # A component of the user's own that declares nothing gets the benefit of the doubt.
    return any("token.pos" in given or (not given and name not in rulers) for name, given in _assigns(nlp).items())


def _unneeded_for_pos(nlp: Any) -> list[str]:
    useful = {"token.pos", "doc.tensor", "doc._.trf_data"}
    if _rulers(nlp):  # they read the tags to set the part of speech
        useful |= {"token.tag", "token.morph"}
    return [name for name, given in _assigns(nlp).items() if given and not given & useful]


# BNC's CLAWS-5 tags, most by their first two letters. Ordinals are adjectives in Universal Dependencies.
_CLAWS_TO_UNIVERSAL = {
    "NN": "NOUN", "NP": "PROPN", "AJ": "ADJ", "OR": "ADJ", "VV": "VERB", "VB": "AUX", "VD": "AUX", "VH": "AUX",
    "VM": "AUX", "AV": "ADV", "PR": "ADP", "IN": "ADP", "AT": "DET", "DT": "DET", "PN": "PRON", "DP": "PRON",
    "EX": "PRON", "CR": "NUM", "PU": "PUNCT", "CJC": "CCONJ", "CJ": "SCONJ", "PO": "PART", "TO": "PART",
    "XX": "PART", "IT": "INTJ",
}  # fmt: skip

_CLITIC = r"(?:s|re|ve|ll|d|m)"
# As in BNC and UD, "don't" is do + n't, "John's" is John + 's; hyphenated words are split, which tags UD better than
# whole ones (F1 of the three kept classes together 94.9 against 94.4). Every other visible character stands alone.
_LETTER = r"[^\W_]"


def _words(letters: str) -> re.Pattern[str]:
    """Compiles the pattern of a word from that of a run of letters."""
    return re.compile(
        rf"""
      \b(?:[^\W\d_]\.){{2,}}                                   # U.S., e.g.
    | \d+(?:[.,:/]\d+)*(?:st|nd|rd|th|s)?\b                    # 1,000.5, 3rd, 1980s
    | n['’]t\b | ['’]{_CLITIC}\b
    | {letters}?(?=n['’]t\b)                                  # the do of don't
    | {letters}(?:(?:&|['’](?!{_CLITIC}\b)){letters})*         # O'Brien, AT&T
    | \.\.+ | --+ | [^\w\s] | _
    """,
        re.VERBOSE | re.IGNORECASE,
    )


_WORD = _words(rf"{_LETTER}+")
# A combining mark belongs to the letter before; apart, since it is slower and few texts have any.
_MARKED_WORD = _words(rf"{_LETTER}(?:{_LETTER}|[{MARKS}])*")
_MARK = re.compile(f"[{MARKS}]")
_TYPEWRITER = str.maketrans("“”„«»’‘–", '"""""\'\'—')
_WORD_RULES = 2  # part of the tagger's name: raise it when words or sentences are cut otherwise
_LONGEST_WORD = 40  # HanTa's analysis is quadratic in the length; what is longer is no word

_START, _END, _UNKNOWN = 1, 2, 3  # HanTa's own codes


@cache
def _hanta_model() -> Any:
    """Loads HanTa's English model, which takes half a second, once a process."""
    from HanTa.HanoverTagger import HanoverTagger

    return HanoverTagger("morphmodel_en.pgz")


class HantaTagger:
    """HanTa's English hidden Markov model (Wartena 2019; PyPI `HanTa`, tags of the British National Corpus).

    The tags are those of HanTa's `tag_sent` on our words and sentences. The search is our own: it skips the tags that
    a word cannot have and remembers what each word form can be, which is over three times as fast.
    """

    def __init__(self) -> None:
        require_extra("tagger")
        self.language = "en"
        self.name = f"hanta:en-{version('HanTa')}+words-{_WORD_RULES}"
        self._model = _hanta_model()
        self._universal = {
            code: _CLAWS_TO_UNIVERSAL.get(tag) or _CLAWS_TO_UNIVERSAL.get(tag[:2], "X")
            for code, tag in self._model.int2tag.items()
        }
        self._log_emission = lru_cache(maxsize=2**18)(self._analyse)

    def __reduce__(self) -> tuple[type[HantaTagger], tuple[()]]:
        return HantaTagger, ()

    def tag(self, texts: Sequence[str]) -> Iterator[list[Span]]:
        for text in texts:
            spans: list[Span] = []
            for sentence in _sentences(text):
                codes = self.tag_words([_known_form(word[2]) for word in sentence])
                for (start, end, word), code in zip(sentence, codes, strict=True):
                    spans.append((start, end, self._universal[code] if _is_word(word) else "PUNCT"))
            yield spans

    def tag_words(self, words: Sequence[str]) -> list[int]:
        """Tags one sentence with HanTa's codes (keys of `int2tag`): Viterbi over pairs of tags, beam of five."""
        transition = self._model.LP_trans_word
        scores: dict[tuple[int, int], float] = {(0, _START): 0.0}
        back: list[dict[tuple[int, int], tuple[int, int]]] = []
        for position, word in enumerate(words):
            beam = sorted(scores.values(), reverse=True)[5] - 1 if len(scores) > 5 else -math.inf
            following: dict[tuple[int, int], float] = {}
            origin: dict[tuple[int, int], tuple[int, int]] = {}
            for state, score in scores.items():
                if score < beam:
                    continue
                to = transition[state]
                for tag, emission in self._log_emission(word, position == 0):
                    reached, total = (state[1], tag), score + to[tag] + emission
                    if reached not in following or total > following[reached]:
                        following[reached], origin[reached] = total, state
            scores = following
            back.append(origin)
        state = max(scores, key=lambda s: scores[s] + transition[s].get(_END, -math.inf))
        tags = []
        for origin in reversed(back):
            tags.append(state[1])
            state = origin[state]
        return tags[::-1]

    def _analyse(self, word: str, first: bool) -> tuple[tuple[int, float], ...]:
        """Gives the tags of a word form with log p(word | tag) up to a constant; a first word's case is ignored."""
        model = self._model
        scores = {model.tag2int[tag]: p for tag, p in model.tag_word(word, cutoff=math.inf, casesensitive=not first)}
        scores = {tag: p - model.LP_wtag[tag] for tag, p in scores.items() if tag != _UNKNOWN}
        if not scores:
            return tuple((tag, 0.0) for tag in model.LP_wtag if tag != _END)
        if model.normalize(word) not in model.cache:  # guesses far behind the best are noise
            limit = max(scores.values()) - 5
            scores = {tag: p for tag, p in scores.items() if p >= limit}
        return tuple(scores.items())


def _sentences(text: str) -> Iterator[list[tuple[int, int, str]]]:
    sentence: list[tuple[int, int, str]] = []
    for match in (_MARKED_WORD if _MARK.search(text) else _WORD).finditer(text):
        sentence.append((match.start(), match.end(), match.group()))
        if match.group() in (".", "!", "?"):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _is_word(token: str) -> bool:
    return any(map(str.isalnum, token))


def _known_form(word: str) -> str:
    """Gives the form in which the model may know a word: typewriter punctuation, one number for all."""
    if word[0].isdigit() and word[-1].isdigit():
        return "10"
    word = unicodedata.normalize("NFC", word) if _MARK.search(word) else word
    if word.isalnum() or len(word) > _LONGEST_WORD:
        return word if len(word) <= _LONGEST_WORD else "—"
    word = word.translate(_TYPEWRITER)
    return word if _is_word(word) or word in "\"'()[].,:;!?-&/" else "—"
