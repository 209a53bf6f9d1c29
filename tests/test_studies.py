"""What the studies share: verdicts, resuming, table, picture; on made-up numbers and a tiny backbone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import BOS_ID, SENTENCES, save_tiny, tiny_tokenizer, training_sentences

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "studies"))

import findings  # noqa: E402
import llm2comp_context_length as context_length  # noqa: E402
import llm2comp_memory_tokens as memory_tokens  # noqa: E402
import llm2comp_pretext as pretext  # noqa: E402
import llm2comp_spectrum as spectrum  # noqa: E402
import quickstart_settings  # noqa: E402
import rows as study_rows  # noqa: E402
import text2token_decoder_layer as decoder_layer  # noqa: E402
import text2token_domains as domains  # noqa: E402
import text2token_filters as filters  # noqa: E402
import text2token_single_stage as single_stage  # noqa: E402
import text2token_wiki  # noqa: E402
import variants as studies  # noqa: E402
from evaluation import Task, retrieval_ndcg  # noqa: E402

from selfembed.data.corpus import Corpus  # noqa: E402
from selfembed.errors import InputError  # noqa: E402
from selfembed.explanation.memory_tokens import read_memory  # noqa: E402
from selfembed.losses.compression import CompressionLoss  # noqa: E402
from selfembed.model.backbone import LMHead  # noqa: E402
from selfembed.recipes import choose_stages, find_recipe, override  # noqa: E402
from selfembed.training import stage  # noqa: E402
from selfembed.training.plan import make_plan  # noqa: E402
from selfembed.training.run import run_plan  # noqa: E402


def results(**scores: list[float]) -> dict:
    """Of one task "A" and one "B", which is always 10 above it; a name beginning with raw is a raw backbone."""
    made = {}
    for name, by_seed in scores.items():
        runs = {
            str(seed): {
                "scores": {"A": a, "B": a + 10},
                "mean": a + 5,
                "wall_seconds": 60.0,
                "peak_memory_gib_of_the_process": 1.5,
            }
            for seed, a in enumerate(by_seed)
        }
        settings = {"raw": True} if name.startswith("raw") else {"recipe": {"stages": {}}, "before": "raw"}
        made[name] = {"settings": settings, "runs": runs}
    settings = {"preset": "cpu", "metrics": {"A": "accuracy", "B": "nDCG@10"}, "items": {"A": "3 texts", "B": "7"}}
    settings |= {"subsamples": True, "model": "embedded", "dtype": "float32", "tagger": "none"}
    where = {"accelerator": None, "processor": "a processor", "cores": 2}
    told = {"title": "A table", "finding": "so it is.", "verdict": "Holds: it is so."}
    return {**told, "settings": settings, "environment": where, "variants": made}


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        ([60.0], [58.0], True),
        ([58.0], [60.0], False),
        ([60.0], [59.0], None),
        ([59.0], [60.5], None),
        ([60.0, 60.2], [59.0, 59.2], True),  # 1.0 apart, spread 0.2: seeds decide, not the allowance for one seed
        ([60.0, 66.0], [58.0, 62.0], None),  # 3.0 apart, spread 5.1
    ],
)
def test_better(first, second, holds):
    found = findings.better("here", ("one", first), ("two", second))
    assert found.holds is holds
    assert f"({statistics.fmean(first):.1f} against {statistics.fmean(second):.1f})" in found.words
    assert ("one seed" in found.words) == (holds is None and len(first) == 1)


def test_margin_is_that_of_a_difference_of_two_runs():
    groups = [60.0, 66.0], [58.0, 62.0], [1.0, 1.0]
    assert findings.margin(*groups)[0] == pytest.approx((18 + 8) ** 0.5)


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        ([60.0, 61.0, 59.0], [50.0, 56.0, 44.0], None),  # variances 1 and 36, F(2, 2) at 97.5% is 39
        ([60.0, 61.0, 59.0], [50.0, 57.0, 43.0], True),
        ([50.0, 57.0, 43.0], [60.0, 61.0, 59.0], False),
        ([60.0], [50.0, 57.0, 43.0], None),
    ],
)
def test_steadier(first, second, holds):
    found = findings.steadier("here", ("one", first), ("two", second))
    assert found.holds is holds
    assert ("several seeds" in found.words) == (len(first) == 1)


def test_level():
    assert findings.level("here", {"a": [50.0], "b": [51.0], "c": [50.5]}).holds is True
    found = findings.level("here", {"a": [50.0], "b": [53.0], "c": [51.0]})
    assert found.holds is False
    assert "from 50.0 (a) to 53.0 (b), a distance of 3.0: more than" in found.words


@pytest.mark.parametrize(
    ("outcomes", "head"),
    [
        ([True, True], "Holds"),
        ([True, False], "Holds in part"),
        ([True, None], "Holds in part"),
        ([False, False], "Does not hold"),
        ([False, None], "Does not hold"),
        ([None, None], "Not decided"),
    ],
)
def test_verdict(outcomes, head):
    found = [findings.Finding(holds=holds, words=f"words {n}") for n, holds in enumerate(outcomes)]
    assert findings.verdict(found) == f"{head}: words 0; words 1."


def test_table_shows_means_spreads_and_the_change_against_raw():
    made = results(raw=[50.0], one=[52.0, 54.0])
    made["variants"]["unfinished"] = {"settings": {"recipe": {"stages": {}}, "before": "raw"}, "runs": {}}
    text = findings.table(made, "a_study")
    assert "| raw | 50.0 | 60.0 | 55.0 |  | 1 |" in text
    assert "| one | 53.0 ± 1.4 | 63.0 ± 1.4 | 58.0 ± 1.4 | +3.0 | 2 |" in text
    assert "unfinished" not in text
    assert "fixed seeded subsamples" in text and "**Holds: it is so.**" in text and "3 min in all" in text


def test_picture_has_a_panel_for_every_task_and_is_the_same_twice(tmp_path):
    made = results(raw=[50.0], one=[52.0, 54.0])
    file = tmp_path / "picture.svg"
    findings.picture(made, file)
    once = file.read_bytes()
    groups = [group.get("id", "") for group in ElementTree.fromstring(once).iter("{http://www.w3.org/2000/svg}g")]
    assert {name for name in groups if name.startswith("axes")} == {"axes_1", "axes_2", "axes_3"}
    findings.picture(made, file)
    assert file.read_bytes() == once


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        ([60.0], [50.0], True),
        ([50.0], [60.0], False),
        ([60.0], [55.0], None),
        ([0.5, 0.52], [0.44, 0.46], True),  # seeds decide, not the tenth
        ([0.5, 0.8], [0.42, 0.46], None),
    ],
)
def test_larger(first, second, holds):
    found = findings.larger("in rank", ("one", first), ("two", second))
    assert found.holds is holds
    assert ("10% (one seed)" in found.words) == (holds is None and len(first) == 1)
    assert f"({statistics.fmean(first):.3g} against {statistics.fmean(second):.3g})" in found.words


def with_measures(*, tasks: bool) -> dict:
    """Results with a measure "rank", beside the tasks or without any."""
    made = results(raw=[50.0], one=[52.0, 54.0])
    made["settings"]["measures"] = {"rank": "at most 9"}
    for variant in made["variants"].values():
        for seed, run in enumerate(variant["runs"].values()):
            run["measures"] = {"rank": 4.5 + seed, "not shown": 1.0}
            if not tasks:
                run["scores"] = {}
                del run["mean"]
    if not tasks:
        made["settings"] |= {"metrics": {}, "items": {}}
    return made


def test_measures_stand_beside_tasks_or_alone(tmp_path):
    beside, alone = (findings.table(with_measures(tasks=tasks), "a_study") for tasks in (True, False))
    assert "|  | A, accuracy | B, nDCG@10 | rank, at most 9 | mean | against raw | n |" in beside
    assert "| one | 53.0 ± 1.4 | 63.0 ± 1.4 | 5 ± 0.707 | 58.0 ± 1.4 | +3.0 | 2 |" in beside
    assert "| items | 3 texts | 7 |  |  |  |  |" in beside
    assert "|  | rank, at most 9 | n |" in alone and "| one | 5 ± 0.707 | 2 |" in alone
    assert "items" not in alone and "In percent" not in alone and "subsamples" not in alone
    for tasks, panels in ((True, 4), (False, 1)):
        findings.picture(with_measures(tasks=tasks), tmp_path / "picture.svg")
        drawn = (tmp_path / "picture.svg").read_text()
        assert f'id="axes_{panels}"' in drawn and f'id="axes_{panels + 1}"' not in drawn


def test_results_of_other_settings_are_refused_and_new_variants_find_a_place(tmp_path):
    file = tmp_path / "study.json"
    first = studies.open_results(file, {"preset": "cpu"}, {"one": {"order": ["a"]}})
    first["variants"]["one"]["runs"]["0"] = {"mean": 1.0}
    file.write_text(json.dumps(first))
    again = studies.open_results(file, {"preset": "cpu"}, {"one": {"order": ("a",)}, "two": {}})
    assert again["variants"]["one"]["runs"] == {"0": {"mean": 1.0}}
    assert again["variants"]["two"]["runs"] == {}
    with pytest.raises(InputError, match="another preset;"):
        studies.open_results(file, {"preset": "paper"}, {})
    with pytest.raises(InputError, match="another one;"):
        studies.open_results(file, {"preset": "cpu"}, {"one": {"order": ["b"]}})


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ({"recipe": {"name": "text2token", "embedder": {"pooling": "mean"}}}, True),
        ({"recipe": {"name": "text2token", "embedder": {"pooling": "last"}}}, False),
        ({"recipe": {"name": "text2token", "embedder": {"pooling": "mean", "attention": "causal"}}}, True),
        ({"recipe": {"name": "text2token", "embedder": {"pooling": "mean", "attention": "bidirectional"}}}, False),
        ({"recipe": {"name": "text2token"}}, False),
        ({"recipe": {"name": "text2token", "embedder": {"pooling": "mean"}}, "order": []}, False),
    ],
)
def test_settings_that_came_later_agree_at_their_default(now, same):
    recorded = {"recipe": {"name": "text2token", "embedder": {"pooling": "mean"}}}
    assert studies.agrees(recorded, now, studies.default_settings()) is same


class Probe:
    """A task that counts how often it is run, and fails while it is told to."""

    def __init__(self) -> None:
        self.failing = False
        self.vectors: list[np.ndarray] = []

    def __call__(self, encode) -> float:
        if self.failing:
            raise KeyboardInterrupt
        self.vectors.append(encode(["a text", "another text"]))
        return 0.5


def test_a_study_goes_on_where_it_was_interrupted(tiny_backbone_dir, tmp_path, capsys):
    rows = [
        studies.Variant(name="raw"),
        studies.Variant(name="II then I", stages=("model_derived", "data_driven"), raw="raw"),
    ]
    probe = Probe()
    options = argparse.Namespace(preset="smoke", seeds=[0, 3], out=tmp_path / "out", work=tmp_path / "work")
    options.model, options.device = tiny_backbone_dir, "cpu"

    def study() -> studies.Study:
        return studies.Study(
            "a_study",
            title="A study",
            finding="so it is.",
            variants=rows,
            options=options,
            corpora={"wiki": Corpus(iter(training_sentences()))},
            tasks=[Task(name="A", metric="accuracy", items="2 texts", score=probe)],
        )

    first = study()
    first.variants = rows[:1]
    first.run()
    assert len(probe.vectors) == 1  # one run of the raw backbone, whatever the seeds

    probe.failing = True
    with pytest.raises(KeyboardInterrupt):
        study().run()
    trained = sorted(folder.name.rpartition("-")[0] for folder in (tmp_path / "work").iterdir())
    assert trained == ["model_derived", "model_derived-data_driven"]

    probe.failing = False
    capsys.readouterr()
    second = study()
    second.run()
    steps = [line for line in capsys.readouterr().err.splitlines() if "loss" in line]
    assert len(probe.vectors) == 3
    assert not list((tmp_path / "work").glob("*/checkpoint-*"))
    recorded = json.loads((tmp_path / "out" / "a_study_smoke.json").read_text())["variants"]["II then I"]["runs"]
    assert [stage["name"] for stage in recorded["0"]["stages"]] == ["model_derived", "data_driven"]
    assert set(recorded) == {"0", "3"}
    assert not np.array_equal(probe.vectors[1], probe.vectors[2])  # other seeds, other weights
    assert not np.array_equal(probe.vectors[0], probe.vectors[1])  # trained
    assert len(steps) == 2  # the last of each stage, of the second seed only

    third = study()
    third.run()
    third.conclude("Holds: it is so.")
    assert len(probe.vectors) == 3
    assert third.results["summary"]["II then I"]["mean"] == {"mean": 50.0, "sd": 0.0, "n": 2}
    assert "| II then I | 50.0 ± 0.0 |" in (tmp_path / "out" / "a_study_smoke.md").read_text()


def merged_folders(monkeypatch) -> list[Path]:
    """Folders of weights that earlier stages were merged into, as they come."""
    found: list[Path] = []
    merged_backbone = stage.merged_backbone

    def noted(trained, weights, folder):
        found.append(folder)
        return merged_backbone(trained, weights, folder)

    monkeypatch.setattr(stage, "merged_backbone", noted)
    return found


def test_a_variant_that_merges_is_merged(tiny_backbone_dir, tmp_path, monkeypatch):
    """As `train` does it: the second stage has a fresh adapter on the weights that the first one made."""
    found = merged_folders(monkeypatch)
    settings = {**studies.PRESETS["smoke"].settings, "dropout": 0, "learning_rate": 1e-2}
    corpus, given = Corpus(iter(training_sentences())), {"settings": settings, "device": "cpu", "dtype": "float32"}
    given["saved_dtype"] = "float32"
    plan = make_plan(tiny_backbone_dir, corpus, "text2token", tagger="hanta", **given)
    stages = ("data_driven", "model_derived")
    vectors = {}
    for adapter in ("continue", "merge"):
        variant = studies.Variant(name=adapter, stages=stages, settings={"model_derived.adapter": adapter})
        recipe = override(plan.recipe, variant.settings)
        asked = dataclasses.replace(plan, recipe=recipe)
        embedder, records = studies.train(asked, variant, tmp_path / "work")
        vectors[adapter] = studies.encoder(embedder)(["a text", "another text"])
        assert [record["name"] for record in records] == list(stages)
        assert len(found) == (adapter == "merge")
    finished = run_plan(asked, tmp_path / "out")
    np.testing.assert_allclose(studies.encoder(finished)(["a text", "another text"]), vectors["merge"], atol=1e-5)
    assert np.abs(vectors["continue"] - vectors["merge"]).max() > 1e-4


def test_the_quickstarts_settings_are_trained_with_their_adapters(tiny_backbone_dir, tmp_path, monkeypatch):
    found = merged_folders(monkeypatch)
    settings = {**studies.PRESETS["smoke"].settings, "learning_rate": 1e-2}
    pilots = object.__new__(quickstart_settings.Pilots)
    pilots.plan = make_plan(
        tiny_backbone_dir,
        Corpus(iter(training_sentences())),
        "text2token",
        settings=settings,
        device="cpu",
        tagger="hanta",
    )
    pilots.work, measured = tmp_path, []
    pilots.measure = lambda name, embedder: measured.append(name)
    first = choose_stages(pilots.plan.recipe, ["data_driven"])
    for adapter, name in (("continue", "one, way"), ("merge", "another")):
        second = override(first, {"adapter": adapter}).stages["data_driven"]
        recipe = dataclasses.replace(first, stages={**first.stages, "second": second})
        pilots.train(recipe, ["stage I", name])
    assert measured == ["stage I", "one, way", "stage I", "another"]
    assert found == [tmp_path / "another-merged"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "another-merged", "first", "one_way"]


def test_single_stages_are_eight_against_four_raw():
    rows = single_stage.variants()
    names = [row.name for row in rows]
    assert len(names) == len(set(names)) == 12
    trained = [row for row in rows if row.stages]
    assert len(trained) == 8
    raw = {row.name: row.settings for row in rows if not row.stages}
    assert all(raw[row.raw] == row.settings for row in trained)


def test_wrong_heads():
    weight_VD = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) * 3 + 1
    head = LMHead({"weight": weight_VD, "bias": torch.arange(50.0)})
    embedding_BD = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    exact_BV, permuted_BV = head(embedding_BD), decoder_layer.permuted(head)(embedding_BD)
    assert not torch.allclose(exact_BV, permuted_BV)
    torch.testing.assert_close(exact_BV.sort(-1).values, permuted_BV.sort(-1).values)
    drawn = decoder_layer.gaussian(LMHead({"weight": weight_VD}))
    assert drawn.weight.shape == weight_VD.shape and drawn.bias is None
    assert float(drawn.weight.std()) == pytest.approx(float(weight_VD.std()), rel=0.1)
    assert torch.equal(drawn.weight, decoder_layer.gaussian(head).weight)


def test_another_head_of_another_shape_is_refused(tiny_backbone_dir):
    make = decoder_layer.head_of(str(tiny_backbone_dir))
    with pytest.raises(InputError, match="expected 5 x 3"):
        make(LMHead({"weight": torch.zeros(5, 3)}))


def test_div_and_sub_rank_tokens_alike_and_log_does_not():
    random = torch.Generator().manual_seed(0)
    log_q_BV = (4 * torch.randn(20, 300, generator=random)).log_softmax(-1)
    log_common_V = log_q_BV.exp().mean(0).log()
    lists = {name: filters.heaviest(name, log_q_BV, log_common_V) for name in filters.FILTERS}
    ratio_BV = log_q_BV - log_common_V
    assert torch.equal(lists["div"], ratio_BV.argsort(-1, descending=True)[:, : filters.TOP])
    assert torch.equal(lists["div"], lists["sub"])
    assert not torch.equal(lists["div"], lists["log"])


def test_domains_hold_whole_articles_out():
    articles = [(f"title {n}", [f"passage {n} {part}" for part in range(n % 3 + 1)]) for n in range(40)]
    held, rest = domains.split(articles)
    assert len(held) == 20
    assert not {title for title, _ in held} & {title for title, _ in rest}
    assert domains.split(articles)[0] == held


def test_domain_queries_find_their_own_passage():
    long = " ".join(["word"] * 20)
    articles = [("A", [f"First of A. Then {long}.", "more"]), ("B", ["Too short. Indeed."]), ("A", [f"Again! {long}"])]
    titles = domains.by_title(articles, None)
    assert sorted(titles.queries) == ["A", "B"]
    assert titles.passages[titles.queries.index("A")] == articles[0][1][0]
    sentences = domains.by_first_sentence(articles, None)
    assert (sentences.queries, sentences.passages) == (["First of A."], [f"Then {long}."])
    vectors = {"First of A.": [1.0, 0.0], f"Then {long}.": [0.9, 0.1]}
    assert retrieval_ndcg(lambda texts: np.array([vectors[text] for text in texts]), sentences) == 1.0


def write_wiki(folder: Path) -> Path:
    """A data folder with passages to train on and articles that are held out, six sentences a passage."""
    sentences = training_sentences()
    passages = [" ".join(sentences[i : i + 6]) for i in range(0, 240, 6)]
    (folder / "wiki").mkdir(parents=True)
    for name, part in (("passages", passages[:20]), ("passages_dev", passages[20:])):
        ids = [f"{i // 2}-{i % 2}" for i in range(len(part))]
        columns = {"id": ids, "title": [f"title {i}" for i in ids], "text": part}
        pq.write_table(pa.table(columns), folder / "wiki" / f"{name}.parquet")
    return folder


@pytest.fixture
def run_smoke(tiny_backbone_dir, tmp_path, monkeypatch):
    """Runs a study's main on a tiny backbone and tiny data; gives its results and its Markdown."""
    data = write_wiki(tmp_path / "data")
    tasks = [Task(name=name, metric="m", items="2 texts", score=Probe()) for name in ("A", memory_tokens.RETRIEVAL)]
    monkeypatch.setattr(studies, "load_tasks", lambda data, sizes: None)
    monkeypatch.setattr(studies, "five_tasks", lambda loaded: tasks)

    def run(study) -> tuple[dict, str]:
        arguments = {"--preset": "smoke", "--data": data, "--model": tiny_backbone_dir, "--device": "cpu"}
        arguments |= {"--out": tmp_path / "results", "--work": tmp_path / "work"}
        monkeypatch.setattr(sys, "argv", ["study", *(str(word) for pair in arguments.items() for word in pair)])
        study.main()
        file = tmp_path / "results" / f"{study.__name__}_smoke.json"
        assert file.with_suffix(".svg").stat().st_size > 1000
        return json.loads(file.read_text()), file.with_suffix(".md").read_text()

    return run


