from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mteb
import pytest
from evaluation_data import labelled, pairs, retrieval_folder, write_jsonl, write_parquet
from mteb.abstasks.task_metadata import TaskMetadata
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.evaluation.local_data import DataCheck, load_local

DATA = Path(__file__).parents[3] / "shared" / "data" / "mteb"
SETS = [{"sentences": SENTENCES[:10], "labels": [0, 1] * 5}, {"sentences": SENTENCES[10:16], "labels": [0, 1, 1] * 2}]


def load(name: str, folder: Path) -> tuple[Any, DataCheck]:
    task = mteb.get_task(name, eval_splits=["test"])
    return task, load_local(task, folder)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mteb's statistics are then read from."""
    file = tmp_path / "statistics.json"
    monkeypatch.setattr(TaskMetadata, "descriptive_stat_path", property(lambda self: file))
    return file


def test_verdicts(tmp_path: Path, published: Path) -> None:
    write_parquet(tmp_path / "data" / "test.parquet", pairs())
    task, check = load("STSBenchmark", tmp_path / "data")
    assert str(check) == "unchecked; mteb publishes no statistics of this task"
    figures = task._calculate_descriptive_statistics_from_split("test")
    for factor, added, verdict in ((1, 0, "exact"), (1, 9, "near"), (3, 0, "not MTEB's")):
        theirs = json.loads(json.dumps(figures))
        characters = theirs["number_of_characters"]
        theirs["number_of_characters"] = characters * factor + added
        published.write_text(json.dumps({"test": theirs}))
        check = load("STSBenchmark", tmp_path / "data")[1]
        assert check.verdict == verdict
        if verdict != "exact":
            other = characters * factor + added
            assert check.differences == (f"test number of characters {characters:,}, MTEB {other:,}",)


def test_label_names_do_not_count_but_their_sizes_do(tmp_path: Path, published: Path) -> None:
    write_parquet(tmp_path / "data" / "train.parquet", labelled())
    write_parquet(tmp_path / "data" / "test.parquet", labelled())
    figures = load("Banking77Classification", tmp_path / "data")[0]._calculate_descriptive_statistics_from_split(
        "test"
    )
    sizes = figures["label_statistics"]["labels"] = {"7": {"count": 20}, "8": {"count": 20}}
    published.write_text(json.dumps({"test": figures}))
    assert load("Banking77Classification", tmp_path / "data")[1].verdict == "exact"
    sizes["7"]["count"], sizes["8"]["count"] = 35, 5
    published.write_text(json.dumps({"test": figures}))
    check = load("Banking77Classification", tmp_path / "data")[1]
    assert str(check) == "not MTEB's; test label texts per label 20 to 20 (2 labels), MTEB 5 to 35 (2 labels)"


def test_the_tasks_own_transformation_where_it_is_needed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", SETS)
    assert load("TwentyNewsgroupsClustering", tmp_path)[0].dataset["test"].to_list() == SETS
    flat = load("TwentyNewsgroupsClustering.v2", tmp_path)[0].dataset["test"]
    assert list(flat["sentences"]) == SENTENCES[:16]


def test_languages_and_splits_that_are_there(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / "flat" / f"{split}.parquet", labelled())
        for language in ("de", "fr"):
            write_parquet(tmp_path / "many" / language / f"{split}.parquet", labelled())
    for folder, languages in (("flat", ["en"]), ("many", ["de", "fr"])):
        task = mteb.get_task("MassiveIntentClassification")
        assert load_local(task, tmp_path / folder).verdict == "not MTEB's"
        assert (task.hf_subsets, list(task.eval_splits)) == (languages, ["test"])
        assert task.dataset.keys() == set(languages)


def test_retrieval_and_reranking(tmp_path: Path) -> None:
    task, check = load("ArguAna", retrieval_folder(tmp_path / "ArguAna"))
    assert len(task.dataset["default"]["test"]["queries"]) == 10 and check.verdict == "not MTEB's"
    rows = [{"query": SENTENCES[0], "positive": SENTENCES[1:3], "negative": SENTENCES[3:6]}]
    write_parquet(tmp_path / "AskUbuntu" / "test.parquet", rows)
    task, _ = load("AskUbuntuDupQuestions", tmp_path / "AskUbuntu")
    assert len(task.dataset["default"]["test"]["top_ranked"]["test_query0"]) == 5


def test_bad_data_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of the split 'test', which STSBenchmark needs; expected test.parq"):
        load("STSBenchmark", tmp_path)
    write_parquet(tmp_path / "test.parquet", [{"text": "a", "score": 1.0}])
    with pytest.raises(
        InputError, match="columns 'text', 'score'; expected 'sentence1', 'sentence2', 'score' for STSB"
    ):
        load("STSBenchmark", tmp_path)
    with pytest.raises(InputError, match="no file of the split 'train', which Banking77"):
        load("Banking77Classification", tmp_path)
    with pytest.raises(InputError, match="kind BitextMining cannot be read from local files"):
        load("BUCC.v2", tmp_path)
    with pytest.raises(InputError, match="2 languages; expected a sub-folder for each that is there .de, fr, "):
        load_local(mteb.get_task("MassiveIntentClassification", languages=["deu", "fra"]), tmp_path)


@pytest.mark.parametrize(("kind", "bytes_kept"), [("parquet", -20), ("parquet", 0), ("jsonl", -20), ("jsonl", 0)])
def test_a_file_cut_short_is_named(kind: str, bytes_kept: int, tmp_path: Path) -> None:
    file = (write_parquet if kind == "parquet" else write_jsonl)(tmp_path / f"test.{kind}", pairs())
    file.write_bytes(file.read_bytes()[:bytes_kept])
    with pytest.raises(InputError, match="unreadable file|malformed JSON|has no rows") as caught:
        load("STSBenchmark", tmp_path)
    assert str(caught.value).lstrip("'").startswith(str(file)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["corpus", "queries", "qrels/test"])
def test_a_retrieval_file_cut_short_or_gone_is_named(part: str, tmp_path: Path) -> None:
    folder = retrieval_folder(tmp_path / "ArguAna")
    (file,) = folder.glob(f"{part}.*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(InputError) as caught:
        load("ArguAna", folder)
    assert str(caught.value).lstrip("'").startswith(str(file)) and "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(InputError, match=f"ArguAna: has no file '{part.partition('/')[0]}'"):
        load("ArguAna", folder)


@pytest.mark.skipif(not DATA.is_dir(), reason="the evaluation data is not there")
@pytest.mark.parametrize(
    ("name", "folder", "verdict"),
    [
        ("STSBenchmark", "STSBenchmark", "exact"),
        ("SICK-R", "SICK-R", "exact"),
        ("STS14", "STS14", "exact"),
        ("Banking77Classification", "Banking77Classification", "exact"),
        ("MassiveIntentClassification", "MassiveIntentClassification", "exact"),
        ("ArguAna", "ArguAna", "near"),
        ("SummEvalSummarization.v2", "SummEvalSummarization", "near"),
        ("TwentyNewsgroupsClustering", "TwentyNewsgroupsClustering", "not MTEB's"),
    ],
)
def test_known_data(name: str, folder: str, verdict: str) -> None:
    assert load(name, DATA / folder)[1].verdict == verdict
