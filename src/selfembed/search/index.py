"""An index of texts that answers questions: by meaning, by words, and by both.

Shapes: N passages, D dimensions.
"""

from __future__ import annotations

import bisect
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_value, require_choice
from selfembed.ground.progress import Progress, silent
from selfembed.search.build import LEXICAL, IndexReport, write_index
from selfembed.search.dense import RESCORE, DenseIndex
from selfembed.search.encoder import Encoder, checked, load_encoder
from selfembed.search.folder import IndexData, IndexSettings, Manifest
from selfembed.search.fusion import DEPTH, FUSIONS, Fusion, fuse_standard_scores, reciprocal_rank_fusion
from selfembed.search.lexical import LexicalIndex
from selfembed.search.nearest import NearestIndex
from selfembed.search.ranking import Ranking, best_rows
from selfembed.search.results import Hit, SearchResults, Side
from selfembed.search.sparse import SparseIndex, sparse_rows

MODES = ("hybrid", "dense", "lexical")

_DEEPER = 10  # results of each side that are fused, as a multiple of those wanted


class Index:
    """Passages with their vectors and words, in a folder.

    :meth:`build` makes an index or brings it up to date, :meth:`open` opens one, and :meth:`search` asks it.
    """

    def __init__(self, folder: Path, manifest: Manifest, data: IndexData, encoder: Encoder | None) -> None:
        """Keeps what :meth:`build` and :meth:`open` have read; use those."""
        self.folder = folder
        self.manifest = manifest
        self.report: IndexReport | None = None
        self._data = data
        self._given = encoder

    @classmethod
    def build(
        cls,
        embedder: str | Path | Encoder,
        corpus: Any,
        out: str | Path,
        *,
        settings: IndexSettings | None = None,
        progress: Progress = silent,
    ) -> Index:
        """Makes an index, or brings the one in the folder up to date: only new and changed texts are encoded.

        Args:
            embedder: The folder of an embedder, or an :class:`~selfembed.search.encoder.Encoder`.
            corpus: Sources as :class:`~selfembed.data.corpus.Corpus` takes them: files, folders, patterns, data sets,
                iterables of strings.
            out: The folder of the index.
            settings: How the index is made; None takes the settings it has, or the defaults.
            progress: Is told how many passages are read and texts encoded.

        Returns:
            The index, whose `report` says what was done.

        Raises:
            InputError: The embedder cannot be used, or :func:`~selfembed.search.build.write_index` refuses something.
        """
        out = Path(out)
        encoder = embedder if isinstance(embedder, Encoder) else load_encoder(embedder)
        if settings is None:
            settings = Manifest.read(out).settings if (out / "index.json").is_file() else IndexSettings()
        report = write_index(out, encoder, corpus, settings, progress=progress)
        index = cls.open(out, encoder=encoder, verify=False)
        index.report = report
        return index

    @classmethod
    def open(cls, folder: str | Path, *, encoder: Encoder | None = None, verify: bool = True) -> Index:
        """Opens an index.

        Args:
            folder: The folder of the index.
            encoder: The encoder of the questions; None loads the embedder that made the index when the first question
                is asked.
            verify: Whether every file is compared with its checksum, which takes about a second a gigabyte.

        Raises:
            InputError: There is no index, or its files have changed.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        try:
            data = IndexData(folder, manifest, verify=verify)
        except InputError:
            newer = Manifest.read(folder)  # an update may have come in between
            if newer.data == manifest.data:
                raise
            manifest, data = newer, IndexData(folder, newer, verify=verify)
        return cls(folder, manifest, data, encoder)

    def update(self, sources: Any = None, *, progress: Progress = silent) -> Index:
        """Brings the index up to date with its sources, or with others, and opens it anew.

        Args:
            sources: All sources that the index shall have; None takes those that it was made of.
            progress: Is told how many passages are read and texts encoded.

        Raises:
            InputError: :meth:`build` refuses something, or no sources are given and some of the index's own were no
                paths.
        """
        if sources is None:
            sources = self._sources()
        return Index.build(self.encoder, sources, self.folder, settings=self.manifest.settings, progress=progress)

    def add(self, sources: Any, *, progress: Progress = silent) -> Index:
        """Adds sources to those that the index has, brings all up to date, and opens it anew.

        Args:
            sources: One source or a list of them.
            progress: Is told how many passages are read and texts encoded.

        Raises:
            InputError: :meth:`build` refuses something, or some of the index's own sources were no paths.
        """
        more = list(sources) if isinstance(sources, list | tuple) else [sources]
        return self.update([*self._sources(), *more], progress=progress)

    def _sources(self) -> list[str]:
        if self.manifest.sources is None:
            raise InputError(
                f"index {self.folder}: some of its sources were no paths; expected paths, to read them again; give "
                "all sources again"
            )
        return self.manifest.sources

    def __len__(self) -> int:
        return self.manifest.passages

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the questions.

        Raises:
            InputError: The embedder is gone or has changed, or is not the one that made the index.
        """
        made_by = self.manifest.embedder
        if self._given is None and not Path(made_by).is_dir():
            raise InputError(
                f"index {self.folder}: its embedder {made_by} is gone; expected its folder there; say where it is now"
            )
        encoder = self._given or load_encoder(made_by)
        if encoder.fingerprint != self.manifest.fingerprint:
            what = f"has changed since (it was {made_by})" if encoder.name == made_by else f"is not {made_by}"
            raise InputError(
                f"index {self.folder}: made by another embedder; {encoder.name} {what}; expected the same; index the "
                "texts again in a new folder"
            )
        return encoder

    @cached_property
    def dense(self) -> DenseIndex:
        """The vectors of the passages."""
        return DenseIndex(self._data.folder, self.manifest.settings.vectors)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """The words of the passages."""
        return LexicalIndex(self._data.folder / LEXICAL, self.manifest.settings.language)

    @cached_property
    def _nearest(self) -> NearestIndex | None:
        return NearestIndex(self._data.folder) if self.manifest.settings.approximate else None

    @cached_property
    def _sparse(self) -> SparseIndex:
        return SparseIndex(self._data.folder)

    @cached_property
    def _head(self) -> Any:
        return self.encoder.head() if self.encoder.head is not None else None

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        mode: str = "hybrid",
        fusion: Fusion = "scores",
        sparse: bool = False,
        rescore: int = RESCORE,
    ) -> SearchResults:
        """Finds the passages that answer a question best.

        Args:
            query: The question, or some words.
            k: The number of results wanted.
            mode: `"dense"` ranks by the cosine of the embeddings, `"lexical"` by BM25, `"hybrid"` by both.
            fusion: How mode `"hybrid"` fuses: `"scores"` adds up standard scores, `"ranks"` takes reciprocal ranks;
                see :mod:`selfembed.search.fusion`.
            sparse: Whether mode `"hybrid"` fuses the sparse view as a third side; the index must have it.
            rescore: For int8 and binary vectors, how many times more results are found by codes and then ranked by the
                vectors; see :meth:`selfembed.search.dense.DenseIndex.search`.

        Returns:
            The passages, best first, with notes on what the reader should know.

        Raises:
            InputError: The query is empty or, in mode `"lexical"`, of stop words alone; mode or fusion is unknown; `k`
                is below 1 or `rescore` below 0; the sparse view is not there; or the embedder is gone, has changed, or
                is another.
        """
        query = _checked_query(query, k, mode, rescore)
        require_choice("fusion", fusion, FUSIONS)
        if sparse and (mode != "hybrid" or not self.manifest.settings.sparse):
            raise InputError(
                "sparse: "
                + ("is a part of mode 'hybrid'" if mode != "hybrid" else "the index was made without it")
                + "; expected mode 'hybrid' and an index with it; leave it out"
            )
        notes: list[str] = []
        if k > len(self):
            notes.append(f"k {k}: the index has {len(self)} passages; here are all")
        depth = min(len(self), max(DEPTH, _DEEPER * k) if mode == "hybrid" else k)
        sides: dict[str, Ranking] = {}
        scores: dict[str, np.ndarray] = {}
        query_D = None
        if mode != "lexical":
            query_D = checked(self.encoder.queries([query]), [query], self.manifest.dimensions)[0]
            sides["dense"] = self._by_vector(query_D, depth, rescore)
        if mode != "dense":
            scores["lexical"] = self._by_words(query, mode, notes)
        if sparse:
            assert query_D is not None
            rows = sparse_rows(query_D[None], self._head, k=self.manifest.settings.sparse)
            scores["sparse"] = self._sparse.scores(rows)
        for name, score_N in scores.items():
            found = best_rows(score_N, depth)
            sides[name] = found.keep(found.scores > 0)
        # What a side did not put forward has a score all the same.
        rows_C = np.unique(np.concatenate([side.rows for side in sides.values()]))
        known = {name: score_N[rows_C] for name, score_N in scores.items()}
        if query_D is not None:
            known["dense"] = self.dense.similarities(query_D, rows_C)
        if len(sides) == 1:
            (only,) = sides.values()
            best = list(only.by_row().items())[:k]
        elif fusion == "ranks":
            best = reciprocal_rank_fusion(side.rows.tolist() for side in sides.values())[:k]
        else:
            best = list(best_rows(fuse_standard_scores(known), k, rows_C).by_row().items())
        hits = self._hits(best, sides, {name: Ranking(rows_C, score_C).by_row() for name, score_C in known.items()})
        stale = sorted({hit.file for hit in hits if hit.stale})
        notes += [f"{file}: changed since it was indexed; index the texts again" for file in stale]
        return SearchResults(query=query, mode=mode, hits=hits, notes=notes)

    def _by_vector(self, query_D: np.ndarray, depth: int, rescore: int) -> Ranking:
        if self._nearest is not None:
            return self._nearest.search(query_D, depth)
        return self.dense.search(query_D, depth, rescore=rescore)

    def _by_words(self, query: str, mode: str, notes: list[str]) -> np.ndarray:
        words = self.lexical.words.of(query)
        if not words and mode == "lexical":
            raise InputError(f"query {query!r}: only stop words or signs; expected a word to look for; add one")
        score_N = self.lexical.scores(words)
        if score_N is None:
            reason = "no passage has one of its words" if words else "only stop words or signs"
            notes.append(f"query {query!r}: {reason}" + ("; ranked by meaning alone" if mode == "hybrid" else ""))
            return np.zeros(len(self), np.float32)
        return score_N

    def _hits(
        self, best: list[tuple[int, float]], sides: dict[str, Ranking], known: dict[str, dict[int, float]]
    ) -> list[Hit]:
        ranks = {name: {row: i for i, row in enumerate(side.rows.tolist(), 1)} for name, side in sides.items()}
        firsts = [file.first for file in self.manifest.files]
        stale: dict[str, bool] = {}
        hits = []
        for rank, (row, score) in enumerate(best, 1):
            file = self.manifest.files[bisect.bisect_right(firsts, row) - 1]
            stale.setdefault(file.name, file.changed())
            passage = {name: self._data.table.column(name)[row].as_py() for name in ("text", "place", "number")}
            hits.append(
                Hit(
                    rank=rank,
                    score=score,
                    text=passage["text"],
                    file=file.name,
                    unit=file.unit,
                    place=passage["place"],
                    passage=passage["number"],
                    row=row,
                    sides={name: Side(rank=ranks[name].get(row), score=float(known[name][row])) for name in sides},
                    stale=stale[file.name],
                )
            )
        return hits


def _checked_query(query: str, k: int, mode: str, rescore: int) -> str:
    if not isinstance(query, str) or not query.strip():
        raise InputError("query: empty; expected a question or some words; type one")
    check_value("k", k, Annotated[int, Range(least=1)])
    check_value("rescore", rescore, Annotated[int, Range(least=0)])
    require_choice("mode", mode, MODES)
    return query.strip()