def test_spectrum_study(run_smoke):
    found, text = run_smoke(spectrum)
    assert list(found["variants"]) == ["raw, memory tokens", "CTKD", "CT-NLL", "RC"]
    for variant in found["variants"].values():
        (run,) = variant["runs"].values()
        singular = np.array(run["singular_values"])
        assert len(singular) == 12 and (np.diff(singular) <= 0).all()
        ratio = (singular**2).sum() ** 2 / (singular**4).sum()
        assert run["measures"]["participation ratio"] == pytest.approx(ratio, rel=0.02)
        matrix = np.array(run["memory_correlation"]["matrix"])
        assert matrix.shape == (8, 8) and np.allclose(matrix.diagonal(), 1)
        off = matrix[~np.eye(8, dtype=bool)]
        assert run["measures"]["most alike"] == pytest.approx(off.max())
        assert run["measures"]["memory tokens alike"] == pytest.approx(off.mean(), abs=1e-3)
    assert found["verdict"].count(";") == 3 and "in effective rank, CTKD" in found["verdict"]
    assert "| CT-NLL |" in text and "12 Wikipedia passages" in text
    assert {"CTKD", "RC"} <= found["summary"].keys()


def test_memory_tokens_study(run_smoke):
    found, text = run_smoke(memory_tokens)
    for tokens, (name, variant) in zip((1, 4, 8, 16), found["variants"].items(), strict=True):
        recipe = variant["settings"]["recipe"]
        assert recipe["embedder"]["memory_tokens"] == tokens
        room = recipe["stages"]["compression"]["max_length"] - tokens, recipe["embed_length"] - tokens
        assert room == (64 - 8, 80 - 8), "as much text whatever the memory"
        (run,) = variant["runs"].values()
        assert (run["memory_correlation"] is None) == (tokens == 1)
        assert f"| {name} | 50.0 |" in text
    assert "16 memory tokens" in found["verdict"]


