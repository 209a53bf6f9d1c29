"""Making an index and bringing it up to date: equal to a fresh one, stopped and going on, never half-written."""

from __future__ import annotations

import json
import os

import numpy as np
import processes
import pytest
from datasets import Dataset
from search_data import WIDTH, HashEncoder, data_files, hash_encoder, left_in
from tiny import SENTENCES
from torch import nn

from selfembed.errors import InputError
from selfembed.search import build
from selfembed.search.dense import STORES
from selfembed.search.folder import IndexSettings, Manifest
from selfembed.search.index import Index
from selfembed.search.passages import Reading
from selfembed.search.unfinished import Unfinished


@pytest.fixture
def texts(tmp_path):
    """Three files, some of whose texts are equal."""
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("\n\n".join(SENTENCES[:10]))
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in SENTENCES[5:20]))
    (folder / "sub" / "c.md").write_text("\n\n".join(SENTENCES[20:30]))
    return folder


def change(texts) -> None:
    """One file changes, one goes, one moves, one comes."""
    (texts / "a.txt").write_text("\n\n".join([*SENTENCES[2:10], "An entirely new sentence about a heron."]))
    (texts / "b.jsonl").unlink()
    (texts / "sub" / "c.md").rename(texts / "0.md")
    (texts / "d.txt").write_text(SENTENCES[40])


def head() -> nn.Module:
    layer = nn.Linear(WIDTH, 100, bias=False)
    layer.weight.data = nn.init.orthogonal_(layer.weight.data.clone())
    return layer


HEAD = head()
KINDS = [IndexSettings(vectors=store) for store in STORES]
KINDS += [IndexSettings(vectors="float16", sparse=8, language="none", reading=Reading(passage_words=5))]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: f"{settings.vectors}-{settings.sparse}")
def test_brought_up_to_date_equals_fresh(settings, texts, tmp_path):
    hashed = HashEncoder()
    encoder = hashed.encoder(head=lambda: HEAD)
    Index.build(encoder, texts, tmp_path / "grown", settings=settings)
    before = len(hashed.encoded)
    change(texts)
    grown = Index.build(encoder, texts, tmp_path / "grown", settings=settings)
    assert grown.report.files_read == 2
    assert grown.report.encoded == len(hashed.encoded) - before < 4 * (1 if settings.sparse == 0 else 4)
    fresh = Index.build(encoder, texts, tmp_path / "fresh", settings=settings)
    assert data_files(tmp_path / "grown") == data_files(tmp_path / "fresh")
    assert grown.manifest.files == fresh.manifest.files
    for query in ("old heron", SENTENCES[3], "<" + SENTENCES[25] + ">"):
        found, expected = (index.search(query, sparse=settings.sparse > 0) for index in (grown, fresh))
        assert found.to_dict() == expected.to_dict()
    assert left_in(tmp_path / "grown") == ["data-2", "index.json"]
    assert left_in(tmp_path) == ["fresh", "grown", "texts"]


def test_equal_texts_are_encoded_once(texts, tmp_path):
    hashed = HashEncoder()
    report = Index.build(hashed.encoder(), texts, tmp_path / "index").report
    assert sorted(hashed.encoded) == sorted(SENTENCES[:30]) and report.passages == 35 and report.encoded == 30


def test_nothing_new_writes_nothing(texts, tmp_path):
    encoder = hash_encoder()
    Index.build(encoder, texts, tmp_path / "index")
    before = {file: os.stat(file).st_mtime_ns for file in (tmp_path / "index" / "data-1").rglob("*")}
    os.utime(texts / "a.txt")
    index = Index.build(encoder, texts, tmp_path / "index")
    assert index.report.unchanged and index.report.files_read == 0
    assert before == {file: os.stat(file).st_mtime_ns for file in (tmp_path / "index" / "data-1").rglob("*")}
    assert not any(hit.stale for hit in index.search(SENTENCES[0]))


def test_update_and_add(texts, tmp_path):
    hashed = HashEncoder()
    index = Index.build(hashed.encoder(), texts, tmp_path / "index", settings=IndexSettings(vectors="float16"))
    (tmp_path / "more.txt").write_text("A heron stood in the reeds.")
    index = index.add(tmp_path / "more.txt")
    assert len(index) == 36 and index.report.encoded == 1 and index.search("heron", 1)[0].file.endswith("more.txt")
    (texts / "a.txt").unlink()
    index = index.update()
    assert len(index) == 26 and index.report.encoded == 0
    assert index.manifest.settings.vectors == "float16"  # the settings it had
    assert index.manifest.sources == [str(texts), str(tmp_path / "more.txt")]


