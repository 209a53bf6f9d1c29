from __future__ import annotations

import dataclasses
import inspect
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from evaluation_data import labelled, pairs, retrieval_folder, write_jsonl
from mteb.abstasks import AbsTask
from runs import run_record
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.evaluation.compare import compare, compare_scores
from selfembed.evaluation.identity import training_run
from selfembed.evaluation.items import SPEARMAN, Items, mean_items, ranked_items
from selfembed.evaluation.own_data import (
    classification_task,
    clustering_task,
    pair_task,
    reranking_task,
    retrieval_task,
    sts_task,
)
from selfembed.evaluation.run import evaluate
from selfembed.evaluation.scores import Scores, TaskScore, read_scores


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[AbsTask]:
    folder = tmp_path_factory.mktemp("own")
    topics = write_jsonl(folder / "topics.jsonl", labelled())
    judged = [row | {"label": int(row["score"] > 2)} for row in pairs()]
    ranked = [
        {"query": " ".join(text.split()[:4]), "positive": [text], "negative": SENTENCES[i + 1 : i + 6]}
        for i, text in enumerate(SENTENCES[:12])
    ]
    return [
        sts_task(write_jsonl(folder / "pairs.jsonl", pairs())),
        pair_task(write_jsonl(folder / "judged.jsonl", judged)),
        classification_task(topics, name="topics"),
        clustering_task(topics, name="groups"),
        retrieval_task(retrieval_folder(folder / "search")),
        reranking_task(write_jsonl(folder / "ranked.jsonl", ranked)),
    ]


@pytest.fixture(scope="module")
def scored(embedders: list[Path], own: list[AbsTask], tmp_path_factory: pytest.TempPathFactory) -> list[Scores]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFEMBED_CACHE", str(tmp_path_factory.mktemp("cache")))
        return [
            evaluate(folder, own=own, batch_size=8, name=name) for folder, name in zip(embedders, "AB", strict=True)
        ]


def test_items_of_every_kind_of_task_give_mtebs_own_score(scored: list[Scores]) -> None:
    units = {}
    for score in scored[0].scores:
        assert score.no_items is None
        assert 100 * np.mean([items.score for items in score.items]) == pytest.approx(score.score, abs=0.01)
        units[score.name] = (len(score.items[0]), score.items[0].unit)
    assert units == {
        "pairs": (30, "pairs"),
        "judged": (30, "pairs"),
        "topics": (20, "texts"),
        "groups": (10, "draws"),
        "search": (10, "queries"),
        "ranked": (12, "queries"),
    }


def test_items_of_mtebs_special_cases(embedders: list[Path], own: list[AbsTask], tmp_path: Path) -> None:
    """Sub-queries, documents that are their own query, summaries, and a metric that no item has."""
    merged, identical, summaries = map(mteb.get_task, ("MindSmallReranking", "ArguAna", "SummEvalSummarization.v2"))
    split = dict(own[5].dataset["default"]["test"])
    names = {
        name: f"{name}_{i % 2}" if i < 6 else f"other{i // 3}_{i % 3}" for i, name in enumerate(split["top_ranked"])
    }
    groups: dict[str, dict[str, int]] = {}  # of one query, all sub-queries have the judgements of all
    for name, documents in split["relevant_docs"].items():
        groups.setdefault(names[name].rpartition("_")[0], {}).update(documents)
    split["queries"] = split["queries"].map(lambda row: {"id": names[row["id"]]})
    split["relevant_docs"] = {name: groups[name.rpartition("_")[0]] for name in names.values()}
    split["top_ranked"] = {name: list(split["relevant_docs"][name]) for name in names.values()}
    merged.dataset = {"default": {"test": split}}
    search = dict(own[4].dataset["default"]["test"])
    search["queries"] = search["queries"].map(lambda row: {"id": row["id"].replace("q", "d")})
    search["relevant_docs"] = {f"d{i}": {f"d{i + 1}": 1} for i in range(10)}
    identical.dataset = {"default": {"test": search}}
    rows = {"text": SENTENCES[:4], "human_summaries": [SENTENCES[i : i + 2] for i in range(4)]}
    rows["machine_summaries"] = [SENTENCES[i + 1 : i + 7] for i in range(4)]
    rows["relevance"] = [[1.0, 2.0, 3.0, 4.0, 5.0, 1.0 + i] for i in range(4)]
    summaries.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
    f1 = own[2].metadata.model_copy(update={"main_score": "f1"})
    unlike = type("Unlike", (type(own[2]),), {"metadata": f1})()
    unlike.dataset = own[2].dataset
    tasks = [merged, identical, summaries, unlike]
    for task in tasks:
        task.data_loaded = True
    scores = evaluate(embedders[0], own=tasks, batch_size=8, cache=False).scores
    sizes = {}
    for score in scores:
        assert score.no_items is None, score.no_items
        assert score.items[0].score == pytest.approx(score.score / 100, abs=1e-4)
        sizes[score.name] = (len(score.items[0]), score.items[0].unit)
    assert sizes["MindSmallReranking"] == (len(groups), "queries")
    assert sizes["ArguAna"] == (10, "queries")
    assert sizes["SummEvalSummarization.v2"] == (4, "summarised texts")
    assert sizes["topics"] == (10, "draws")