def test_context_length_study(run_smoke):
    found, text = run_smoke(context_length)
    (run,) = found["variants"]["CTKD"]["runs"].values()
    assert list(run["kl_by_context"]) == ["8", "16", "24"] and run["texts_measured"] == 6
    for context, kl in run["kl_by_context"].items():
        assert all(len(values) == 6 for values in kl.values()) and min(kl["nothing"]) > 0
        share = sum(kl["memory"]) / sum(kl["nothing"])
        assert run["measures"][f"{context} tokens"] == pytest.approx(share, rel=1e-3)
        assert f"| {context} | {statistics.fmean(kl['memory']):.3f} |" in text
    assert "contexts of at most 46 tokens" in text  # 64 less 8 of memory and 10 of continuation
    assert "95% interval over 6 texts" in found["verdict"]


def test_wiki_study_trains_its_first_stage_once(run_smoke, capsys):
    found, text = run_smoke(text2token_wiki)
    stages = {name: row["runs"]["0"]["stages"] for name, row in found["variants"].items()}
    first, both = stages["stage I"], stages["stages I + II"]
    assert both[0] == first[0] and [stage["name"] for stage in both] == ["data_driven", "model_derived"]
    assert capsys.readouterr().err.count("data_driven, loss") == 2, "of what is read, of whole texts"
    whole = stages["stages I + II, targets of whole texts"][0]
    assert whole["targets"]["support_mean"] > both[0]["targets"]["support_mean"]
    assert [stage["name"] for stage in stages["bag of tokens"]] == ["bag_of_tokens"]
    assert "| stages I + II | 50.0 |" in text and found["verdict"].count(";") == 4


