"""LLM2Comp on tiny models, end to end: what is trained when, carried over, resumed, stopped and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from runs import weights
from sentence_transformers import SentenceTransformer
from tiny import BOS_ID, SENTENCES, save_tiny

from selfembed.errors import InputError, TrainingDiverged
from selfembed.ground.files import write_json
from selfembed.model.memory_tokens import memory_embedding
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training import stage as training
from selfembed.training.estimate import estimate
from selfembed.training.plan import make_plan
from selfembed.training.run import run_plan, train

SETTINGS = {
    "steps": 4,
    "batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 40,
    "embed_length": 40,
    "min_context": 2,
    "min_continuation": 2,
    "memory_tokens": 3,
    "learning_rate": 1e-2,
}
PAIRS = {"query": [" ".join(text.split()[:4]) for text in SENTENCES], "positive": SENTENCES}
TRIPLETS = {**PAIRS, "negative": SENTENCES[1:] + SENTENCES[:1]}


class Interruption(Exception):
    """What a power cut is to the library."""


def short_train(model: Path, out: Path, *, settings=None, recipe="llm2comp-unsup", without=(), **options):
    settings = {name: value for name, value in SETTINGS.items() if name not in without} | (settings or {})
    corpus = options.pop("corpus", None) or iter(SENTENCES)
    exact = {"dtype": "float32", "saved_dtype": "float32", "device": "cpu"}
    return train(model, corpus, recipe, out=out, settings=settings, **exact, **options)


def record_of(out: Path) -> dict:
    return json.loads((out / "selfembed.json").read_text())


@pytest.fixture(scope="module")
def whole_run(tiny_backbone_dir, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    short_train(tiny_backbone_dir, out)
    return out


def test_the_folder_embeds_as_it_did_in_memory(whole_run):
    record = record_of(whole_run)
    assert [stage["name"] for stage in record["stages"]] == ["compression", "two_views"]
    assert record["stages"][0]["texts_too_short"] == 0
    assert record["cosine_to_model_in_memory"] > 0.9999
    losses = [entry["loss"] for entry in record["stages"][0]["loss_curve"]]
    assert all(np.isfinite(losses)) and losses[0] > 0
    vectors = SentenceTransformer(str(whole_run), trust_remote_code=True, device="cpu").encode(SENTENCES)
    alone = SentenceTransformer(str(whole_run), trust_remote_code=True, device="cpu").encode(SENTENCES, batch_size=1)
    np.testing.assert_allclose(vectors, alone, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_one_memory_token_makes_a_stock_folder(family, tmp_path):
    raw = save_tiny(family, tmp_path / "raw", tied=False)
    embedder = short_train(raw, tmp_path / "out", settings={"memory_tokens": 1, "steps": 2})
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert all(type(module).__module__.startswith("sentence_transformers.") for module in stock)
    np.testing.assert_allclose(stock.encode(SENTENCES), embedder.encode(SENTENCES), atol=1e-6)
    assert not list((tmp_path / "out").glob("*.py"))


def test_stages_carry_over_as_the_paper_says(tiny_backbone_dir, tmp_path):
    """Memory is trained in the first stage and stands still in the second; the second begins where the first ended."""
    plan = make_plan(
        tiny_backbone_dir, iter(SENTENCES), "llm2comp-unsup", settings=SETTINGS, dtype="float32", device="cpu"
    )
    memories, ends = [], []

    def look(record, embedder):
        memories.append(memory_embedding(embedder).memory.detach().clone())
        ends.append(embedder.encode(SENTENCES[:5], convert_to_tensor=True))

    run_plan(plan, tmp_path / "out", after_stage=look)
    assert torch.equal(memories[0], memories[1])
    only_first = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    first = short_train(tiny_backbone_dir, tmp_path / "first", recipe=only_first)
    torch.testing.assert_close(first.encode(SENTENCES[:5], convert_to_tensor=True), ends[0], atol=1e-5, rtol=1e-4)
    nearly_still = {"two_views.learning_rate": 1e-12}
    second = short_train(tiny_backbone_dir, tmp_path / "still", settings=nearly_still)
    torch.testing.assert_close(second.encode(SENTENCES[:5], convert_to_tensor=True), ends[0], atol=1e-5, rtol=1e-4)
    assert (ends[1] - ends[0]).abs().max() > 1e-3, "the second stage must do something"


@pytest.mark.parametrize(
    ("stage", "step", "resumed"),
    [("compression", 3, ["checkpoint-2", None]), ("two_views", 3, [None, "checkpoint-2"])],
)
def test_interrupted_run_ends_in_the_same_weights(stage, step, resumed, whole_run, tiny_backbone_dir, tmp_path):
    def power_cut(task: str, done: int, total: int | None) -> None:
        if task.startswith(f"{stage},") and done >= step:
            raise Interruption

    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, tmp_path / "out", progress=power_cut)
    torch.manual_seed(12345)
    short_train(tiny_backbone_dir, tmp_path / "out")
    assert [entry["resumed_from"] for entry in record_of(tmp_path / "out")["stages"]] == resumed
    expected = weights(whole_run)
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("task", ["continuation", "reconstruction"])
def test_the_other_tasks_train(task, tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=recipe, settings={"task": task, "steps": 12})
    losses = [entry["loss"] for entry in record_of(tmp_path / "out")["stages"][0]["loss_curve"]]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_short_texts_are_counted_and_left_out(tiny_backbone_dir, tmp_path):
    corpus = iter([*SENTENCES, "a", "b"])
    settings = {
        "steps": 2,
        "min_context": 3,
        "min_continuation": 3,
        "batch_size": len(SENTENCES) + 2,
        "micro_batch_size": 31,
    }
    recipe = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=recipe, settings=settings, corpus=corpus)
    stage = record_of(tmp_path / "out")["stages"][0]
    assert stage["texts_too_short"] == 2 and stage["texts"] == len(SENTENCES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_context": 900}, "none of .* texts can be split; expected 902 tokens"),
        ({"prompt": "say {text}"}, "compression splits the bare text"),
        ({"memory_tokens": 0}, "memory_tokens 0: expected at least 1 for pooling 'memory'"),
    ],
)
def test_bad_settings(settings, message, tiny_backbone_dir, tmp_path):
    with pytest.raises(InputError, match=message):
        short_train(tiny_backbone_dir, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_a_backbone_without_bos_is_refused(tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tied=True)
    file = raw / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in settings.items() if key != "bos_token"}))
    assert BOS_ID == 0
    with pytest.raises(InputError, match="no beginning-of-sequence token"):
        short_train(raw, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def supervised_train(model: Path, out: Path, settings=None, pairs=None, **options):
    recipe = choose_stages(find_recipe("llm2comp"), ["supervised"])
    pairs = pairs or {"nli": Dataset.from_dict(TRIPLETS)}
    settings = {"warmup": 0.1, **(settings or {})}
    without = ("min_context", "min_continuation")  # settings of stages that do not run
    return short_train(model, out, recipe=recipe, settings=settings, without=without, pairs=pairs, **options)


def supervised_record(out: Path) -> dict:
    return record_of(out)["stages"][-1]


def test_all_three_stages(tiny_backbone_dir, tmp_path):
    memories = []
    plan = make_plan(
        tiny_backbone_dir,
        iter(SENTENCES),
        "llm2comp",
        pairs={"nli": Dataset.from_dict(TRIPLETS)},
        instructions={"nli": "Find the rest"},
        settings={**SETTINGS, "steps": 2},
        dtype="float32",
        device="cpu",
    )
    run_plan(
        plan,
        tmp_path / "out",
        after_stage=lambda record, embedder: memories.append(memory_embedding(embedder).memory.detach().clone()),
    )
    assert torch.equal(memories[1], memories[0]) and torch.equal(memories[2], memories[1]), "carried, then frozen"
    record = record_of(tmp_path / "out")
    assert [stage["name"] for stage in record["stages"]] == ["compression", "two_views", "supervised"]
    assert record["cosine_to_model_in_memory"] > 0.9999
    (pairs,) = record["pairs"]
    assert (pairs["name"], pairs["rows"], pairs["negatives"]) == ("nli", len(SENTENCES), 1)
    assert pairs["instruction"] == "Find the rest" and "dev" not in record
    card = (tmp_path / "out" / "README.md").read_text()
    assert "texts of `a list_iterator`, 60 labelled pairs of `nli`." in card and "unlabelled" not in card
    assert "- `Find the rest: QUERY`" in card
    guess = estimate(plan).stages[-1]
    assert guess.texts == 2 * 4 * 3 and guess.tokens > 0


def test_pairs_are_learnt_and_micro_batches_change_nothing(tiny_backbone_dir, tmp_path):
    settings = {"steps": 12, "batch_size": 8, "learning_rate": 3e-3, "dropout": 0}
    curves = []
    for size in (4, 8):
        out = tmp_path / str(size)
        supervised_train(tiny_backbone_dir, out, {**settings, "micro_batch_size": size})
        curves.append([entry["loss"] for entry in supervised_record(out)["loss_curve"]])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-3)
    assert np.mean(curves[0][-3:]) < np.mean(curves[0][:3]) - 0.3


def test_instruction_and_pairs_are_in_the_key_and_the_record(tiny_backbone_dir):
    def plan(recipe, **options):
        options |= {"settings": SETTINGS, "dtype": "float32", "device": "cpu"}
        return make_plan(tiny_backbone_dir, iter(SENTENCES), recipe, **options)

    sets = {"nli": Dataset.from_dict(TRIPLETS)}
    plans = [
        plan("llm2comp", pairs=sets),
        plan("llm2comp", pairs={"nli": Dataset.from_dict(PAIRS)}),
        plan("llm2comp", pairs=sets, instructions={"nli": "x"}),
        plan("llm2comp", pairs=sets, dev=Dataset.from_dict(PAIRS)),
    ]
    assert len({one.key for one in plans}) == 4
    assert plans[0].key == plan("llm2comp", pairs=sets).key
    recorded = plans[3].to_dict()
    assert [one["name"] for one in recorded["pairs"]] == ["nli"] and recorded["dev"]["rows"] == len(PAIRS["query"])
    plain = plan("llm2comp-unsup").to_dict()
    assert (plain["pairs"], plain["dev"]) == (None, None)


def cut_before_record(path: Path, value: dict) -> None:
    if path.name == "record.json":
        raise Interruption
    write_json(path, value)


HARD = {"steps": 6, "refresh_every": 2, "eval_steps": 2, "patience": 9}


@pytest.fixture(scope="module")
def hard_run(tiny_backbone_dir, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hard") / "out"
    supervised_train(tiny_backbone_dir, out, HARD, dev=Dataset.from_dict(PAIRS))
    return out


@pytest.mark.parametrize("step", [4, 5, 7])
def test_supervised_resumes_with_its_negatives_and_curve(step, hard_run, tiny_backbone_dir, tmp_path, monkeypatch):
    """Between two searches for negatives, right before the second, and at the end, where the record is missing."""

    def power_cut(task: str, done: int, total: int | None) -> None:
        if task.startswith("supervised,") and done >= step:
            raise Interruption

    options = {"settings": HARD, "dev": Dataset.from_dict(PAIRS)}
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        if step == 7:
            patch.setattr(training, "write_json", cut_before_record)
        supervised_train(tiny_backbone_dir, tmp_path / "out", progress=power_cut, **options)
    torch.manual_seed(12345)
    supervised_train(tiny_backbone_dir, tmp_path / "out", **options)
    resumed, whole = supervised_record(tmp_path / "out"), supervised_record(hard_run)
    assert resumed["resumed_from"] == f"checkpoint-{step - 1}" and whole["resumed_from"] is None
    for name in ("dev", "rows_with_mined_negatives", "loss_curve"):
        assert resumed[name] == whole[name], name
    expected = weights(hard_run)
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


def test_refresh_is_what_changes_the_losses_and_only_after_it(hard_run, tiny_backbone_dir, tmp_path):
    assert set(supervised_record(hard_run)["rows_with_mined_negatives"]) == {"2", "4"}
    supervised_train(tiny_backbone_dir, tmp_path / "out", {**HARD, "refresh_every": None})
    plain = [entry["loss"] for entry in supervised_record(tmp_path / "out")["loss_curve"]]
    hard = [entry["loss"] for entry in supervised_record(hard_run)["loss_curve"]]
    assert plain[:2] == hard[:2] and all(a != b for a, b in zip(plain[2:], hard[2:], strict=True))
    assert "rows_with_mined_negatives" not in supervised_record(tmp_path / "out")


def test_stopped_early_it_stays_stopped_after_a_resume(tiny_backbone_dir, tmp_path, monkeypatch):
    settings = {"eval_steps": 1, "patience": 2, "learning_rate": 1e-12, "refresh_every": 1}
    options = {"settings": settings, "dev": Dataset.from_dict(PAIRS)}
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(training, "write_json", cut_before_record)
        supervised_train(tiny_backbone_dir, tmp_path / "out", **options)
    supervised_train(tiny_backbone_dir, tmp_path / "out", **options)
    stage = supervised_record(tmp_path / "out")
    assert stage["resumed_from"] == "checkpoint-1" and stage["dev"]["stopped_early"]
    assert [entry["step"] for entry in stage["dev"]["curve"]] == [0, 1, 2]
    assert [entry["step"] for entry in stage["loss_curve"]] == [1, 2]
    assert set(stage["rows_with_mined_negatives"]) == {"1"}, "none are mined for steps that do not come"


def test_the_last_step_is_evaluated_too(tiny_backbone_dir, tmp_path):
    supervised_train(tiny_backbone_dir, tmp_path / "out", {"steps": 3}, dev=Dataset.from_dict(PAIRS))
    assert [entry["step"] for entry in supervised_record(tmp_path / "out")["dev"]["curve"]] == [0, 3]


def test_homogeneous_sets_get_negatives_of_their_own(tiny_backbone_dir, tmp_path, monkeypatch):
    halves = [{name: column[part] for name, column in PAIRS.items()} for part in (slice(30), slice(30, 60))]
    pairs = {name: Dataset.from_dict(half) for name, half in zip("ab", halves, strict=True)}
    settings = {"batches": "homogeneous", "refresh_every": 2}
    monkeypatch.setattr(training, "write_json", cut_before_record)
    with pytest.raises(Interruption):
        supervised_train(tiny_backbone_dir, tmp_path / "out", settings, pairs)
    (file,) = (tmp_path / "out.partial").rglob("negatives-2.json")
    mined = json.loads(file.read_text())
    negatives = mined["rows"]["negative_1"]
    assert mined["mined_for"] > 0 and len(negatives) == 60
    assert set(negatives[:30]) <= set(halves[0]["positive"]) and set(negatives[30:]) <= set(halves[1]["positive"])


def test_a_loss_that_is_no_number_stops_the_run(tiny_backbone_dir, tmp_path):
    with pytest.raises(TrainingDiverged, match="loss nan: training has diverged"):
        supervised_train(tiny_backbone_dir, tmp_path / "out", {"learning_rate": 1e30, "warmup": 0, "steps": 20})
    assert not (tmp_path / "out").exists()


def test_without_a_corpus_the_positives_are_the_texts(tiny_backbone_dir):
    twice = {name: column + column[:5] for name, column in TRIPLETS.items()}
    pairs = {"nli": Dataset.from_dict(twice)}
    options = {"pairs": pairs, "settings": SETTINGS, "dtype": "float32", "device": "cpu"}
    plan = make_plan(tiny_backbone_dir, recipe="llm2comp", **options)
    assert list(plan.corpus) == SENTENCES and plan.corpus.name == "positives of nli"
    assert list(make_plan(tiny_backbone_dir, iter(["one text"]), "llm2comp", **options).corpus) == ["one text"]


def test_early_stopping_keeps_the_best(tiny_backbone_dir, tmp_path):
    """Pairs that are wrong: what is learnt of them does not help to find what belongs together."""
    settings = {"steps": 30, "eval_steps": 1, "patience": 2, "warmup": 0, "learning_rate": 3e-2, "dropout": 0}
    wrong = {"query": PAIRS["query"], "positive": SENTENCES[7:] + SENTENCES[:7]}
    dev = Dataset.from_dict(PAIRS)
    pairs = {"wrong": Dataset.from_dict(wrong)}
    kept = supervised_train(tiny_backbone_dir, tmp_path / "out", settings, pairs, dev=dev)
    stage = supervised_record(tmp_path / "out")
    curve = {entry["step"]: entry["score"] for entry in stage["dev"]["curve"]}
    best = stage["dev"]["best_step"]
    assert stage["dev"]["stopped_early"] and curve[best] == max(curve.values()) > min(curve.values())
    assert list(curve) == list(range(best + 3)) and len(stage["loss_curve"]) == best + 2
    vectors = kept.encode(PAIRS["query"], normalize_embeddings=True)
    ranked = np.argsort(-(vectors @ kept.encode(SENTENCES, normalize_embeddings=True).T), axis=1)
    ranks = [int(np.flatnonzero(row == i)[0]) for i, row in enumerate(ranked)]
    ndcg = np.mean([1 / np.log2(rank + 2) if rank < 10 else 0 for rank in ranks])
    assert ndcg == pytest.approx(curve[best], abs=0.01), "what is kept scores as it did when it was evaluated"


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("llm2comp", {}, "recipe llm2comp: its stage supervised needs labelled pairs; .* llm2comp-unsup, which"),
        ("llm2comp-small", {"pairs": []}, "or use llm2comp-unsup-small"),
        ("llm2comp-unsup", {"pairs": [1]}, "pairs: recipe llm2comp-unsup has no stage that reads labelled pairs; l"),
        ("text2token", {"dev": "x"}, "dev: recipe text2token has no stage that reads labelled pairs"),
        ("text2token", {"instructions": {"a": "b"}}, "instruction: recipe text2token has no stage that reads"),
        ("llm2comp", {"pairs": Dataset.from_dict(PAIRS).select(range(3))}, "batch_size 4: the pairs have 3 rows"),
        ("llm2comp", {"pairs": 7}, "pairs: a int; expected a file"),
        ("llm2comp", {"pairs": "no.jsonl"}, "no.jsonl: there is no such file"),
        (
            "llm2comp",
            {"pairs": [Dataset.from_dict(PAIRS)], "dev": Dataset.from_dict({"query": ["a"]})},
            "no column 'pos",
        ),
        (
            "llm2comp",
            {"pairs": Dataset.from_dict(PAIRS), "dev": Dataset.from_dict(PAIRS).select([1])},
            "dev pairs: all have the same positive",
        ),
    ],
)
def test_pairs_that_cannot_be_used(recipe, options, message, tiny_backbone_dir, tmp_path):
    if recipe == "llm2comp":
        recipe = choose_stages(find_recipe(recipe), ["supervised"])
    settings = SETTINGS if "llm2comp" in str(recipe) else {}
    with pytest.raises(InputError, match=message) as caught:
        train(
            tiny_backbone_dir,
            iter(SENTENCES),
            recipe,
            out=tmp_path / "out",
            settings={name: value for name, value in settings.items() if not name.startswith("min_")},
            device="cpu",
            **options,
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