def test_files_and_embedders_compare_alike(
    scored: list[Scores], embedders: list[Path], own: list[AbsTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    files = []
    for scores in scored:
        files.append(tmp_path / f"{scores.embedder}.json")
        files[-1].write_text(json.dumps(scores.to_dict()))
    assert dataclasses.replace(read_scores(files[0]), settings={}) == dataclasses.replace(scored[0], settings={})
    told = []
    found = compare(files, resamples=200, progress=lambda *report: told.append(report))
    assert told[-1] == ("bootstrap", 6, 6)
    mixed = compare([files[0], SentenceTransformer(str(embedders[1]), device="cpu")], own=own, resamples=200)
    for row, other, score in zip(found.tasks, mixed.tasks, sorted(scored[1].scores, key=_place), strict=True):
        assert row.name == other.name == score.name
        # batches differ, vectors in the last digits
        assert row.cells[1].score == pytest.approx(other.cells[1].score, abs=0.1)
        assert row.cells[0].difference is None
        difference = row.cells[1].difference
        assert difference.value == pytest.approx(row.cells[1].score - row.cells[0].score, abs=1e-3)
        assert difference.low <= difference.value <= difference.high
        assert difference.significant == (not difference.low <= 0 <= difference.high)
    assert found.average_name == scored[0].average.name == "average over the 6 tasks"
    rows = {row.name: row for row in found.averages}
    for column, scores in enumerate(scored):
        assert rows["per task"].cells[column].score == scores.average.tasks
        assert rows["per category"].cells[column].score == scores.average.categories
        for category, mean in scores.average.by_category.items():
            assert rows[category].cells[column].score == mean
    assert rows["per task"].cells[1].difference.low is not None
    assert json.loads(json.dumps(found.to_dict()))["averages"][0]["cells"][1]["difference"]["significant"] in (
        True,
        False,
    )
    assert not found.differing


def _place(score: TaskScore) -> tuple[str, str]:
    return score.category, score.name


def task(name: str, right: np.ndarray, category: str = "Classification", **options) -> TaskScore:
    """A task on texts, of which some are right."""
    options = {"data": "own data", "revision": "r", "splits": ("test",), "seed": 42, **options}
    if "items" not in options:
        options["items"] = (mean_items("test", "texts", right, [name]),)
    return TaskScore(
        name=name, category=category, metric="accuracy", score=round(100 * float(np.mean(right)), 4), **options
    )


def scores_of(name: str, *scores: TaskScore, benchmark: str | None = None, **settings) -> Scores:
    return Scores(
        embedder=name, embedder_hash=f"hash of {name}", benchmark=benchmark, scores=list(scores), settings=settings
    )


def right(share: float, *, size: int = 200, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(size) < share).astype(float)


def run(recipe: str, seed: int) -> dict:
    return {"recipe": recipe, "seed": seed, "plan": f"plan of {recipe}"}


def test_a_large_difference_is_significant_and_none_is_not() -> None:
    weak, strong = right(0.5), right(0.8)  # of the same draws: what weak gets right strong does too
    found = compare_scores(
        [
            scores_of("weak", task("t", weak)),
            scores_of("strong", task("t", strong)),
            scores_of("same", task("t", weak)),
        ]
    )
    _, strong_cell, same_cell = found.tasks[0].cells
    difference = strong_cell.difference
    assert difference.significant and difference.value == pytest.approx(100 * (strong - weak).mean())
    # a difference of 0 and 1: its standard error is known
    share = (strong - weak).mean()
    half = 1.96 * 100 * np.sqrt(share * (1 - share) / 200)
    assert (difference.high - difference.low) / 2 == pytest.approx(half, rel=0.1)
    assert (same_cell.difference.low, same_cell.difference.high) == (0, 0)
    assert same_cell.difference.significant is False
    text = "\n".join(found.lines())
    assert re.search(r"t +200 texts +\d\d\.\d\d +\d\d\.\d\d \+\d\d\.\d\d \[\+\d\d\.\d\d, \+\d\d\.\d\d\] ", text)
    assert "0.00 [0.00, 0.00] n.s." in text
    page = found.html()
    assert '<td class="number">200 texts</td>' in page
    assert (
        '<small class="unclear">0.00 [0.00, 0.00] n.s.</small>' in page and page.count('<small class="clear">+') == 4
    )


def test_averages_resample_the_tasks_together() -> None:
    tasks = [(f"t{i}", "STS" if i else "Retrieval") for i in range(4)]
    weak = [task(name, right(0.5, seed=i), kind) for i, (name, kind) in enumerate(tasks)]
    strong = [task(name, right(0.6, seed=i), kind) for i, (name, kind) in enumerate(tasks)]
    found = compare_scores([scores_of("weak", *weak), scores_of("strong", *strong)])
    assert [row.name for row in found.averages] == ["per task", "per category", "Retrieval", "STS"]
    width = {row.name: row.cells[1].difference.high - row.cells[1].difference.low for row in found.averages}
    single = np.mean([row.cells[1].difference.high - row.cells[1].difference.low for row in found.tasks])
    assert width["per task"] == pytest.approx(single / 2, rel=0.15)  # four independent tasks
    assert width["STS"] == pytest.approx(single / np.sqrt(3), rel=0.15)
    assert width["per category"] == pytest.approx(single * np.sqrt(1 + 1 / 3) / 2, rel=0.15)
    # what else is compared leaves a task's interval as it is
    assert compare_scores([scores_of("weak", weak[1]), scores_of("strong", strong[1])]).tasks[0] == found.tasks[1]


def test_seeds_of_one_recipe_are_one_column() -> None:
    base = scores_of("base", task("t", right(0.5)))
    runs = [scores_of(f"mine-seed{i}", task("t", right(0.7 + 0.05 * i)), run=run("r", i)) for i in range(3)]
    alone = compare_scores([base, runs[1]]).tasks[0].cells[1]
    found = compare_scores([base, *runs])
    assert [column.title for column in found.columns] == ["base", "mine (3 seeds)"]
    assert found.columns[1].seeds == (0, 1, 2) and found.columns[0].seeds == (None,)
    cell = found.tasks[0].cells[1]
    values = [scores.scores[0].score for scores in runs]
    assert cell.runs == tuple(values)
    assert (cell.score, cell.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)), abs=1e-3)
    assert alone.sd is None
    # seeds are drawn as well as items
    assert cell.difference.high - cell.difference.low > alone.difference.high - alone.difference.low
    assert f"{cell.score:.2f} ± {cell.sd:.2f}" in found.markdown()
    assert compare_scores(runs).columns[0].runs == ("mine-seed0", "mine-seed1", "mine-seed2")
    other = scores_of("other", task("t", right(0.5)), run=run("s", 0))
    assert len(compare_scores([*runs, other]).columns) == 2
    unlike = [dataclasses.replace(scores, embedder=name) for scores, name in zip(runs, ("x", "y", "z"), strict=True)]
    assert compare_scores([base, *unlike]).columns[1].name == "r"
    with pytest.raises(InputError, match="mine-seed0: is a second run of one recipe with seed 0"):
        compare_scores([*runs, runs[0]])