def test_the_budget_of_the_paper_makes_targets_of_whole_texts_only():
    names = [row.name for row in text2token_wiki.variants(text2token_wiki.PRESETS["budget"].settings)]
    assert names == ["raw", "stage I", "stages I + II", "bag of tokens"]


SHARED = [f"compression.{name}" for name in ("steps", "batch_size", "learning_rate")]


def test_budgets_are_those_of_the_pretext_study():
    for preset, budget in pretext.BUDGETS.items():
        rows = {row.name: row for row in pretext.variants(preset)}
        for row in (*spectrum.variants(preset), *memory_tokens.variants(preset)):
            assert {key: row.settings[key] for key in SHARED} == {key: budget[key] for key in SHARED}
        assert all(rows[row.name] == row for row in spectrum.variants(preset))
        for row in rows.values():
            recipe = override(find_recipe(row.recipe), row.settings)
            assert row.recipe == "text2token" or recipe.stages["compression"].steps == budget["compression.steps"]


def context_loss(folder: Path) -> CompressionLoss:
    memory = {"pooling": "memory", "memory_tokens": 3, "prompt": "{text}"}
    embedder, backbone, _ = plain_embedder(folder, **memory)
    add_random_adapter(embedder)
    return CompressionLoss(embedder.eval(), backbone.head(), bos_id=BOS_ID)