def test_other_settings_encode_only_what_they_must(texts, tmp_path):
    hashed = HashEncoder()
    out = tmp_path / "index"
    Index.build(hashed.encoder(), texts, out)
    assert Index.build(hashed.encoder(), texts, out, settings=IndexSettings(vectors="int8")).report.encoded == 0
    # float32 cannot be had from what is kept now
    assert Index.build(hashed.encoder(), texts, out, settings=IndexSettings()).report.encoded == 30
    report = Index.build(hashed.encoder(), texts, out, settings=IndexSettings(language="none")).report
    assert report.encoded == 0 and not report.unchanged


def test_iterables_and_data_sets(tmp_path):
    encoder = hash_encoder()
    rows = Dataset.from_dict({"text": SENTENCES[3:5]})
    index = Index.build(encoder, [iter(SENTENCES[:3]), rows], tmp_path / "index")
    assert len(index) == 5 and index.search(SENTENCES[4], 1)[0].where() == "Dataset 2, row 2"
    with pytest.raises(InputError, match="of its sources were no paths; expected paths, .*; give all sources again"):
        index.update()
    assert len(index.update(iter(SENTENCES[:2]))) == 2


def test_stopped_index_goes_on(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_CHUNK", 4)
    stopped = HashEncoder(fails_after=12)
    with pytest.raises(KeyboardInterrupt):
        Index.build(stopped.encoder(), texts, tmp_path / "index")
    assert len(stopped.encoded) == 12 and left_in(tmp_path) == [".index.unfinished", "texts"]
    # A write that was cut short by a kill or a full disk.
    for name in ("keys", "vectors"):
        with (tmp_path / ".index.unfinished" / name).open("ab") as file:
            file.write(b"torn")
    with (tmp_path / ".index.unfinished" / "keys").open("ab") as file:
        file.write(b"k" * 40)
    goes_on = HashEncoder()
    index = Index.build(goes_on.encoder(), texts, tmp_path / "index")
    assert len(goes_on.encoded) == index.report.encoded == 18
    assert sorted(stopped.encoded + goes_on.encoded) == sorted(SENTENCES[:30])
    Index.build(hash_encoder(), texts, tmp_path / "fresh")
    assert data_files(tmp_path / "index") == data_files(tmp_path / "fresh")
    assert left_in(tmp_path) == ["fresh", "index", "texts"]


def test_stopped_update_leaves_the_old_index(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_CHUNK", 2)
    old = Index.build(hash_encoder(), texts, tmp_path / "index")
    change(texts)
    (texts / "e.txt").write_text("\n\n".join(SENTENCES[50:]))
    with pytest.raises(KeyboardInterrupt):
        Index.build(HashEncoder(fails_after=4).encoder(), texts, tmp_path / "index")
    assert Index.open(tmp_path / "index").manifest == old.manifest
    goes_on = HashEncoder()
    Index.build(goes_on.encoder(), texts, tmp_path / "index")
    assert len(goes_on.encoded) == 12 - 4


def test_killed_while_writing(texts, tmp_path):
    """What a kill leaves behind is no part of the index, and goes with the next update."""
    Index.build(hash_encoder(), texts, tmp_path / "index")
    (tmp_path / "index" / "data-2").mkdir()
    (tmp_path / "index" / ".data-2.99.tmp").mkdir()
    assert len(Index.open(tmp_path / "index")) == 35
    change(texts)
    Index.build(hash_encoder(), texts, tmp_path / "index")
    assert left_in(tmp_path / "index") == ["data-2", "index.json"]


def test_vectors_of_another_embedder_are_not_gone_on_with(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_CHUNK", 4)
    with pytest.raises(KeyboardInterrupt):
        Index.build(HashEncoder(fails_after=4).encoder(), texts, tmp_path / "index")
    other = HashEncoder()
    Index.build(other.encoder(fingerprint="another"), texts, tmp_path / "index")
    assert len(other.encoded) == 30


def test_two_at_once(texts, tmp_path):
    first = Unfinished(tmp_path / "index", "x")
    with pytest.raises(InputError, match="another process is writing it; expected only one; wait until it is done"):
        Index.build(hash_encoder(), texts, tmp_path / "index")
    first.close(done=True)
    assert len(Index.build(hash_encoder(), texts, tmp_path / "index")) == 35


def test_reader_of_the_old_index_reads_on(texts, tmp_path):
    old = Index.build(hash_encoder(), texts, tmp_path / "index")
    old.search("fox")
    change(texts)
    Index.build(hash_encoder(), texts, tmp_path / "index")
    assert old.search(SENTENCES[15], 1, mode="lexical")[0].text == SENTENCES[15]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_corpus(content, texts, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text(content)
    (tmp_path / "empty" / "b.pdf").write_text("x")
    with pytest.raises(
        InputError,
        match=r"^corpus .*empty: no text in it \(skipped: .*: .pdf \(1\)\); expected .*; give",
    ):
        Index.build(hash_encoder(), tmp_path / "empty", tmp_path / "index")
    assert left_in(tmp_path) == ["empty", "texts"]
    old = Index.build(hash_encoder(), texts, tmp_path / "index")
    with pytest.raises(InputError, match="no text in it"):
        Index.build(hash_encoder(), tmp_path / "empty", tmp_path / "index")
    assert Index.open(tmp_path / "index").manifest == old.manifest


def test_another_embedder(texts, tmp_path):
    Index.build(hash_encoder(), texts, tmp_path / "index")
    with pytest.raises(
        InputError,
        match=r"made by another embedder \(hash, .*\) than other; expected the same; choose",
    ):
        Index.build(hash_encoder(name="other", fingerprint="other"), texts, tmp_path / "index")


def test_folder_that_is_no_index(texts, tmp_path):
    with pytest.raises(InputError, match="is there already and no index; expected a new folder; choose"):
        Index.build(hash_encoder(), texts, texts)
    (tmp_path / "new").mkdir()
    (tmp_path / ".new.unfinished").mkdir()
    (tmp_path / ".new.unfinished" / "mine").write_text("x")
    with pytest.raises(InputError, match="is not of an index, yet has its place; expected none; move it away"):
        Index.build(hash_encoder(), texts, tmp_path / "new")
    assert left_in(tmp_path / ".new.unfinished") == ["mine"]
    Index.build(hash_encoder(), texts, tmp_path / "empty-folders-are-fine" / "index")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (lambda texts: np.zeros((len(texts), 4)), "is zero"),
        (lambda texts: np.full((len(texts), 4), np.nan), "is not finite"),
        (lambda texts: np.ones((1, 4)), r"vectors: of shape \(1, 4\); expected \(30, 4\), one row a text"),
        (lambda texts: np.ones(4), "vectors: of shape"),
    ],
)
def test_bad_vectors(vectors, message, texts, tmp_path):
    with pytest.raises(InputError, match=message):
        Index.build(hash_encoder(passages=vectors), texts, tmp_path / "index")
    assert left_in(tmp_path) == ["texts"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"vectors": "int4"},
            "vectors 'int4': expected 'float32', .* or 'binary'; did you mean 'int8'",
        ),
        ({"language": "xx"}, "language 'xx': expected 'english', "),
        ({"approximate": "magic"}, "approximate 'magic': expected 'faiss' or None"),
        ({"sparse": -1}, "sparse -1: expected at least 0"),
        ({"sparse": 8}, "no decoder layer is known"),
        ({"reading": Reading(column="none")}, "no column 'none'"),
    ],
)
def test_bad_settings(settings, message, texts, tmp_path):
    with pytest.raises(InputError, match=message):
        Index.build(hash_encoder(), texts, tmp_path / "index", settings=IndexSettings(**settings))
    assert left_in(tmp_path) == ["texts"]


def test_full_disk(texts, tmp_path):
    """A disk that ends while vectors are written: one line, the index not there, the work kept."""
    (tmp_path / "index.txt").write_text("\n\n".join(f"{text} {i}" for i in range(20) for text in SENTENCES))
    code = (
        "import resource, signal, sys; from search_data import hash_encoder; from selfembed.search.index import Index;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000));"
        "Index.build(hash_encoder(), sys.argv[1], sys.argv[2])"
    )
    run = processes.run(code, str(tmp_path / "index.txt"), str(tmp_path / "index"))
    assert "InputError: cannot write" in run.stderr.splitlines()[-1] and not (tmp_path / "index").exists()
    Index.build(hash_encoder(), tmp_path / "index.txt", tmp_path / "index")
    assert Manifest.read(tmp_path / "index").passages == 20 * len(SENTENCES)
