"""Pairs out of unlabelled text: a short text and a longer one that it shall find, both cut from the same document.

No labels are read. What a pair is made of is a source: a title and its passage, a sentence and the rest of its
passage, two parts of one passage, two neighbouring passages of one document, or two crops of one passage.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from selfembed.data.passages import PassageRow
from selfembed.data.words import count_words, first_sentence, join_words, split_words
from selfembed.errors import InputError
from selfembed.ground.options import require_choice

LEAST_WORDS = 3  # of a query that is not a title
LEAST_PASSAGE_WORDS = 6


@dataclass(frozen=True)
class Pair:
    """A text and another that it shall find.

    Attributes:
        query: The text that searches.
        passage: The text that is to be found; unless the source is `crop` it shares no characters with the query.
        index: The index of the passage that was cut.
        document: The number of the document that both are from.
        source: The name of the source.
    """

    query: str
    passage: str
    index: int
    document: int
    source: str


Cut = Callable[[Sequence[PassageRow], int, random.Random], "tuple[str, str] | None"]


def draw_pairs(
    passages: Sequence[PassageRow], count: int, *, weights: Mapping[str, float], seed: int = 0
) -> list[Pair]:
    """Draws pairs, each from another passage as long as there are any.

    Args:
        passages: The passages of a corpus, those of one document one after the other.
        count: The number of pairs. Where there are fewer passages, they are used several times, in other orders.
        weights: The share of each source by its name, see :data:`SOURCES`. Where a passage gives no pair of the
            source that was drawn, the others are tried in an order drawn by their weights.
        seed: The seed for all that is drawn.

    Returns:
        `count` pairs in a random order; none where no passage gives any.

    Raises:
        InputError: A source is unknown, a weight is negative, or no weight is above 0.
    """
    for name in weights:
        require_choice("source", name, SOURCES)
    if not weights or min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise InputError(f"weights {dict(weights)}: expected shares of at least 0, one of them above 0")
    rng = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        before = len(pairs)
        order = list(range(len(passages)))
        rng.shuffle(order)
        for index in order:
            if len(pairs) == count:
                break
            if pair := draw_pair(passages, index, weights, rng):
                pairs.append(pair)
        if len(pairs) == before:
            return []
    return pairs


def draw_pair(
    passages: Sequence[PassageRow],
    index: int,
    weights: Mapping[str, float],
    rng: random.Random,
    sources: Mapping[str, Cut] | None = None,
) -> Pair | None:
    """Cuts one pair out of a passage; the sources are tried in an order drawn by their weights.

    Args:
        passages: The passages of a corpus, those of one document one after the other.
        index: The index of the passage.
        weights: The share of each source by its name.
        rng: The generator that all is drawn from.
        sources: How each source cuts, by its name; None takes :data:`SOURCES`.

    Returns:
        The pair, or None where no source gives one.
    """
    left = {name: weight for name, weight in weights.items() if weight}
    while left:
        name = rng.choices(list(left), list(left.values()))[0]
        del left[name]
        cut = (sources or SOURCES)[name](passages, index, rng)
        if cut and cut[0].casefold() != cut[1].casefold():
            return Pair(cut[0], cut[1], index, passages[index].document, name)
    return None


def sentences(text: str) -> list[str]:
    """Splits a text behind the punctuation that ends sentences, in any script; a text without any is one sentence."""
    found, rest = [], text
    while rest:
        first, rest = first_sentence(rest)
        found.append(first)
    return [part for part in found if part]


def title_and_passage(passages: Sequence[PassageRow], index: int, rng: random.Random) -> tuple[str, str] | None:
    """Takes a title and its passage, without the title where the passage begins with it."""
    passage = passages[index]
    title = (passage.title or "").strip()
    text = passage.text
    if title and text.casefold().startswith(title.casefold()):
        text = text[len(title) :].lstrip(" \t\n.:-")
    return (title, text) if title and count_words(text) >= LEAST_PASSAGE_WORDS else None


def sentence_and_rest(passages: Sequence[PassageRow], index: int, rng: random.Random) -> tuple[str, str] | None:
    """Takes a sentence, every other time the first, and the sentences around it."""
    parts = sentences(passages[index].text)
    if len(parts) < 2:
        return None
    chosen = 0 if rng.random() < 0.5 else rng.randrange(len(parts))
    query, rest = parts[chosen], join_words(parts[:chosen] + parts[chosen + 1 :])
    return (query, rest) if count_words(query) >= LEAST_WORDS and count_words(rest) >= LEAST_PASSAGE_WORDS else None


def two_parts(passages: Sequence[PassageRow], index: int, rng: random.Random) -> tuple[str, str] | None:
    """Cuts a passage between two words of its middle third; the shorter side searches."""
    words = split_words(passages[index].text)
    if len(words) < LEAST_WORDS + LEAST_PASSAGE_WORDS:
        return None
    third = max(LEAST_WORDS, len(words) // 3)
    cut = rng.randint(third, max(third, len(words) - third))
    parts = sorted((join_words(words[:cut]), join_words(words[cut:])), key=len)
    return parts[0], parts[1]


def two_neighbours(passages: Sequence[PassageRow], index: int, rng: random.Random) -> tuple[str, str] | None:
    """Takes a passage and the one before or after it in its document; the shorter one searches."""
    near = [
        other
        for other in (index - 1, index + 1)
        if 0 <= other < len(passages) and passages[other].document == passages[index].document
    ]
    if not near:
        return None
    parts = sorted((passages[index].text, passages[rng.choice(near)].text), key=len)
    return (parts[0], parts[1]) if count_words(parts[0]) >= LEAST_WORDS else None


def two_crops(passages: Sequence[PassageRow], index: int, rng: random.Random) -> tuple[str, str] | None:
    """Cuts two crops of a passage, each of a tenth to a half of its words, a tenth of them deleted; they may overlap.

    References:
        Contriever, arXiv 2112.09118, section 3.2 and its code: 5 to 50 % of 256 tokens, 10 % of the words deleted.
    """
    words = split_words(passages[index].text)
    if len(words) < 2 * LEAST_PASSAGE_WORDS:
        return None

    def crop() -> str:
        size = max(LEAST_PASSAGE_WORDS, round(len(words) * rng.uniform(0.1, 0.5)))
        start = rng.randint(0, len(words) - size)
        return join_words([word for word in words[start : start + size] if rng.random() >= 0.1])

    first, second = crop(), crop()
    return (first, second) if first and second else None


SOURCES: dict[str, Cut] = {
    "title": title_and_passage,
    "sentence": sentence_and_rest,
    "parts": two_parts,
    "neighbour": two_neighbours,
    "crop": two_crops,
}