def test_the_training_run_is_read_from_the_folders_record(tmp_path: Path) -> None:
    found = []
    for number, change in enumerate(({"seed": 0}, {"seed": 1}, {"seed": 0, "dtype": "bfloat16"})):
        (tmp_path / str(number)).mkdir()
        run_record(**change, peak_memory_gib=number).to_file(tmp_path / str(number) / "selfembed.json")
        found.append(training_run(tmp_path / str(number)))
    assert [run["seed"] for run in found] == [0, 1, 0] and found[0]["recipe"] == "text2token"
    assert found[0]["plan"] == found[1]["plan"] != found[2]["plan"]
    assert training_run(tmp_path) is None
    for folder in ("0", "3"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "modules.json").write_text("[]")
    (tmp_path / "3" / "selfembed.json").write_text((tmp_path / "0" / "selfembed.json").read_text())
    with pytest.raises(InputError, match="3: is a second run of one recipe with seed 0, beside .*0; expected"):
        compare([tmp_path / "0", tmp_path / "3"])
    (tmp_path / "3" / "selfembed.json").write_text("{}")
    with pytest.raises(InputError, match=r"3/selfembed.json: no 'model', .*; expected what"):
        compare([tmp_path / "0", tmp_path / "3"])


def test_no_interval_has_its_reason() -> None:
    known = task("known", right(0.5))
    bare = task("bare", right(0.5), items=(), no_items="mteb gives none")
    lost = task("lost", right(0.5), items=())
    wrong = dataclasses.replace(known, name="wrong", score=99.0)
    other = dataclasses.replace(known, items=(mean_items("test", "draws", right(0.5), ["other"]),))
    found = compare_scores([scores_of("a", known, bare, lost, wrong), scores_of("b", other, bare, lost, wrong)])
    for row in (*found.tasks, *found.averages):
        assert row.cells[1].difference.low is None and row.cells[1].difference.significant is None
    text = "\n".join(found.lines())
    assert "No interval: mteb gives none (bare)." in text
    assert "No interval: the scores were recorded without per-item results; evaluate again (lost)." in text
    assert "No interval: mteb judged other items for one embedder than for the other (known)." in text
    assert "No interval: the per-item results do not give the score (wrong)." in text
    assert "No interval: bare, known, lost, wrong have none (per task, per category, Classification)." in text
    assert "0.00 [no interval]" in text