@pytest.mark.parametrize("with_bos", [True, False])
def test_divergence_by_what_is_read(with_bos, tmp_path):
    """Each against distributions of the raw model on the same ids, read one text at a time."""
    save_tiny("llama", tmp_path, tied=False, tokenizer=tiny_tokenizer(with_bos=with_bos))
    loss = context_loss(tmp_path)
    _, raw, _ = plain_embedder(tmp_path)
    model, tokenizer = raw.load(), raw.tokenizer
    texts = [torch.tensor(tokenizer(text)["input_ids"][:16]) for text in training_sentences()[:5]]
    found = context_length.divergences(loss, texts, 12, 4)

    def log_q(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0, -5:].log_softmax(-1)

    for row, text in enumerate(texts):
        ids = text.tolist()
        assert (ids[0] == BOS_ID) == with_bos
        words, rest, teacher = ids[int(with_bos) : 12], ids[12:], log_q(ids)
        for name, read in (("nothing", []), ("last words", words[-3:]), ("context", words)):
            expected = (teacher.exp() * (teacher - log_q([BOS_ID, *read, *rest]))).sum(-1).mean()
            assert found[name][row].item() == pytest.approx(expected.item(), abs=2e-5), name
    if with_bos:
        assert found["context"].abs().max() < 1e-5, "the whole context loses nothing"
        assert found["memory"].min() > 1e-3
    else:
        assert found["context"].min() > 1e-3, "what the additional bos costs"


