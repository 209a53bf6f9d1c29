from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
import zstandard
from evaluation_data import labelled, pairs, retrieval_folder, write_jsonl, write_parquet
from tiny import SENTENCES

from selfembed.data.corpus import Corpus
from selfembed.errors import InputError
from selfembed.evaluation.column_files import read_columns
from selfembed.evaluation.own_data import (
    classification_task,
    clustering_task,
    folder_task,
    pair_task,
    reranking_task,
    retrieval_task,
    sts_task,
)
from selfembed.evaluation.self_retrieval import self_retrieval_task, titled_texts


def write_csv(file: Path, rows: list[dict]) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], delimiter="\t" if file.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_the_same_pairs_from_any_kind_of_file(tmp_path: Path) -> None:
    rows = pairs()
    tasks = [
        sts_task(write_jsonl(tmp_path / "mine.jsonl", rows)),
        sts_task(write_csv(tmp_path / "mine.csv", pairs("text1", "text2"))),
        sts_task(write_parquet(tmp_path / "mine.parquet", rows)),
    ]
    for task in tasks:
        assert task.metadata.name == "mine" and task.data_loaded
        assert task.dataset["test"].to_list() == rows
        assert task.metadata.revision == tasks[0].metadata.revision  # of the content
    assert sts_task(write_jsonl(tmp_path / "other.jsonl", rows[:9])).metadata.revision != tasks[0].metadata.revision


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_compressed_files_are_read_alike(pack, kind: str, tmp_path: Path) -> None:
    write = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}[kind]
    file = write(tmp_path / f"mine.{kind}", pairs("text1", "text2"))
    plain = sts_task(file)
    packed = tmp_path / f"mine.{kind}{'.gz' if pack is gzip.compress else '.zst'}"
    packed.write_bytes(pack(file.read_bytes()))
    file.unlink()
    task = sts_task(packed)
    assert task.metadata.name == "mine" and task.metadata.revision == plain.metadata.revision
    folder = retrieval_folder(tmp_path / "beir")
    documents = folder / "corpus.jsonl"
    (folder / f"corpus.jsonl{packed.suffix}").write_bytes(pack(documents.read_bytes()))
    documents.unlink()
    assert len(retrieval_task(folder).dataset["default"]["test"]["corpus"]) == 20


def test_quotes_are_characters_in_tsv(tmp_path: Path) -> None:
    texts = ["Monday.", '"Nobody told us, said he.', "The mayor.", 'A crane lifted the bell."', "A shame."]
    lines = [f"{text}\t{text}\t{i % 2}" for i, text in enumerate(texts)]
    (tmp_path / "a.tsv").write_text("\n".join(["text1\ttext2\tlabel", *lines]))
    assert pair_task(tmp_path / "a.tsv").dataset["test"]["sentence1"][:] == texts


def test_a_corpus_without_spaces_searches_itself() -> None:
    texts = [f"第{i}座旧桥在港口。工程师说第{i}个桥墩已经开裂，修理需要两年时间。" for i in range(5)]
    split = self_retrieval_task(iter(texts)).dataset["default"]["test"]
    assert sorted(split["queries"]["text"]) == [f"第{i}座旧桥在港口。" for i in range(5)]
    assert sorted(split["corpus"]["text"])[0] == "工程师说第0个桥墩已经开裂，修理需要两年时间。"


def test_labelled_texts_are_halved_label_by_label(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "topics.jsonl", [*labelled(), labelled()[0]])
    assert classification_task(file).note == "1 of 41 texts repeat another of their label"
    data = classification_task(file).dataset
    train, test = (list(zip(data[split]["text"], data[split]["label"], strict=True)) for split in ("train", "test"))
    assert len(train) == len(test) == 20 and not set(train) & set(test)
    assert [label for _, label in train].count(0) == 10
    assert classification_task(file).dataset["train"].to_dict() == data["train"].to_dict()


def test_queries_that_cannot_be_ranked_are_counted(tmp_path: Path) -> None:
    rows = [{"query": "q", "positive": ["yes"], "negative": bad} for bad in (["no"], [])]
    task = reranking_task(write_jsonl(tmp_path / "ranked.jsonl", rows))
    assert task.note == "1 left out that have not both positives and negatives, as in mteb"
    assert reranking_task(write_jsonl(tmp_path / "whole.jsonl", rows[:1])).note == ""