def test_scores_without_a_task_in_common_are_refused() -> None:
    one, other = scores_of("a", task("one", right(0.5))), scores_of("b", task("two", right(0.5)))
    with pytest.raises(InputError, match="a, b: no two of them have a task in common; expected .*; evaluate all on"):
        compare_scores([one, other])
    assert len(compare_scores([one, other, scores_of("c", task("two", right(0.6)))]).tasks) == 2


def test_folders_of_one_name_are_told_apart(embedders: list[Path], own: list[AbsTask]) -> None:
    found = compare(embedders, own=own[:1], resamples=100)
    assert [column.name for column in found.columns] == [f"{folder.parent.name}/embedder" for folder in embedders]


def test_averages_are_over_what_all_have() -> None:
    first, second = task("one", right(0.5)), task("two", right(0.6))
    absent = TaskScore(name="two", category="Classification", metric="accuracy", score=None, reason="no data in d")
    found = compare_scores([scores_of("a", first, second), scores_of("b", first, absent), scores_of("c", first)])
    assert found.average_name == "average over the 1 of 2 tasks that ran"
    assert found.averages[0].cells[0].score == first.score
    text = "\n".join(found.lines())
    assert "No score of b, c: no data in d; not among its tasks (two)." in text
    nothing = compare_scores([scores_of("a", second), scores_of("b", absent)])
    assert nothing.average_name is None and nothing.averages == ()


def test_a_benchmarks_name_is_for_all_its_tasks() -> None:
    tasks = [task(name, right(0.5), data="exact") for name in ("one", "two")]
    mine = task("mine", right(0.9), in_average=False)
    whole = [scores_of(name, *tasks, mine, benchmark="B", benchmark_tasks=2) for name in "ab"]
    found = compare_scores(whole)
    assert found.average_name == "B" and found.averages[0].cells[0].score == tasks[0].score
    assert any("Not in the averages" in note and "mine" in note for note in found.notes())
    part = scores_of("c", tasks[0], benchmark="B", benchmark_tasks=2)
    assert compare_scores([*whole, part]).average_name == "average over the 1 of 2 tasks of B that ran"
    named = scores_of("d", *tasks)
    assert compare_scores([whole[0], named]).average_name == "average over the 2 tasks"


def test_differing_settings_are_shown_not_refused() -> None:
    one = scores_of("a", task("t", right(0.5)), pooling="mean", dtype="float32", input="{text}", max_length=None)
    two = scores_of("b", task("t", right(0.5)), pooling="mean", dtype="bfloat16", input='"{text}"', max_length=512)
    found = compare_scores([one, two])
    assert found.differing == {
        "input": ("{text}", '"{text}"'),
        "max length": ("none", "512"),
        "dtype": ("float32", "bfloat16"),
    }
    assert "    b: bfloat16" in found.lines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "not MTEB's"}, "task t: data own data for a, but not MTEB's for b; expected the same"),
        ({"revision": "s" * 40}, "revision r for a, but ssssssss for b"),
        ({"splits": ("test", "dev")}, "splits test for a, but test, dev for b"),
        ({"languages": ("en",)}, "languages .* but en for b"),
        ({"seed": 1}, "seed of draws 42 for a, but 1 for b"),
        ({"texts_hash": "9" * 64}, "texts 88888888 for a, but 99999999 for b"),
        ({"metric": "f1"}, "metric accuracy for a, but f1 for b"),
        ({"items": (mean_items("test", "texts", right(0.5), ["other"]),)}, "other labels or judgements of test for a"),
    ],
)
def test_scores_of_other_data_are_refused(change: dict, message: str) -> None:
    one = task("t", right(0.5), texts_hash="8" * 64)
    two = dataclasses.replace(one, **change)
    with pytest.raises(InputError, match=message) as caught:
        compare_scores([scores_of("a", one), scores_of("b", two)])
    assert "\n" not in str(caught.value)