def test_memory_that_tells_more_loses_less(tmp_path):
    """Memory states put in by hand: the context's last three words, or with noise upon them."""
    save_tiny("llama", tmp_path, tied=False, tokenizer=tiny_tokenizer(with_bos=True))
    loss = context_loss(tmp_path)
    texts = [torch.tensor(loss.model.tokenizer(text)["input_ids"][:16]) for text in training_sentences()[:20]]
    weight = loss.memory_embedding[0].weight
    noise = torch.randn(20, 3, 32, generator=torch.Generator().manual_seed(0)) * weight.std()
    means = []
    for scale in (0.0, 0.3, 3.0):
        loss.compress = lambda contexts, scale=scale: weight[torch.stack(contexts)[:, -3:]] + scale * noise
        found = context_length.divergences(loss, texts, 12, 4)
        means.append(found["memory"].mean().item())
    assert means[0] == pytest.approx(found["last words"].mean().item(), rel=1e-4)
    assert means[0] < means[1] < means[2]


def test_growth_is_told_with_its_interval():
    def run(short: float, long: float) -> dict:
        random = np.random.default_rng(0)
        nothing = random.uniform(0.9, 1.1, 40)
        noisy = {
            context: share * nothing * random.uniform(0.8, 1.2, 40) for context, share in ((8, short), (64, long))
        }
        kl = {str(c): {"memory": memory.tolist(), "nothing": nothing.tolist()} for c, memory in noisy.items()}
        return {"kl_by_context": kl}

    assert context_length.growth([run(0.3, 0.6)], 8, 64).holds is True
    assert context_length.growth([run(0.6, 0.3)], 8, 64).holds is False
    assert context_length.growth([run(0.5, 0.505)], 8, 64).holds is None
    both = context_length.growth([run(0.3, 0.6), run(0.5, 0.6)], 8, 64).words
    assert "of what 8 tokens tell 40%" in both and "interval over 40 texts" in both


