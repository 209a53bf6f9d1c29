"""Pairs out of unlabelled text: a title, a sentence or a part of a document finds the rest of it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

from selfembed.data.corpus_passages import CorpusPassages
from selfembed.data.pair_sources import SOURCES, Pair, draw_pair
from selfembed.data.words import join_words, split_words
from selfembed.errors import InputError
from selfembed.ground.options import Range
from selfembed.losses.pairs import CONTRIEVER, PairsLoss
from selfembed.objectives.objective import STEP_FORWARDS, Budget, Material, Objective, Prepared


@dataclass(frozen=True, kw_only=True)
class TextPairs(Objective):
    """Trains by contrast on pairs that are cut from the corpus itself; see :mod:`selfembed.data.pair_sources`.

    Args:
        title: Weight of pairs of a title and its passage.
        sentence: Weight of pairs of a sentence and the rest of its passage.
        parts: Weight of pairs of two parts of one passage.
        neighbour: Weight of pairs of neighbouring passages of one document.
        crop: Weight of pairs of two crops of one passage, with words deleted.
        query_words: Largest number of words of a query; the rest is cut off.
        temperature: Temperature of InfoNCE over cosine similarities.
        both_directions: Whether passages search for queries too.
        false_negative_margin: See :class:`selfembed.losses.pairs.PairsLoss`.
        centred: Whether embeddings lose the batch's mean before they are compared.
        keep: Weight of keeping the similarities of the untrained embedder, see
            :class:`selfembed.losses.pairs.PairsLoss`; 0 lets go of them.

    References:
        Contriever (arXiv 2112.09118) and AugTriever (arXiv 2212.08841) for the kinds of pairs; the weights are ours.
    """

    citation = CONTRIEVER
    whole_batch = True
    shares_forward = True
    columns = ("query", "text")
    forwards = 1 + STEP_FORWARDS  # once more for the cached gradients, where a batch is cut

    title: Annotated[float, Range(least=0)] = 1.0
    sentence: Annotated[float, Range(least=0)] = 1.0
    parts: Annotated[float, Range(least=0)] = 1.0
    neighbour: Annotated[float, Range(least=0)] = 1.0
    crop: Annotated[float, Range(least=0)] = 0.0
    query_words: Annotated[int, Range(least=1)] = 24
    temperature: Annotated[float, Range(above=0, example="0.05")] = 0.05
    both_directions: bool = True
    false_negative_margin: Annotated[float, Range(least=-2, most=2, example="0 or -0.1")] | None = None
    centred: bool = False
    keep: Annotated[float, Range(least=0)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.weights.values()):
            raise InputError(f"weights: those of {', '.join(SOURCES)} are all 0; expected one above 0; give one")
        if self.keep:
            object.__setattr__(self, "forwards", type(self).forwards + 1)

    @property
    def weights(self) -> dict[str, float]:
        """Gives the weight of each source, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in SOURCES}

    def cut(self, material: Material) -> Material:
        """Draws as many pairs as the stage reads, those of one step from different documents where there are enough.

        Where the corpus has fewer texts they are gone through again, in other orders, and give other pairs.

        Raises:
            InputError: Fewer than two texts give a pair.
        """
        rng = random.Random(material.seed)
        passages = CorpusPassages(material.corpus.passages())
        places = list(range(len(passages)) if material.places is None else material.places)
        pairs: list[Pair] = []
        while len(pairs) < material.budget.texts:
            drawn = [pair for place in places if (pair := draw_pair(passages, place, self.weights, rng))]
            if len({pair.index for pair in drawn}) < 2:
                raise InputError(
                    f"corpus {material.corpus.name}: {len(drawn)} of {len(places)} texts give a pair of "
                    f"{', '.join(name for name, weight in self.weights.items() if weight)}; expected pairs of at "
                    "least two texts; give more or longer texts"
                )
            pairs += drawn
            rng.shuffle(places)
        counted = documents_of([pair.document for pair in pairs], [pair.index for pair in pairs], material.budget)
        pairs = [replace(pair, document=document) for pair, document in zip(pairs, counted, strict=True)]
        pairs = in_steps(pairs, material.budget)
        return replace(
            material,
            texts=[pair.passage for pair in pairs],
            places=[pair.index for pair in pairs],
            columns={"query": [self.shortened(pair.query) for pair in pairs]},
        )

    def prepare(self, material: Material) -> Prepared:
        """Takes all pairs of a material that was cut."""
        assert material.places is not None
        found = material.corpus.passages().select(material.places)["document"]
        documents = documents_of(list(found), material.places, material.budget)
        loss = PairsLoss(
            material.embedder,
            documents,
            temperature=self.temperature,
            both_directions=self.both_directions,
            false_negative_margin=self.false_negative_margin,
            centred=self.centred,
            keep=self.keep,
            mini_batch_size=material.budget.mini_batch_size,
        )
        return Prepared(loss=loss, notes={"documents": len(set(documents))})

    def shortened(self, query: str) -> str:
        """Cuts a query to its first words."""
        words = split_words(query)
        return query if len(words) <= self.query_words else join_words(words[: self.query_words])


def documents_of(documents: Sequence[int], places: Sequence[int], budget: Budget) -> list[int]:
    """Gives the document of every pair or, where there are too few for a step as in one long file, its passage."""
    return list(documents if len(set(documents)) >= budget.batch_size else places)


def in_steps(pairs: Sequence[Pair], budget: Budget) -> list[Pair]:
    """Orders as many pairs as a stage reads; a pair waits for a step that has no other pair of its document.

    At the end, where only pairs of the same documents are left, they come together.
    """
    waiting = deque(pairs)
    found: list[Pair] = []
    for _ in range(budget.steps):
        step: list[Pair] = []
        skipped: list[Pair] = []
        documents: set[int] = set()
        while waiting and len(step) < budget.batch_size:
            pair = waiting.popleft()
            if pair.document in documents:
                skipped.append(pair)
            else:
                step.append(pair)
                documents.add(pair.document)
        missing = budget.batch_size - len(step)
        found += step + skipped[:missing]
        waiting.extendleft(reversed(skipped[missing:]))
    return found