def test_the_hub_and_an_exact_copy_are_the_same_data() -> None:
    one, two = (task("t", right(0.5), data=data, texts_hash="8" * 64) for data in ("hub", "exact"))
    assert compare_scores([scores_of("a", one), scores_of("b", two)]).tasks[0].cells[1].difference.value == 0
    with pytest.raises(InputError, match="data hub for a, but near for b"):
        compare_scores([scores_of("a", one), scores_of("b", dataclasses.replace(two, data="near"))])


def test_bad_requests_are_one_line(tmp_path: Path, own: list[AbsTask]) -> None:
    good = scores_of("a", task("t", right(0.5)))
    (tmp_path / "broken.json").write_text('{"embedder": ')
    (tmp_path / "other.json").write_text('{"embedder": "x", "scores": []}')
    damaged = good.to_dict()
    damaged["scores"][0]["items"][0]["values"] = "AAA"
    (tmp_path / "damaged.json").write_text(json.dumps(damaged))
    (tmp_path / "run.json").write_text(json.dumps({**good.to_dict(), "settings": {"run": "r"}}))
    for given, options, message in (
        ([good], {}, "embedders: 1 given; expected at least two"),
        ([], {}, "embedders: 0 given; expected"),
        (good, {}, "embedders: 1 given; expected"),
        ([good, good], {"resamples": 10}, "resamples 10: expected at least 100"),
        ([good, good], {"own": own}, "tasks: chosen, but all .* finished scores"),
        ([good, str(tmp_path / "absent.json")], {}, "absent.json: cannot be read .*expected a file of scores"),
        ([good, tmp_path / "broken.json"], {}, "broken.json: is no file of scores .*evaluate again"),
        ([good, tmp_path / "other.json"], {}, "other.json: is no file of scores .*KeyError"),
        ([good, tmp_path / "damaged.json"], {}, "damaged.json: is no file of scores"),
        ([good, tmp_path / "run.json"], {}, "run.json: is no file of scores"),
        ([good, tmp_path], {"own": own}, "has no modules.json, so it is none"),
        ([good, "some/embedder"], {}, "expected something to evaluate on"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            compare(given, **options)
        assert "\n" not in str(caught.value)


def test_what_compare_shares_with_evaluate_has_the_same_defaults():
    ours, theirs = inspect.signature(compare).parameters, inspect.signature(evaluate).parameters
    shared = ours.keys() & theirs.keys()
    assert shared == theirs.keys() - {"embedder", "name"}
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_escaped_wherever_they_are_shown() -> None:
    evil = '<script>alert("x")</script>|`a`\x1b[2J\n'
    row = task(evil, right(0.5), note=evil)
    found = compare_scores([scores_of(evil, row, pooling="mean"), scores_of("b", row, pooling=evil)])
    page = Page(found.html())
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "class", "colspan", "scope"}
    assert '<script>alert("x")</script>|`a`?[2J?' in page.text and "http" not in found.html()
    for text in (found.html(), found.markdown(), "\n".join(found.lines())):
        assert "\x1b" not in text
    table = [line for line in found.markdown().splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert "<script" not in found.markdown().replace("\\<", "") and widths == {5, 4}  # scores, then settings
    assert "color-scheme: light dark" in found.html()


def test_parts_of_a_task_weigh_alike() -> None:
    """Languages of unlike size: the task's score is the mean over languages."""
    random = np.random.default_rng(0)
    gold = {"test, de": random.random(200), "test, fr": random.random(20)}

    def of(noise: float) -> TaskScore:
        items: list[Items] = []
        for part, values in gold.items():
            items.append(ranked_items(part, SPEARMAN, [values + noise * random.standard_normal(len(values))], values))
        score = 100 * np.mean([one.score for one in items])
        return TaskScore(name="t", category="STS", metric="cosine_spearman", score=score, items=tuple(items))

    one, two = of(0.2), of(1.0)
    found = compare_scores([scores_of("a", one), scores_of("b", two)])
    difference = found.tasks[0].cells[1].difference
    assert found.tasks[0].items == 220
    assert difference.low < difference.value < difference.high < 0