def test_looks_are_made_in_memory(tiny_backbone_dir):
    memory = {"pooling": "memory", "memory_tokens": 3, "prompt": "{text}"}
    embedder, _, _ = plain_embedder(tiny_backbone_dir, **memory)
    texts = training_sentences()[:9]
    found = spectrum.shape_of(texts)(embedder, None)
    vectors = read_memory(embedder, texts).embedding_ND.numpy().astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    singular = np.linalg.svd(unit - unit.mean(0), compute_uv=False)
    np.testing.assert_allclose(found["singular_values"][:-1], singular[:-1], rtol=1e-3)


RECORDED = [file for file in (ROOT / "docs" / "results").glob("*.json") if "verdict" in json.loads(file.read_text())]


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_recorded_studies_still_read_as_their_tables(file):
    recorded = json.loads(file.read_text())
    study = file.stem.removesuffix("_" + recorded["settings"]["preset"])
    assert file.with_suffix(".md").read_text().startswith(findings.table(recorded, study))
    assert file.with_suffix(".svg").exists()


def test_simcse_trains_two_views_of_a_text(tiny_backbone_dir, monkeypatch):
    raw, _, _ = plain_embedder(tiny_backbone_dir)
    before_ND = raw.encode(SENTENCES[:4])
    monkeypatch.setattr(study_rows, "untrained", lambda name, device: raw)
    monkeypatch.setattr(study_rows, "SIMCSE_STEPS", 3)
    monkeypatch.setattr(study_rows, "SIMCSE_BATCH", 4)
    embedder, notes = study_rows.made(
        study_rows.SIMCSE, Corpus(iter(SENTENCES)), Path("unused"), seed=0, device="cpu", settings={}
    )
    assert np.abs(embedder.encode(SENTENCES[:4]) - before_ND).max() > 1e-4 and "minutes" in notes
    raw.train()
    features = raw.preprocess([SENTENCES[0]])
    first, second = (raw(dict(features))["sentence_embedding"] for _ in range(2))
    assert not torch.equal(first, second), "dropout makes two views"
