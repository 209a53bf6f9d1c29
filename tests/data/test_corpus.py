"""Where texts come from: every format, every refusal, and the prose that Python carries."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from selfembed.data import passages, plain_text, rows, sources
from selfembed.data.corpus import Corpus
from selfembed.data.words import split_words
from selfembed.errors import InputError
from selfembed.ground.files import cache_dir

TEXTS = ["one small text", "another small text, with ünïcode", "a third"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SELFEMBED_CACHE", str(folder))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def _pack(name: str, content: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(content)
    if name.endswith((".zst", ".zstd")):  # of two frames, as parallel compressors write them
        half = len(content) // 2
        return zstandard.compress(content[:half]) + zstandard.compress(content[half:])
    return content


def _parquet(texts: list[str | None], column: str = "text", **more: list) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({column: texts, **more}), sink)
    return sink.getvalue().to_pybytes()


def _content(suffix: str) -> bytes:
    objects = [{"id": number, "text": text} for number, text in enumerate(TEXTS)]
    if suffix == ".parquet":
        return _parquet(TEXTS, id=[0, 1, 2])
    if suffix in (".jsonl", ".ndjson"):
        return "\n".join(map(json.dumps, objects)).encode()
    if suffix == ".json":
        return json.dumps(objects, indent=1).encode()
    if suffix in (".csv", ".tsv"):
        mark = "," if suffix == ".csv" else "\t"
        return "\r\n".join([f"id{mark}text", *(f'{row["id"]}{mark}"{row["text"]}"' for row in objects)]).encode()
    return "\n \n\n".join(TEXTS).replace(" small ", "\n  small\t").encode()


def _refused(message: str, *args: object, **options: object) -> str:
    """The message with which a corpus is refused: of one line, and matching."""
    with pytest.raises(InputError, match=message) as caught:
        Corpus(*args, **options).texts()
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # printable, whatever the file's bytes
    return str(caught.value)


def _skipping(source: object, **options: object) -> tuple[list[str], dict[str, int]]:
    corpus = Corpus(source, on_bad="skip", **options)
    return list(corpus), corpus.report.skipped


# ---- formats


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".zstd"])
@pytest.mark.parametrize(
    "suffix", [".txt", ".md", ".rst", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".TXT"]
)
def test_every_format_gives_the_same_texts(data: Path, suffix: str, packed: str) -> None:
    path = data / f"texts{suffix}{packed}"
    path.write_bytes(_pack(path.name, _content(suffix.lower())))
    corpus = Corpus(path)
    assert list(corpus) == TEXTS
    assert len(corpus) == 3
    assert corpus.texts().column_names == ["text"]
    assert (corpus.report.files, corpus.report.sources, corpus.report.texts, corpus.report.words) == (1, 1, 3, 10)
    assert corpus.report.skipped == {}


def test_byte_order_mark_and_encoding(data: Path) -> None:
    (data / "mark.txt").write_bytes(b"\xef\xbb\xbfhello there")
    (data / "latin.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    (data / "wide.txt").write_bytes("na\xefve\n\ntwo".encode("utf-16"))
    assert list(Corpus(data / "mark.txt")) == ["hello there"]
    assert list(Corpus(data / "latin.txt", encoding="latin-1")) == ["caf\xe9 au lait"]
    assert list(Corpus(data / "wide.txt", encoding="utf-16")) == ["na\xefve", "two"]
    (data / "cut.txt").write_bytes("na\xefve".encode("utf-16")[:-1])
    _refused(r"cut.txt'.*invalid utf-16", data / "cut.txt", encoding="utf-16")
    _refused("encoding 'utf-88': expected", data / "mark.txt", encoding="utf-88")
    _refused("encoding 'hex': expected", data / "mark.txt", encoding="hex")


def test_json_rows_of_strings(data: Path) -> None:
    (data / "a.jsonl").write_text('"one"\n\n"two three"\nnull\n')
    (data / "b.json").write_text(' [ "one" , {"body": "two"} ] ')
    assert list(Corpus(data / "a.jsonl")) == ["one", "two three"]
    assert list(Corpus(data / "b.json")) == ["one", "two"]


def test_long_json_list_is_read_in_parts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE", 7)
    monkeypatch.setattr(plain_text, "PIECE", 7)
    texts = [f"text {number} " + "word " * (number % 9) + "end" for number in range(200)]
    (data / "a.json").write_text(json.dumps(texts))
    assert list(Corpus(data / "a.json")) == texts
    (data / "b.txt").write_text("\n\n".join(texts))  # lines cut inside words
    assert list(Corpus(data / "b.txt")) == texts


@pytest.mark.parametrize("content", ['["a", "b"', '["a" "b"]', '["a",]', "", '{"text": "a"}', '["a', "[" * 100_000])
def test_malformed_json_list(data: Path, content: str) -> None:
    path = data / "a.json"
    path.write_text(content)
    _refused(r"a\.json', item \d: malformed JSON \(.*correct it, or leave it out", path)
    (data / "b.txt").write_text("kept")
    texts, skipped = _skipping(data)
    assert texts[-1] == "kept" and skipped == {"malformed JSON": 1}


def test_empty_json_list_is_empty(data: Path) -> None:
    (data / "a.json").write_text("[ ]")
    _refused("no text in .*read 1 files", data)


def test_large_csv_fields_and_quotes(data: Path) -> None:
    long = "word " * 60_000
    with open(data / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["1", long], [], ["2", 'said "yes",\nthen']])
    assert list(Corpus(data / "a.csv", passage_words=None)) == [long.strip(), 'said "yes", then']


def test_malformed_csv(data: Path) -> None:
    path = data / "a.csv"
    path.write_text('id,text\n1,good\n2\n3,"bad"x\n4,fine\n5,"open\n6,lost\n')
    assert "3: malformed CSV (1 fields under a header of 2)" in _refused("a.csv', line", path)
    assert _skipping(path) == (["good", "fine"], {"malformed CSV": 3})
    path.write_text("id;text\n1;a\n")
    _refused("'id;text' is a header of one column", path)


# ---- columns


def test_columns(data: Path) -> None:
    (data / "a.parquet").write_bytes(_parquet(["x y"], "body", n=[1]))
    (data / "b.jsonl").write_text('{"title": "t", "body": null}\n{"title": "t", "body": "x y"}\n{}')
    (data / "c.csv").write_text("title,body\nt,x y\n")
    (data / "d.jsonl").write_text('{"n": 1}')
    assert list(Corpus(data / "a.parquet")) == ["x y"]  # the only one of strings
    assert list(Corpus(data / "b.jsonl", column="body")) == ["x y"]
    assert list(Corpus(data / "c.csv", column="body")) == ["x y"]
    _refused("no column 'text' and several columns of strings; the columns are 'title', 'body'", data / "b.jsonl")
    _refused("several columns of strings; the columns of its first line are 'title', 'body'", data / "c.csv")
    _refused("no column of strings", data / "d.jsonl")
    _refused("no column 'nope'; expected one of 'body', 'n'", data / "a.parquet", column="nope")
    _refused("no column 'nope'; expected one of 'title', 'body'", data / "c.csv", column="nope", on_bad="skip")
    _refused(r"a.parquet', row 1: not a string \(int\)", data / "a.parquet", column="n")


def test_empty_values_are_counted(data: Path) -> None:
    (data / "a.parquet").write_bytes(_parquet(["a", None, "", " \n"]))
    corpus = Corpus(data / "a.parquet")
    assert list(corpus) == ["a"] and corpus.report.skipped == {"empty": 3}


def test_values_that_are_no_strings(data: Path) -> None:
    (data / "a.jsonl").write_text('{"text": "a"}\n{"text": 3}\n[1]\n')
    _refused(r"a.jsonl', line 2: not a string \(int\)", data / "a.jsonl")
    assert _skipping(data / "a.jsonl") == (["a"], {"not a string": 2})
    _refused(r"a generator, item 2: not a string \(bytes\)", (text for text in ["a", b"b"]))


# ---- passages


def test_passages() -> None:
    def lengths(count: int, size: int | None) -> list[int]:
        words = [str(number) for number in range(count)]
        texts = list(Corpus(iter([" ".join(words)]), passage_words=size))
        assert " ".join(texts).split() == words
        return [len(text.split()) for text in texts]

    assert lengths(100, 100) == [100]
    assert lengths(119, 100) == [119]
    assert lengths(120, 100) == [100, 20]
    assert lengths(219, 100) == [100, 119]
    assert lengths(220, 100) == [100, 100, 20]
    assert lengths(1000, None) == [1000]
    assert lengths(3, 1) == [1, 1, 1]


def test_line_of_a_million_characters(data: Path) -> None:
    path = data / "a.txt"
    path.write_text("word " * 200_000)
    assert len(Corpus(path)) == 2_000
    assert len(Corpus(path, passage_words=None)) == 1
    path.write_text("before\n" + "x" * 1_000_000 + " y\nafter")
    _refused("a.txt', line 2: over 1,000 characters without a space", path)
    assert _skipping(path) == (["before after"], {"over 1,000 characters without a space": 1})


def test_a_text_too_large_to_stay_whole(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "a.txt").write_text("word\n" * 100)
    (data / "b.jsonl").write_text('"a"\n' + json.dumps("word " * 100) + '\n"b"')
    monkeypatch.setattr(rows, "MAX_ROW", 300)
    monkeypatch.setattr(passages, "MAX_ROW", 300)
    _refused("beginning 'word word .*cannot be left whole; expected a number", data / "a.txt", passage_words=None)
    assert len(Corpus(data / "a.txt")) == 1
    _refused("b.jsonl', line 2: row of over 300 characters", data / "b.jsonl")
    assert _skipping(data / "b.jsonl") == (["a", "b"], {"row of over 300 characters": 1})


CHINESE = "港口的理事会在星期二开会讨论那座旧桥。工程师说桥墩已经开裂,修理需要两年时间和很多钱。"
SCRIPTS = {
    "Chinese": CHINESE,
    "Japanese": "港の理事会は火曜日に古い橋について話し合った。橋脚にひびが入っている。",
    "Thai": "สภาท่าเรือประชุมกันในวันอังคารเพื่อหารือเกี่ยวกับสะพานเก่า ",
    "Burmese": "ဆိပ်ကမ်းကောင်စီသည် တံတားဟောင်းအကြောင်း ဆွေးနွေးသည်။",
    "Chinese with Latin": "在Linux系统中安装Python 3只需要五分钟，如果有网络的话。",
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_scripts_without_spaces_are_cut_like_others(data: Path, script: str, kind: str) -> None:
    text = SCRIPTS[script] * 300  # over what a line is read in at once
    path = data / f"a.{kind}"
    path.write_text(text if kind == "txt" else json.dumps({"text": text}), encoding="utf-8")
    corpus = Corpus(path)
    whole = list(corpus)
    assert "".join("".join(whole).split()) == "".join(text.split()), "nothing is lost"
    assert {len(split_words(passage)) for passage in whole[:-1]} == {100}
    assert max(map(len, whole)) < 400 and corpus.report.words == 100 * (len(whole) - 1) + len(split_words(whole[-1]))
    assert list(Corpus(path, passage_words=None)) == [text.strip()]


def test_a_wrapped_paragraph_in_chinese_has_no_spaces(data: Path) -> None:
    (data / "a.txt").write_text("\n".join(CHINESE[i : i + 10] for i in range(0, len(CHINESE), 10)), encoding="utf-8")
    assert list(Corpus(data / "a.txt")) == [CHINESE]


def test_a_name_in_another_script_is_a_word_as_ever() -> None:
    text = " ".join(f"word{i} (東京都)" for i in range(60))
    assert [len(passage.split()) for passage in Corpus(iter([text]))] == [100, 20]


def test_what_no_script_writes_is_refused(data: Path) -> None:
    (data / "a.txt").write_text("ж" * 20_000, encoding="utf-8")
    _refused("over 10,000 characters without a space", data / "a.txt")
    (data / "b.txt").write_text(CHINESE * 9 + "A" * 2_000, encoding="utf-8")
    _refused("over 1,000 characters without a space", data / "b.txt")


# ---- bad texts


def test_invalid_utf8(data: Path) -> None:
    (data / "a.txt").write_bytes(b"good\n\nba\xffd\nrest")
    (data / "b.jsonl").write_bytes(b'"good"\n"ba\xffd"')
    (data / "c.csv").write_bytes(b"text\ngood\nba\xffd\n")
    (data / "d.json").write_bytes(b'["good", "ba\xffd"]')
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 4, 6], pa.int32()).buffers()[1], pa.py_buffer(b"goodb\xff")]
    )
    pq.write_table(pa.table({"text": bad}), data / "e.parquet")
    for name, place in (("a.txt", "line 3"), ("b.jsonl", "line 2"), ("c.csv", "line 3"), ("e.parquet", "row 2")):
        message = _refused(f"{name}', {place}: invalid utf-8", data / name)
        assert "convert it to UTF-8, or give its encoding, or leave it out (`on_bad='skip'`)" in message
    _refused("d.json', item 2: invalid utf-8", data / "d.json")
    texts, skipped = _skipping(data)
    assert texts == ["good", "rest", "good", "good", "good", "good"] and skipped == {"invalid utf-8": 5}
    _refused("item 1: invalid utf-8", iter(["lone \ud800 surrogate"]))


def test_nul(data: Path) -> None:
    (data / "a.txt").write_bytes(b"good\n\nba\0d\n\ngood")
    (data / "b.csv").write_bytes(b"text\nba\0d\n")
    _refused("a.txt', line 3: NUL character; a binary or UTF-16 file", data / "a.txt")
    _refused("b.csv', line 2: ", data / "b.csv")
    assert _skipping(data / "a.txt") == (["good", "good"], {"NUL character": 1})


def test_malformed_json_line(data: Path) -> None:
    (data / "a.jsonl").write_text('{"text": "a"}\n{"text": \n"b"\n' + "[" * 100_000)
    _refused("a.jsonl', line 2: malformed JSON", data / "a.jsonl")
    assert _skipping(data / "a.jsonl") == (["a", "b"], {"malformed JSON": 2})


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst", "a.jsonl.gz", "a.parquet", "a.parquet.gz", "a.parquet.zst"])
def test_truncated_files(data: Path, name: str) -> None:
    texts = [f"text {os.urandom(40).hex()}" for _ in range(5_000)]
    content = _parquet(texts) if ".parquet" in name else "\n\n".join(map(json.dumps, texts)).encode()
    whole = _pack(name, content)
    (data / name).write_bytes(whole)
    assert len(Corpus(data / name)) == 5_000
    (data / name).write_bytes(whole[: len(whole) // 3])
    assert "cut short" in _refused(f"{name}'.*unreadable file .*replace it, or leave it out", data / name)
    (data / "b.txt").write_text("kept")
    kept, skipped = _skipping(data)
    assert kept[-1] == "kept" and skipped["unreadable file"] == 1
    assert ("parquet" in name) or 100 < len(kept) < 5_000


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst", "a.parquet"])
def test_files_that_are_something_else(data: Path, name: str) -> None:
    (data / name).write_bytes(b"plain words, " * 20)
    _refused(f"{name}'.*unreadable file", data / name)


def test_forbidden_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "a.txt").write_text("a")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sources, "open_file", refuse)
    _refused("unreadable file .*Permission denied", data / "a.txt")
    _refused(r"skipped unreadable file \(1\)", data / "a.txt", on_bad="skip")


# ---- folders and other sources


def test_folder(data: Path) -> None:
    for name in ("b/2.txt", "b/1.md", "a.jsonl", ".hidden.txt", ".git/x.txt", "c.png", "noend", "x.tar.gz"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text(json.dumps(name))
    (data / "gone.txt").symlink_to(data / "nowhere")
    (data / "loop").symlink_to(data)
    corpus = Corpus(data)
    assert list(corpus) == ["a.jsonl", '"b/1.md"', '"b/2.txt"']
    assert corpus.report.files == 3
    assert corpus.report.skipped == {
        "hidden file or folder": 2,
        "file type not read: .png": 1,
        "file type not read: no suffix": 1,
        "file type not read: .tar.gz": 1,
        "not a regular file": 1,
        "linked folder": 1,
    }
    assert list(Corpus([str(data / "b" / "*.txt"), data / "a.jsonl"])) == ['"b/2.txt"', "a.jsonl"]
    _refused("source .*type that is not read; expected one of .txt", data / "c.png")


def test_nothing_left(data: Path) -> None:
    _refused("no text in .*data'.*expected strings.*skipped nothing", data)
    (data / "a.png").write_text("x")
    (data / "b.txt").write_text(" \n\n")
    _refused(r"read 1 files, skipped file type not read: .png \(1\); give", str(data))
    _refused("no text in a list_iterator", iter([]))
    _refused("no text in an empty list of sources", [])
    assert not list(cache_dir().rglob("*.*"))  # and nothing half-written


def test_missing(data: Path) -> None:
    _refused("nowhere.txt': no such file or folder", data / "nowhere.txt")
    _refused("source 'nowhere.txt': no such file or folder; expected a path or a hub id; check", "nowhere.txt")
    _refused("source 'sub/nowhere.txt': no such file or folder", "sub/nowhere.txt")
    _refused("source .*txt': no such file or folder", str(data / "*.txt"))
    _refused(r"give texts themselves as an iterator: iter\(texts\)", ["this is a text itself"])
    for source in (3, b"bytes", {"text": "a"}, None):
        _refused("source .*: expected a path, a hub id, a data set or an iterable", source)


def test_iterables() -> None:
    texts = iter(TEXTS)
    corpus = Corpus(texts)
    assert list(corpus) == TEXTS == list(corpus)
    _refused("source a list_iterator: was read before", [texts, texts])
    assert list(Corpus([TEXTS[:1], (text for text in TEXTS[1:])])) == TEXTS

    failing = Corpus(text for text in ["a", 3, "b"])
    for message in ("item 2: not a string", "read before"):  # never silently the rest
        with pytest.raises(InputError, match=message):
            failing.texts()


def test_data_sets(data: Path) -> None:
    rows = datasets.Dataset.from_dict({"n": [1, 2, 3], "body": TEXTS})
    assert list(Corpus(rows)) == TEXTS
    assert list(Corpus(rows.select([2, 0]))) == [TEXTS[2], TEXTS[0]]
    assert list(Corpus(rows.to_iterable_dataset())) == TEXTS
    splits = datasets.DatasetDict(train=rows, test=rows.select([0]))
    assert list(Corpus(splits, split="test")) == TEXTS[:1]
    _refused("no split 'dev'; expected one of 'train', 'test'", splits, split="dev")
    rows.save_to_disk(data / "saved")
    splits.save_to_disk(data / "splits")
    assert list(Corpus(data / "saved")) == TEXTS
    assert list(Corpus(data / "splits", split="test")) == TEXTS[:1]
    (data / "z.txt").write_text("last")
    assert list(Corpus(data)) == [*TEXTS, *TEXTS, "last"]  # found while walking, too
    (data / "saved" / "state.json").write_text("{")
    _refused("saved'.*unreadable file", data / "saved")


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*name: str, split: str, streaming: bool) -> datasets.IterableDataset:
        assert split == "train" and streaming
        asked.append(name)
        if name[0] == "other/name" or name == ("word",):
            raise ConnectionError("offline\nfor now")
        return datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(Corpus("owner/name")) == TEXTS
    assert list(Corpus("wikimedia/wikipedia:20231101.en")) == TEXTS
    assert asked == [("owner/name",), ("wikimedia/wikipedia", "20231101.en")]
    for name in ("other/name", "word"):
        assert "HF_HUB_OFFLINE" in _refused(rf"'{name}': is no file or folder here.*\(offline\)", name)


def test_hub_that_fails_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> object:
        yield {"text": "first"}
        raise RuntimeError("connection lost")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    _refused("'word', row 1: hub failed .connection lost", "word")
    assert _skipping("word") == (["first"], {"hub failed": 1})


# ---- limits, fingerprint, cache


def test_arguments_and_limit() -> None:
    assert list(Corpus(iter(TEXTS), limit=2)) == TEXTS[:2]
    seen: list[int] = []
    Corpus((f"text {number}" for number in range(2_500)), progress=seen.append).texts()
    assert seen == [1_000, 2_000, 2_500]
    for options in ({"limit": 0}, {"passage_words": 0}, {"passage_words": 2.5}, {"on_bad": "ignore"}):
        _refused(f"{next(iter(options))} .*: expected", iter(TEXTS), **options)


def test_fingerprint_is_of_content_alone(data: Path, cache: Path) -> None:
    (data / "a.txt").write_text("a b\n\nc")
    (data / "b.jsonl").write_text('"a b"\n"c"')
    first = Corpus(data / "a.txt")
    assert re.fullmatch("[0-9a-f]{64}", first.fingerprint)
    assert first.fingerprint == Corpus(data / "b.jsonl").fingerprint == Corpus(iter(["a  b", "c"])).fingerprint
    assert [path.stem for path in (cache / "texts").iterdir()] == [first.fingerprint]
    others = (["a b c"], ["c", "a b"], ["a", "b c"], ["a b"], ["ab", "c"])
    assert len({first.fingerprint, *(Corpus(iter(texts)).fingerprint for texts in others)}) == 6
    assert list(first) == ["a b", "c"]  # still readable after the file was replaced


def test_texts_are_memory_mapped() -> None:
    texts = Corpus(iter(TEXTS)).texts()
    assert texts.cache_files and len(texts) == 3 and texts[1] == {"text": TEXTS[1]}


def test_full_disk(cache: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    texts = (f"text {number} " * 20 for number in range(5_000))
    corpus = Corpus(texts)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match="cannot write .*SELFEMBED_CACHE"):
            corpus.texts()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(cache.rglob("*.*"))


def test_cache_that_cannot_be(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "file").write_text("")
    monkeypatch.setenv("SELFEMBED_CACHE", str(data / "file"))
    _refused("cannot write", iter(TEXTS))
    monkeypatch.delenv("SELFEMBED_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "selfembed"


def test_nothing_is_printed(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (data / "a.jsonl").write_text('"a"\n"b"')
    assert list(Corpus([data, datasets.Dataset.from_dict({"text": TEXTS})])) == ["a", "b", *TEXTS]
    assert capfd.readouterr() == ("", "")


# ---- python docs
