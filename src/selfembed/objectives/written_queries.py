"""Queries that a language model writes for passages, of which those are kept that find their own passage.

References:
    InPars (arXiv 2202.05144) for queries by a few examples; Promptagator (arXiv 2209.11755) for the filter: a query
    stays where a search with it finds the passage that it was written for. There an embedder searches, here BM25 does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selfembed.data.words import split_words
from selfembed.ground.files import cache_dir, write_json
from selfembed.ground.hashing import content_hash, texts_hash
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import Backbone
from selfembed.model.writer import write_queries, writing_key
from selfembed.search.lexical import temporary_index

LEAST_WORDS = 2
_DEPTH = 10  # passages that a search may find before the query's own, that one included

PROMPTAGATOR = """\
@inproceedings{promptagator,
    title = {Promptagator: Few-shot Dense Retrieval From 8 Examples},
    author = {Zhuyun Dai and Vincent Y. Zhao and Ji Ma and Yi Luan and Jianmo Ni and Jing Lu and Anton Bakalov and
              Kelvin Guu and Keith B. Hall and Ming-Wei Chang},
    booktitle = {Proceedings of ICLR},
    year = {2023},
}"""


class WrittenQueries:
    """The queries of a stage, written when they are first asked for, one for each passage.

    Args:
        writer: The language model that writes.
        passages: All passages of the stage by their numbers, among which a query has to find its own.
        device: Where it writes.
        progress: Called with (task, done, total).
    """

    def __init__(
        self, writer: Backbone, passages: Mapping[int, str], *, device: Any = "cpu", progress: Progress = silent
    ) -> None:
        self.writer = writer
        self.passages = passages
        self.device = device
        self.progress = progress
        self.asked: dict[int, str | None] = {}

    def of(self, numbers: Iterable[int]) -> dict[int, str]:
        """Gives the queries of some passages by their numbers, without those that were dropped.

        A query is dropped where it has fewer than two words, where its passage begins with it, and where its passage
        is not among the first 10 that BM25 finds, or the first third where there are fewer than 30 passages.
        """
        wanted = list(dict.fromkeys(numbers))
        if new := [number for number in wanted if number not in self.asked]:
            texts = [self.passages[number] for number in new]
            written = stored_queries(self.writer, texts, device=self.device, progress=self.progress)
            usable = {n: query for n, query, text in zip(new, written, texts, strict=True) if is_usable(query, text)}
            found = finding_their_own(usable, self.passages)
            self.asked |= {number: usable[number] if number in found else None for number in new}
        return {number: query for number in wanted if (query := self.asked[number]) is not None}

    def notes(self) -> dict[str, Any]:
        """Counts passages that were written for and queries that were kept, for the record of the stage."""
        kept = sum(query is not None for query in self.asked.values())
        return {"writer": self.writer.name, "asked": len(self.asked), "kept": kept}


def stored_queries(
    writer: Backbone, passages: Sequence[str], *, device: Any = "cpu", progress: Progress = silent
) -> list[str]:
    """Reads queries from the cache, or has them written and stores them; see :func:`write_queries`.

    Raises:
        InputError: The disk is full or not writable.
    """
    key = content_hash(*writing_key(writer, device), texts_hash(iter(passages)))
    file = cache_dir() / "queries" / f"{key[:32]}.json"
    if not file.exists():
        write_json(file, write_queries(writer, passages, device=device, progress=progress))
    found: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return found


def is_usable(query: str, passage: str) -> bool:
    """Tells whether a query has two words or more, and is not what its passage begins with."""
    copied = passage.casefold().startswith(query.casefold().rstrip(" .?!:…"))
    return len(split_words(query)) >= LEAST_WORDS and not copied


def finding_their_own(queries: Mapping[int, str], passages: Mapping[int, str]) -> set[int]:
    """Names the queries whose own passage BM25 finds among the first 10, or the first third of fewer than 30.

    Args:
        queries: The queries by the numbers of their passages.
        passages: All passages that are searched, by their numbers.
    """
    depth = min(_DEPTH, max(1, len(passages) // 3))
    row_of = {number: row for row, number in enumerate(passages)}
    found = set()
    with temporary_index(passages.values()) as index:
        for number, query in queries.items():
            score_N = index.scores(index.words.of(query))
            if score_N is not None and score_N[row_of[number]] > 0:
                ahead = int((score_N > score_N[row_of[number]]).sum())
                found |= {number} if ahead < depth else set()
    return found
