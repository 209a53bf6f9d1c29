"""Pairs out of unlabelled text: a title, a sentence or a part of a document finds the rest of it."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

from selfembed.data.corpus_passages import CorpusPassages
from selfembed.data.pair_sources import LEAST_PASSAGE_WORDS, SOURCES, Pair, draw_pair
from selfembed.data.passages import PassageRow
from selfembed.data.words import count_words, join_words, split_words
from selfembed.errors import InputError
from selfembed.ground.extras import require_extra
from selfembed.ground.options import Range
from selfembed.losses.pairs import CONTRIEVER, PairsLoss, negative_columns
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import EmbedderConfig
from selfembed.model.writer import find_writer
from selfembed.objectives.hard_negatives import NV_RETRIEVER, Miner, hard_negatives
from selfembed.objectives.objective import STEP_FORWARDS, Budget, Material, Measured, Objective, Prepared
from selfembed.objectives.written_queries import PROMPTAGATOR, WrittenQueries

WRITTEN = "written"
_LOOK_WORDS = 10  # of a passage, in place of a query that is not written
_WRITING_TOKENS = 450  # that are read in the time in which one query is written, the passage aside: SmolLM2 on a CPU


@dataclass(frozen=True, kw_only=True)
class TextPairs(Objective):
    """Trains by contrast on pairs that are cut from the corpus itself; see :mod:`selfembed.data.pair_sources`.

    Args:
        title: Weight of pairs of a title and its passage.
        sentence: Weight of pairs of a sentence and the rest of its passage.
        parts: Weight of pairs of two parts of one passage.
        neighbour: Weight of pairs of neighbouring passages of one document.
        crop: Weight of pairs of two crops of one passage, with words deleted.
        written: Weight of pairs of a query that a language model writes and its passage. One is written for each
            passage that this source is drawn for; where it does not find its passage by BM25 the other sources give
            the pair, see :mod:`selfembed.objectives.written_queries`.
        writer: The model that writes, as `train` takes one; None takes the backbone itself, before any training.
        query_words: Largest number of words of a query; the rest is cut off.
        temperature: Temperature of InfoNCE over cosine similarities.
        both_directions: Whether passages search for queries too.
        false_negative_margin: See :class:`selfembed.losses.pairs.PairsLoss`.
        centred: Whether embeddings lose the batch's mean before they are compared.
        keep: Weight of keeping the similarities of the untrained embedder, see
            :class:`selfembed.losses.pairs.PairsLoss`; 0 lets go of them.
        negatives: Number of hard negatives of a pair, mined once among the passages of the stage's other pairs, see
            :mod:`selfembed.objectives.hard_negatives`; a pair for which fewer are found has fewer.
        miner: What mines them: BM25, or the embedder as it stands before the stage.
        margin: Share of the score of a pair's own passage by which a hard negative stays below it, at least.

    References:
        Contriever (arXiv 2112.09118) and AugTriever (arXiv 2212.08841) for the kinds of pairs, InPars (arXiv
        2202.05144) and Promptagator (arXiv 2209.11755) for written queries, NV-Retriever (arXiv 2407.15831) for hard
        negatives with a margin; the weights are ours.
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
    written: Annotated[float, Range(least=0)] = 0.0
    writer: str | None = None
    query_words: Annotated[int, Range(least=1)] = 24
    temperature: Annotated[float, Range(above=0, example="0.05")] = 0.05
    both_directions: bool = True
    false_negative_margin: Annotated[float, Range(least=-2, most=2, example="0 or -0.1")] | None = None
    centred: bool = False
    keep: Annotated[float, Range(least=0)] = 0.0
    negatives: Annotated[int, Range(least=0)] = 0
    miner: Miner = "bm25"
    margin: Annotated[float, Range(least=0, below=1)] = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.weights.values()):
            raise InputError(f"weights: those of {', '.join(self.weights)} are all 0; expected one above 0; give one")
        if self.keep:
            object.__setattr__(self, "forwards", type(self).forwards + 1)
        object.__setattr__(self, "columns", ("query", *negative_columns(self.negatives), "text"))

    @property
    def weights(self) -> dict[str, float]:
        """Gives the weight of each source, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in (*SOURCES, WRITTEN)}

    @property
    def citations(self) -> tuple[str, ...]:
        """Lists the BibTeX entries of what is switched on."""
        switched = ((CONTRIEVER, True), (PROMPTAGATOR, self.written), (NV_RETRIEVER, self.negatives))
        return tuple(entry for entry, on in switched if on)

    def check(self, reading: EmbedderConfig | None, backbone: Backbone) -> None:
        """Refuses a writer that cannot write, and to search by words without the package for it."""
        if self.written:
            if self.writer is None and reading is None:
                raise InputError(
                    f"written {self.written:g}: {backbone.name} is an embedder already, which writes no queries; "
                    "expected a language model that does; use `writer=MODEL`, or `written=0`"
                )
            find_writer(self.writer, backbone)
        if self.written or (self.negatives and self.miner == "bm25"):
            require_extra("search")

    def preparation_seconds(self, measured: Measured) -> float:
        """Estimates the writing, by a model as fast as the backbone, and the embedding of what is mined.

        More is written than its weight says where other sources give no pair.
        """
        share = self.written / sum(self.weights.values())
        asked = min(measured.texts, measured.texts_read) * share
        tokens = asked * (measured.mean_tokens + _WRITING_TOKENS)
        if self.negatives and self.miner == "embedder":
            tokens += 2 * measured.texts_read * measured.mean_tokens
        return tokens / measured.tokens_per_second

    def cut(self, material: Material) -> Material:
        """Draws as many pairs as the stage reads, those of one step from different documents where there are enough.

        Where the corpus has fewer texts they are gone through again, in other orders, and give other pairs; a query
        that was written stays the same.

        Raises:
            InputError: Fewer than two texts give a pair.
        """
        rng = random.Random(material.seed)
        passages = CorpusPassages(material.corpus.passages())
        places = list(range(len(passages)) if material.places is None else material.places)
        pairs: list[Pair] = []
        sources = {**SOURCES, WRITTEN: to_be_written}
        queries = self.written_queries(material, passages, places)
        while len(pairs) < material.budget.texts:
            turn = places[: material.budget.texts - len(pairs)] if self.written else places  # no query is superfluous
            drawn = [pair for place in turn if (pair := draw_pair(passages, place, self.weights, rng, sources))]
            drawn = self.with_queries(drawn, queries, passages, rng)
            if len({pair.index for pair in pairs + drawn}) < 2:
                if queries is not None and not any(self.other_weights.values()):
                    notes = queries.notes()
                    raise InputError(
                        f"writer {notes['writer']}: {notes['kept'] or 'none'} of {notes['asked']} queries that it "
                        "wrote finds its passage; expected those of at least two passages; give another `writer`, or "
                        "weight to another source of pairs"
                    )
                raise InputError(
                    f"corpus {material.corpus.name}: {len(drawn)} of {len(places)} texts give a pair of "
                    f"{', '.join(name for name, weight in self.weights.items() if weight)}; expected pairs of at "
                    "least two texts; give more or longer texts"
                )
            pairs += drawn
            rng.shuffle(places)
        counted = documents_of([pair.document for pair in pairs], [pair.index for pair in pairs], material.budget)
        pairs = [replace(pair, document=document) for pair, document in zip(pairs, counted, strict=True)]
        pairs = [replace(pair, query=self.shortened(pair.query)) for pair in in_steps(pairs, material.budget)]
        cut = replace(
            material,
            texts=[pair.passage for pair in pairs],
            places=[pair.index for pair in pairs],
            columns={"query": [pair.query for pair in pairs]},
            notes={} if queries is None else {"written": queries.notes()},
        )
        return self.with_negatives(cut, pairs) if self.negatives else cut

    @property
    def other_weights(self) -> dict[str, float]:
        """Gives the weights of the sources that need no writer."""
        return {name: weight for name, weight in self.weights.items() if name != WRITTEN}

    def written_queries(
        self, material: Material, passages: Sequence[PassageRow], places: Sequence[int]
    ) -> WrittenQueries | None:
        """Makes ready what writes queries for the passages of a stage; None where nothing is to be written."""
        if not self.written or material.look:
            return None
        writer = find_writer(self.writer, material.backbone)
        texts = {place: passages[place].text for place in places}
        return WrittenQueries(writer, texts, device=material.embedder.device, progress=material.progress)

    def with_queries(
        self, drawn: Sequence[Pair], queries: WrittenQueries | None, passages: Sequence[PassageRow], rng: random.Random
    ) -> list[Pair]:
        """Puts queries into the pairs that wait for one; for those that were dropped other sources are drawn.

        Where nothing is written, since pairs are only looked at, the first words of a passage stand for its query.
        """
        waiting = [pair.index for pair in drawn if pair.source == WRITTEN]
        if queries is None:
            found = {index: join_words(split_words(passages[index].text)[:_LOOK_WORDS]) for index in waiting}
        else:
            found = queries.of(waiting)
        pairs: list[Pair | None] = []
        for pair in drawn:
            if pair.source != WRITTEN:
                pairs.append(pair)
            elif pair.index in found:
                pairs.append(replace(pair, query=found[pair.index]))
            else:
                pairs.append(draw_pair(passages, pair.index, self.other_weights, rng))
        return [pair for pair in pairs if pair is not None]

    def with_negatives(self, material: Material, pairs: Sequence[Pair]) -> Material:
        """Adds a column for each hard negative; where there is none, the query stands in its place."""
        if material.look:
            mined = [[(number + 1 + k) % len(pairs) for k in range(self.negatives)] for number in range(len(pairs))]
        else:
            mined = hard_negatives(
                pairs,
                count=self.negatives,
                margin=self.margin,
                embedder=material.embedder if self.miner == "embedder" else None,
                progress=material.progress,
            )
        columns: dict[str, list[str]] = {}
        places: dict[str, list[int]] = {}
        for k, name in enumerate(negative_columns(self.negatives)):
            kth = [pairs[found[k]] if k < len(found) else None for found in mined]
            columns[name] = [
                pair.query if negative is None else negative.passage for pair, negative in zip(pairs, kth, strict=True)
            ]
            places[name] = [-1 if negative is None else negative.index for negative in kth]
        counted = Counter(map(len, mined))
        notes = {"miner": self.miner, "pairs_by_number_found": {str(n): counted[n] for n in sorted(counted)}}
        return replace(
            material,
            columns={**material.columns, **columns},
            column_places=places,
            notes={**material.notes, "negatives": notes},
        )

    def prepare(self, material: Material) -> Prepared:
        """Takes all pairs of a material that was cut."""
        assert material.places is not None
        found = material.corpus.passages().select(material.places)["document"]
        documents = documents_of(list(found), material.places, material.budget)
        document_at = {-1: -1, **dict(zip(material.places, documents, strict=True))}
        negatives = [
            [document_at[place] for place in found] for found in zip(*material.column_places.values(), strict=True)
        ]
        loss = PairsLoss(
            material.embedder,
            documents,
            negative_document_NH=negatives or None,
            temperature=self.temperature,
            both_directions=self.both_directions,
            false_negative_margin=self.false_negative_margin,
            centred=self.centred,
            keep=self.keep,
            mini_batch_size=material.budget.mini_batch_size,
        )
        return Prepared(loss=loss, notes={"documents": len(set(documents)), **material.notes})

    def shortened(self, query: str) -> str:
        """Cuts a query to its first words."""
        words = split_words(query)
        return query if len(words) <= self.query_words else join_words(words[: self.query_words])


def to_be_written(passages: Sequence[PassageRow], index: int, rng: random.Random) -> tuple[str, str] | None:
    """Takes a passage whose query is yet to be written."""
    text = passages[index].text
    return ("", text) if count_words(text) >= LEAST_PASSAGE_WORDS else None


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
