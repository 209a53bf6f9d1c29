"""Makes an index and brings it up to date: only what is new is read and encoded.

Shapes: N passages, D dimensions, B rows of a block.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from selfembed.errors import InputError
from selfembed.ground.extras import require_extra
from selfembed.ground.files import arriving_folder, write_json, writing
from selfembed.ground.progress import Progress, silent
from selfembed.search.dense import DenseIndex, float_type, new_vectors, unit, write_codes
from selfembed.search.encoder import Encoder, checked
from selfembed.search.folder import (
    KEY_BYTES,
    KEYS,
    MANIFEST,
    PASSAGES,
    IndexData,
    IndexedFile,
    IndexSettings,
    Manifest,
    checksum,
    checksums,
    clear_leftovers,
)
from selfembed.search.lexical import LexicalIndex, Words
from selfembed.search.nearest import NearestIndex
from selfembed.search.passage_file import PassageFile
from selfembed.search.passages import Passage, Skipped, find_sources, read_passages
from selfembed.search.sparse import SparseIndex, sparse_rows
from selfembed.search.unfinished import Unfinished

LEXICAL = "lexical"

_CHUNK = 512  # texts encoded and kept together, of about one length
_ROWS = 4096  # vectors written together


@dataclass(kw_only=True)
class IndexReport:
    """What was done to make an index.

    Attributes:
        files: The number of sources in the index.
        files_read: The number of sources that were new or had changed.
        passages: The number of passages in the index.
        encoded: The number of texts that were encoded now.
        unchanged: Whether the index was up to date already.
        skipped: How often reading left something out, by the reason.
    """

    files: int = 0
    files_read: int = 0
    passages: int = 0
    encoded: int = 0
    unchanged: bool = False
    skipped: dict[str, int] = field(default_factory=dict)


def write_index(
    out: str | Path, encoder: Encoder, sources: Any, settings: IndexSettings, *, progress: Progress = silent
) -> IndexReport:
    """Makes an index, or brings the one in the folder up to date with its sources.

    What is there is kept by content: a file by its hash, a text by its hash. A stopped run keeps what was encoded, and
    the same call goes on from there; the index itself changes in one step at the end.

    Args:
        out: The folder of the index.
        encoder: The encoder of the passages.
        sources: All sources of the index, as :class:`~selfembed.data.corpus.Corpus` takes them; texts of other sources
            leave it.
        settings: How the index is made.
        progress: Is told how many passages are read and texts encoded.

    Returns:
        What was done.

    Raises:
        InputError: An extra is missing, a source cannot be read, there is no text, the folder holds something else or
            the index of another embedder, the encoder gives no usable vectors, another process writes the same index,
            or the disk is full.
    """
    out = Path(out)
    if settings.approximate is not None:
        require_extra(settings.approximate)
    Words(settings.language)  # asks for its extra too
    old = _existing(out, encoder)
    unfinished = Unfinished(out, encoder.fingerprint)
    done = False
    try:
        if old is not None:
            clear_leftovers(out, old.manifest)
        report = _write(out, encoder, sources, settings, old, unfinished, progress)
        done = True
    finally:
        unfinished.close(done=done)
    return report


def _existing(out: Path, encoder: Encoder) -> IndexData | None:
    """Opens the index that is to be brought up to date; returns None where there is none."""
    if not (out / MANIFEST).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"index {out}: is there already and no index; expected a new folder; choose another one")
        return None
    manifest = Manifest.read(out)
    if manifest.fingerprint != encoder.fingerprint:
        raise InputError(
            f"index {out}: made by another embedder ({manifest.embedder}, or what it was then) than {encoder.name}; "
            "expected the same; choose another folder, or remove this one to index all texts again"
        )
    return IndexData(out, manifest)


def _write(
    out: Path,
    encoder: Encoder,
    sources: Any,
    settings: IndexSettings,
    old: IndexData | None,
    unfinished: Unfinished,
    progress: Progress,
) -> IndexReport:
    report, skipped = IndexReport(), Skipped()
    reading = PassageFile(unfinished.folder / PASSAGES)
    with writing(unfinished.folder):
        _collect(reading, sources, settings, old, report, skipped, progress)
    if not reading.count:
        left_out = ", ".join(f"{reason} ({count})" for reason, count in sorted(skipped.counts.items()))
        raise InputError(
            f"corpus {_shown(sources)}: no text in it (skipped: {left_out or 'nothing'}); expected at least one; give "
            "a source that has text"
        )
    keys = reading.keys()
    report.files, report.passages, report.skipped = len(reading.files), reading.count, skipped.counts
    head = _head(encoder, settings.sparse)
    reusable = old if old is not None and _vectors_fit(old.manifest.settings, settings) else None
    report.encoded = _encode(reading, keys, encoder, reusable, unfinished, progress)
    dimensions = unfinished.dimensions or (old.manifest.dimensions if old is not None else 0)
    manifest = Manifest(
        data="data-1" if old is None else f"data-{int(old.manifest.data.removeprefix('data-')) + 1}",
        embedder=encoder.name,
        fingerprint=encoder.fingerprint,
        dimensions=dimensions,
        passages=reading.count,
        settings=settings,
        sources=_paths(sources),
        files=reading.files,
        skipped=skipped.counts,
        checksums={},
    )
    if old is not None and _same_data(old.manifest, settings, reading):
        manifest = dataclasses.replace(manifest, data=old.manifest.data, checksums=old.manifest.checksums)
        with writing(out):
            write_json(out / MANIFEST, manifest.to_dict())
        report.unchanged = True
        return report

    def fill(data: Path) -> None:
        _write_data(data, reading, keys, head, settings, reusable, unfinished, dimensions, progress)

    if old is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with arriving_folder(out) as staging:
            (staging / manifest.data).mkdir()
            fill(staging / manifest.data)
            complete = dataclasses.replace(manifest, checksums=checksums(staging / manifest.data))
            write_json(staging / MANIFEST, complete.to_dict())
        return report
    with arriving_folder(out / manifest.data) as staging:
        fill(staging)
        complete = dataclasses.replace(manifest, checksums=checksums(staging))
    with writing(out):
        write_json(out / MANIFEST, complete.to_dict())
    clear_leftovers(out, complete)
    return report


def _collect(
    reading: PassageFile,
    sources: Any,
    settings: IndexSettings,
    old: IndexData | None,
    report: IndexReport,
    skipped: Skipped,
    progress: Progress,
) -> None:
    """Reads what is new or has changed, and takes over the rest."""
    known: dict[tuple[str, str], IndexedFile] = {}
    if old is not None and old.manifest.settings.reading == settings.reading:
        known = {file.kind: file for file in old.manifest.files if file.hash}
    reading.open()
    try:
        for number, source in enumerate(find_sources(sources, settings.reading, skipped), 1):
            before = known.get((source.hash, Path(source.name).suffix)) if source.hash else None
            if old is not None and before is not None:
                part = old.table.slice(before.first, before.passages).to_pydict()
                reading.add(source, before.unit, list(zip(*part.values(), strict=True)))
            else:
                passages: list[Passage] = read_passages(source, settings.reading, skipped)
                unit = passages[0].unit if passages else "passage"
                reading.add(source, unit, [(p.text, p.place, p.number) for p in passages])
                report.files_read += 1
            progress(f"reading, {reading.count:,} passages", number, None)
    finally:
        reading.close()


def _vectors_fit(before: IndexSettings, now: IndexSettings) -> bool:
    """Tells whether the stored vectors and sparse rows can become what is wanted without encoding."""
    exact = float_type(before.vectors) == np.float32 or float_type(before.vectors) == float_type(now.vectors)
    return exact and now.sparse in (0, before.sparse)


def _encode(
    reading: PassageFile,
    keys: list[bytes],
    encoder: Encoder,
    old: IndexData | None,
    unfinished: Unfinished,
    progress: Progress,
) -> int:
    """Encodes each text that has no vector yet, and returns how many these were."""
    stored = old.rows_of_keys if old is not None else {}
    missing = {
        key: text
        for key, text in zip(keys, reading.texts(), strict=True)
        if key not in stored and key not in unfinished
    }
    # Long texts first: alike lengths share a batch, and memory runs out at once or not at all.
    order = sorted(missing, key=lambda key: (-len(missing[key]), key))
    dimensions = unfinished.dimensions or (old.manifest.dimensions if old is not None else None)
    for start in range(0, len(order), _CHUNK):
        progress("encoding", start, len(order))
        chunk = order[start : start + _CHUNK]
        texts = [missing[key] for key in chunk]
        vectors_BD = checked(encoder.passages(texts), texts, dimensions)
        dimensions = vectors_BD.shape[1]
        unfinished.add(chunk, vectors_BD)
    if order:
        progress("encoding", len(order), len(order))
    return len(order)


def _head(encoder: Encoder, sparse: int) -> nn.Module | None:
    """Loads the decoder layer for the sparse view, before anything is encoded; returns None without such a view."""
    if not sparse:
        return None
    if encoder.head is None:
        raise InputError(
            f"sparse {sparse}: no decoder layer is known of embedder {encoder.name}; expected one for the sparse "
            "view; leave sparse out"
        )
    return encoder.head()


def _same_data(old: Manifest, settings: IndexSettings, reading: PassageFile) -> bool:
    return old.settings == settings and old.checksums.get(PASSAGES) == checksum(reading.file)


def _write_data(
    data: Path,
    reading: PassageFile,
    keys: list[bytes],
    head: nn.Module | None,
    settings: IndexSettings,
    old: IndexData | None,
    unfinished: Unfinished,
    dimensions: int,
    progress: Progress,
) -> None:
    """Writes all files of an index's data."""
    progress("writing", 0, len(keys))
    os.replace(reading.file, data / PASSAGES)
    reading.file = data / PASSAGES
    np.save(data / KEYS, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES))
    LexicalIndex.write(data / LEXICAL, reading.texts(), settings.language)
    vectors_ND = new_vectors(data, settings.vectors, len(keys), dimensions)
    ids_NK = np.zeros((len(keys), settings.sparse), np.int32)
    weights_NK = np.zeros((len(keys), settings.sparse), np.float32)
    before = DenseIndex(old.folder, old.manifest.settings.vectors).vectors_ND if old is not None else None
    before_sparse = SparseIndex(old.folder) if old is not None and settings.sparse else None
    stored = old.rows_of_keys if old is not None else {}
    for start in range(0, len(keys), _ROWS):
        part = keys[start : start + _ROWS]
        there_B = np.array([key in stored for key in part])
        kept = start + np.flatnonzero(there_B)
        rows = [stored[keys[row]] for row in kept]
        if before is not None and rows:
            vectors_ND[kept] = before[rows]
            if before_sparse is not None:
                ids_NK[kept], weights_NK[kept] = before_sparse.ids_NK[rows], before_sparse.weights_NK[rows]
        if not there_B.all():
            fresh = start + np.flatnonzero(~there_B)
            fresh_BD = unfinished.get([keys[row] for row in fresh])
            vectors_ND[fresh] = unit(fresh_BD)
            if head is not None:
                found = sparse_rows(fresh_BD, head, k=settings.sparse)
                ids_NK[fresh], weights_NK[fresh] = found.ids_BK, found.weights_BK
        progress("writing", min(start + _ROWS, len(keys)), len(keys))
    vectors_ND.flush()
    write_codes(data, settings.vectors)
    if settings.sparse:
        SparseIndex.write(data, ids_NK, weights_NK)
    if settings.approximate:
        NearestIndex.write(data, vectors_ND)


def _paths(sources: Any) -> list[str] | None:
    """Returns the sources as paths that hold from anywhere; None where one is no path."""
    listed = list(sources) if isinstance(sources, list | tuple) else [sources]
    if not all(isinstance(source, str | os.PathLike) for source in listed):
        return None
    names = [os.path.expanduser(os.fspath(source)) for source in listed]
    # What is no path here, like "python-docs", stays as it is; a glob pattern becomes absolute too.
    return [os.path.abspath(n) if os.path.exists(n) or any(c in n for c in "*?[") else n for n in names]


def _shown(sources: Any) -> str:
    return ", ".join(_paths(sources) or ["the sources given"])