def test_given_splits_are_kept(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", labelled()[::2])
    write_jsonl(tmp_path / "test.jsonl", labelled()[1::2])
    assert classification_task(tmp_path).dataset["test"].to_list() == [
        row | {"label": int(row["label"] == "unknown")} for row in labelled()[1::2]
    ]


def test_judged_queries_find_their_documents(tmp_path: Path) -> None:
    split = retrieval_task(retrieval_folder(tmp_path)).dataset["default"]["test"]
    assert len(split["corpus"]) == 20 and len(split["queries"]) == 10
    assert split["relevant_docs"]["q3"] == {"d3": 1}


def test_a_corpus_searches_itself() -> None:
    texts = [f"{SENTENCES[i]} {SENTENCES[i + 20]} {SENTENCES[i + 40]}" for i in range(20)]
    corpus = Corpus(iter([*texts, texts[0], "Too short. For this."]))
    split = self_retrieval_task(corpus, queries=5).dataset["default"]["test"]
    assert len(split["corpus"]) == 20 and len(split["queries"]) == 5
    by_id = dict(zip(split["corpus"]["id"], split["corpus"]["text"], strict=True))
    for query, text in zip(split["queries"]["id"], split["queries"]["text"], strict=True):
        (document,) = split["relevant_docs"][query]
        assert f"{text} {by_id[document]}" in texts
    again = self_retrieval_task(corpus, queries=5).dataset["default"]["test"]
    assert again["queries"]["text"] == split["queries"]["text"]
    assert (
        self_retrieval_task(corpus).note
        == "20 queries, 20 documents; 2 of 22 texts are too short or begin as another does"
    )
    with pytest.raises(InputError, match="0 of 2 texts have a title, or a first sentence"):
        self_retrieval_task(["Short.", "Very short."])


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_titles_of_a_corpus_find_their_texts(kind: str, tmp_path: Path) -> None:
    text = f"{SENTENCES[0]} {SENTENCES[1]}"
    rows = [
        {"title": "Aristotle", "text": text},
        {"title": "St. Louis. A city", "text": f"St. Louis. A city {SENTENCES[2]}"},  # the title again
        {"title": "Aristotle", "text": SENTENCES[3]},  # of one title the first
        {"title": "", "text": f"{SENTENCES[4]} {SENTENCES[5]}"},  # as without titles
        {"title": "Short", "text": "Too short."},
        {"title": "Long", "text": "word " * 300},
    ]
    write = {"jsonl": write_jsonl, "parquet": write_parquet}.get(kind, write_csv)
    file = write(tmp_path / f"mine.{kind}", rows)
    assert list(titled_texts([str(tmp_path)])) == list(titled_texts([str(file)]))
    task = self_retrieval_task(titled_texts([str(file)]))
    split = task.dataset["default"]["test"]
    documents = dict(zip(split["corpus"]["id"], split["corpus"]["text"], strict=True))
    found = {
        query: documents[next(iter(split["relevant_docs"][name]))]
        for name, query in zip(split["queries"]["id"], split["queries"]["text"], strict=True)
    }
    assert found == {
        "Aristotle": text,
        "St. Louis. A city": SENTENCES[2],
        SENTENCES[4]: SENTENCES[5],
        "Long": ("word " * 300).strip(),
    }
    assert task.note == "4 queries, 4 documents; 2 of 6 texts are too short or begin as another does"


def test_a_corpus_without_titles_is_read_as_ever(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "plain.jsonl", [{"text": SENTENCES[0]}, {"text": SENTENCES[1]}])
    (tmp_path / "lines.txt").write_text(SENTENCES[2])
    (tmp_path / "damaged.parquet").write_text("damaged")
    write_jsonl(tmp_path / "mixed" / "titled.jsonl", [{"title": "A title", "text": SENTENCES[3]}])
    (tmp_path / "mixed" / "lines.txt").write_text(SENTENCES[4])
    sources = [str(tmp_path / name) for name in ("plain.jsonl", "lines.txt", "mixed")]
    assert list(titled_texts(sources)) == list(Corpus(sources)) == [*SENTENCES[:3], SENTENCES[4], SENTENCES[3]]
    for name in ("damaged.parquet", "absent.csv"):
        with pytest.raises(InputError, match=name):
            list(titled_texts([str(tmp_path / name)]))


def test_judgements_in_one_file(tmp_path: Path) -> None:
    rows = [("q", "good", 2), ("q", "bad", 0), ("r", "fine", 1), ("r", "good", 0)]
    names = ("query", "document", "relevance")
    file = write_jsonl(tmp_path / "judged.jsonl", [dict(zip(names, row, strict=True)) for row in rows])
    task = retrieval_task(file)
    split = task.dataset["default"]["test"]
    assert task.metadata.name == "judged" and split["queries"]["text"] == ["q", "r"]
    assert split["corpus"]["text"] == ["good", "bad", "fine"]  # each text is one document
    assert split["relevant_docs"] == {"q0": {"d0": 2, "d1": 0}, "q1": {"d2": 1, "d0": 0}}


def test_a_long_document_in_a_csv_is_read(tmp_path: Path) -> None:
    document = "word " * 40_000  # beyond what Python's csv takes at first
    file = write_csv(tmp_path / "long.csv", [{"text": document}])
    assert read_columns(file) == {"text": [document]}


def test_a_folder_is_what_its_columns_say(tmp_path: Path) -> None:
    ranked = [{"query": SENTENCES[0], "positive": SENTENCES[1:3], "negative": SENTENCES[3:6]}]
    judged = [
        {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "labels": i % 2}
        for i, row in enumerate(pairs())
    ]
    clusters = [{"text": row["text"], "label": row["label"]} for row in labelled()]
    kinds = {"Reranking": ranked, "PairClassification": judged, "STS": pairs(), "Clustering": clusters}
    for kind, rows in kinds.items():
        write_parquet(tmp_path / kind / "test.parquet", rows)
        assert folder_task(tmp_path / kind).metadata.type == kind
    write_parquet(tmp_path / "Clustering" / "train.parquet", clusters)
    assert folder_task(tmp_path / "Clustering").metadata.type == "Classification"
    assert folder_task(retrieval_folder(tmp_path / "Retrieval")).metadata.type == "Retrieval"
    write_parquet(tmp_path / "Odd" / "test.parquet", [{"a": 1}])
    with pytest.raises(InputError, match="columns 'a' fit no kind of task; expected text1"):
        folder_task(tmp_path / "Odd")


PAIR, LABELLED, JUDGED = {"text1": "a b", "text2": "c d"}, {"text": "a b"}, {"query": "a", "document": "b"}


@pytest.mark.parametrize(
    ("build", "rows", "message"),
    [
        (sts_task, [PAIR], r"no column 'score' among 'text1', 'text2'; expected 'text1', 'text2', 'score'; rename"),
        (sts_task, [PAIR | {"score": "high"}], r"row 1 has 'high'; expected a number; correct"),
        (
            sts_task,
            [PAIR | {"score": 1}, PAIR | {"score": 1}],
            r"every score is 1, .*expected scores that differ",
        ),
        (sts_task, [PAIR | {"text2": " ", "score": 1}], r"row 1 has ' ' as 'sentence2'; expected a text"),
        (sts_task, [], r"has no rows"),
        (sts_task, [["a", "b", 1]], r"row 1 is a list; expected an object"),
        (pair_task, [PAIR | {"label": 2}], r"labels \[2\]; expected both 0 and 1"),
        (pair_task, [PAIR | {"label": 1}, PAIR | {"label": 0.7}], r"row 2 has 0.7; expected a whole number"),
        (retrieval_task, [JUDGED | {"relevance": 0.5}], r"row 1 has 0.5; expected a whole number"),
        (retrieval_task, [JUDGED | {"relevance": 0}], r"no document has a relevance above 0"),
        (retrieval_task, [JUDGED], r"no column 'relevance' or 'score' among 'query', 'document'; expected 'query', "),
        (classification_task, [LABELLED | {"label": "x"}], r"the label 'x' has one text; expected two"),
        (classification_task, [LABELLED | {"label": None}], r"row 1 has the label None"),
        (classification_task, [LABELLED | {"label": x} for x in (1, "1")], r"some labels are words and some are num"),
        (clustering_task, [LABELLED | {"label": "x"}], r"only label is 'x'; expected two"),
        (reranking_task, [{"query": "a", "positive": "b", "negative": "c"}], r"no query has both positive and neg"),
    ],
)
def test_bad_files_are_one_line(build, rows: list, message: str, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "bad.jsonl", rows)
    with pytest.raises(InputError, match=message) as caught:
        build(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_other_bad_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        sts_task(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="give one of .parquet"):
        sts_task(tmp_path / "pairs.txt")
    (tmp_path / "broken.jsonl").write_text('{"text1": ')
    with pytest.raises(InputError, match="broken.jsonl', line 1: malformed JSON"):
        sts_task(tmp_path / "broken.jsonl")
    (tmp_path / "broken.csv").write_text("text1,text2,score\nyes, no, perhaps,1\n")
    with pytest.raises(InputError, match="line 2: malformed CSV .4 fields under a header of 3"):
        sts_task(tmp_path / "broken.csv")
    folder = retrieval_folder(tmp_path / "beir")
    judgements = folder / "qrels" / "test.tsv"
    whole = judgements.read_text()
    judgements.write_text(whole.replace("\t1\n", "\t0\n"))
    with pytest.raises(InputError, match="no query has a relevant document"):
        retrieval_task(folder)
    judgements.write_text(whole)
    documents = (folder / "corpus.jsonl").read_text()
    for row, column in (({"_id": "x", "text": 5}, "text"), ({"_id": "x", "text": "a", "title": 5}, "title")):
        (folder / "corpus.jsonl").write_text(documents.rstrip("\n") + "\n" + json.dumps(row) + "\n")
        with pytest.raises(InputError, match=rf"corpus.jsonl: row \d+ has 5 as '{column}'; expected a text"):
            retrieval_task(folder)
    (folder / "corpus.jsonl").write_text(documents)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InputError, match="has no file 'queries'"):
        retrieval_task(folder)
    write_jsonl(folder / "queries.jsonl", [{"_id": "other", "text": "a"}])
    with pytest.raises(InputError, match="no query has a relevant document"):
        retrieval_task(folder)
