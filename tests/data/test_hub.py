"""Folders in the form of the hub: their splits are heeded, their card is no text."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfembed.data.corpus import Corpus
from selfembed.data.hub import cloned_files, hub_id
from selfembed.errors import InputError

CARD = "---\nlicense: cc-by-4.0\nlanguage:\n- en\n---\n\n# Harbour notes\n\nA data set card, not data.\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        table = pa.table({"text": [f"a {split} text"]})
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.mark.parametrize("card", [CARD, "# Harbour notes\n\nNo metadata.", None])
def test_the_split_is_heeded(card: str | None, clone: Path) -> None:
    (clone / "README.md").unlink()
    if card is not None:
        (clone / "README.md").write_text(card)
    for split in ("train", "validation", "test"):
        corpus = Corpus(clone, split=split)
        assert list(corpus) == [f"a {split} text"]
        counted = {"data card": 1} if card else {}
        assert corpus.report.skipped == {**counted, f"file of another split than {split!r}": 2}
    with pytest.raises(InputError, match="clone': no split 'dev2'; expected one of 'train'|'test'"):
        Corpus(clone, split="dev2").texts()


def test_the_card_may_name_files_and_configurations(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "all.jsonl").write_text(json.dumps({"text": f"text of {name}"}))
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: first\n  data_files:\n  - split: train\n    path: a/*\n"
        "- config_name: second\n  data_files:\n  - split: train\n    path: b/*\n---\n"
    )
    assert list(Corpus(f"{tmp_path}/set:second")) == ["text of b"]
    with pytest.raises(InputError, match="has a data card.*FOLDER:CONFIG") as caught:
        Corpus(tmp_path / "set").texts()
    assert "\n" not in str(caught.value)
    (tmp_path / "plain.txt").write_text("a")
    with pytest.raises(InputError, match="no data set with configurations"):
        Corpus(f"{tmp_path}:first").texts()


def test_a_clone_is_found_while_walking(clone: Path) -> None:
    (clone.parent / "notes.txt").write_text("a note")
    assert sorted(Corpus(clone.parent)) == ["a note", "a train text"]


def test_other_folders_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "other.md").write_text("A document of its own.")
    (tmp_path / "train.jsonl").write_text('{"text": "rows"}')
    assert cloned_files(tmp_path, "train") is None  # documents
    assert len(Corpus(tmp_path)) > 3
    for name in ("train", "test", "more"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    assert cloned_files(tmp_path / "sub", "train") is None  # "more" is of no split
    (tmp_path / "texts").mkdir()
    for name in ("test-plan", "train-times"):
        (tmp_path / "texts" / f"{name}.txt").write_text(name)
    assert cloned_files(tmp_path / "texts", "train") is None


def test_texts_in_a_folder_a_split(tmp_path: Path) -> None:
    for name in ("train/pos/1", "train/neg/2", "test/pos/3"):
        (tmp_path / f"{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(name)
    assert list(Corpus(tmp_path)) == ["train/neg/2", "train/pos/1"]


def test_ids() -> None:
    assert hub_id("wikimedia/wikipedia:20231101.en") == ("wikimedia/wikipedia", "20231101.en")
    assert hub_id("owner/name") == ("owner/name", None) and hub_id("squad:plain_text") == ("squad", "plain_text")
    for text in ("a b", "owner/name/more", "texts.jsonl", "sub/texts.txt", "", "/absolute", "a:b:c"):
        assert hub_id(text) is None
