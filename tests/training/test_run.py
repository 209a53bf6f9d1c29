"""Training end to end on tiny models: what moves, what is left behind, and going on after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SETTINGS, plain_embedder, short_train, weights
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.model.backbone import Backbone
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training.plan import make_plan
from selfembed.training.run import run_plan, train

ONLINE = {"common": "online"}


class Interruption(Exception):
    """What a power cut is to the library."""


def interrupt_at(stage: str, step: int):
    def progress(task: str, done: int, total: int | None) -> None:
        if task.startswith(f"{stage},") and done >= step:
            raise Interruption

    return progress


def record_of(out: Path) -> dict:
    return json.loads((out / "selfembed.json").read_text())


@pytest.mark.parametrize(
    ("family", "tied", "settings", "stages"),
    [
        ("llama", True, {}, None),
        ("llama", False, {"pooling": "mean", "attention": "bidirectional"}, None),
        ("llama", True, {"attention": "bidirectional", **ONLINE}, ["model_derived", "data_driven"]),
        ("gpt_neox", False, {"pooling": "mean"}, ["model_derived"]),
        ("qwen2", True, {"schedule": "constant"}, ["data_driven"]),
    ],
)
def test_end_to_end(family, tied, settings, stages, tmp_path):
    raw = save_tiny(family, tmp_path / "raw", tied=tied)
    recipe = find_recipe("text2token")
    if stages:
        recipe = choose_stages(recipe, stages)
    out = tmp_path / "out"
    told = []
    finished = short_train(raw, out, recipe=recipe, settings=settings, progress=lambda *report: told.append(report))
    loaded = SentenceTransformer(str(out), device="cpu")
    vectors = loaded.encode(SENTENCES[:4])
    np.testing.assert_array_equal(finished.encode(SENTENCES[:4]), vectors)
    read_as = {name: settings[name] for name in ("pooling", "attention") if name in settings}
    untrained, _, _ = plain_embedder(raw, **read_as)
    assert np.abs(vectors - untrained.encode(SENTENCES[:4])).max() > 1e-3, "training must have moved the vectors"
    record = record_of(out)
    assert [stage["name"] for stage in record["stages"]] == list(recipe.stages)
    for stage in record["stages"]:
        curve = stage["loss_curve"]
        assert [entry["step"] for entry in curve] == [1, 2, 3]
        assert all(entry["loss"] > 0 and entry["grad_norm"] > 0 for entry in curve)
        assert stage["resumed_from"] is None
    assert record["dtype"] == "float32" and record["device"] == "cpu" and record["seed"] == 0
    assert record["cosine_to_model_in_memory"] >= 0.9999
    assert not out.with_name("out.partial").exists()
    assert told[-1] == ("saving", 1, 1)
    assert [done for task, done, _ in told if task.startswith(f"{list(recipe.stages)[0]},")] == [1, 2, 3]
    # only the adapted projections differ from the backbone
    raw_weights, new_weights = Backbone("raw", raw).load().base_model.state_dict(), weights(out)
    changed = {name for name, tensor in new_weights.items() if not torch.equal(tensor, raw_weights[name])}
    expected = ("query_key_value",) if family == "gpt_neox" else ("q_proj", "v_proj")
    assert changed and all(any(part in name for part in expected) for name in changed)


def test_training_lowers_the_loss(tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    settings = {"steps": 12, "learning_rate": 3e-2, "warmup": 0, "dropout": 0}
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=recipe, settings=settings, corpus=iter(SENTENCES[:4]))
    curve = [entry["loss"] for entry in record_of(tmp_path / "out")["stages"][0]["loss_curve"]]
    assert curve[-1] < curve[0] - 0.5


def test_seed_decides_the_weights(tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    outs = [tmp_path / name for name in ("one", "two", "same")]
    for out, seed in zip(outs, (0, 1, 0), strict=True):
        short_train(tiny_backbone_dir, out, recipe=recipe, seed=seed)
    one, two, same = (weights(out) for out in outs)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], two[name]) for name in one)


def curve_of(model: Path, out: Path, **settings) -> tuple[dict[str, torch.Tensor], list[tuple[float, float]]]:
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    short_train(model, out, recipe=recipe, settings={"dropout": 0, **settings})
    curve = record_of(out)["stages"][0]["loss_curve"]
    return weights(out), [(entry["loss"], entry["grad_norm"]) for entry in curve]


@pytest.fixture(scope="module")
def plain_curve(tiny_backbone_dir, tmp_path_factory):
    return curve_of(tiny_backbone_dir, tmp_path_factory.mktemp("curve") / "plain")


@pytest.mark.parametrize("settings", [{"micro_batch_size": 2}, {"gradient_checkpointing": True}])
def test_ways_to_save_memory_change_nothing(settings, plain_curve, tiny_backbone_dir, tmp_path):
    expected, expected_curve = plain_curve
    actual, curve = curve_of(tiny_backbone_dir, tmp_path / "saving", **settings)
    # Adam is blind to the scale of a gradient: loss and norm are compared as well.
    np.testing.assert_allclose(curve, expected_curve, rtol=1e-3)
    raw = Backbone("raw", tiny_backbone_dir).load().base_model.state_dict()
    moved = max((expected[name] - raw[name]).abs().max().item() for name in expected)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], atol=moved * 1e-3, rtol=0)
    assert moved > 1e-3


def test_bfloat16_holds_the_adapter_and_what_is_saved_in_float32(tiny_backbone_dir, tmp_path):
    out, dtypes = tmp_path / "out", []

    def watch(record, embedder):
        trained = {p.dtype for p in embedder.parameters() if p.requires_grad}
        dtypes.append((record["name"], embedder.dtype, trained))

    settings = {**SETTINGS, **ONLINE, "steps": 12, "warmup": 0, "dropout": 0}
    corpus = iter(SENTENCES[:4])
    options = {"dtype": "bfloat16", "saved_dtype": "float32", "device": "cpu", "tagger": "hanta"}
    plan = make_plan(tiny_backbone_dir, corpus, "text2token", settings=settings, **options)
    run_plan(plan, out, after_stage=watch)
    assert [name for name, _, _ in dtypes] == ["data_driven", "model_derived"]
    assert all(trained == {torch.float32} for _, _, trained in dtypes)
    record = record_of(out)
    assert record["dtype"] == "bfloat16" and record["saved_dtype"] == "float32"
    curve = [entry["loss"] for entry in record["stages"][0]["loss_curve"]]
    assert curve[-1] < curve[0] - 0.3
    first = choose_stages(find_recipe("text2token"), ["data_driven"])
    settings.pop("common")  # an option of the second
    short_train(tiny_backbone_dir, tmp_path / "float32", recipe=first, settings=settings, corpus=iter(SENTENCES[:4]))
    expected = [entry["loss"] for entry in record_of(tmp_path / "float32")["stages"][0]["loss_curve"]]
    np.testing.assert_allclose(curve, expected, rtol=0.05)
    raw = Backbone("raw", tiny_backbone_dir).load().base_model.state_dict()
    frozen = [name for name in raw if "q_proj" not in name and "v_proj" not in name]
    saved = weights(out)
    assert all(torch.equal(saved[name], raw[name]) for name in frozen), "frozen weights keep their digits"


@pytest.fixture(scope="module")
def whole_run(tiny_backbone_dir, tmp_path_factory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("whole") / "out"
    short_train(tiny_backbone_dir, out, settings={"steps": 4, **ONLINE})
    return weights(out)


@pytest.mark.parametrize(
    ("stage", "step", "resumed"),
    [
        ("data_driven", 1, [None, None]),
        ("data_driven", 3, ["checkpoint-2", None]),
        ("model_derived", 3, [None, "checkpoint-2"]),
    ],
)
def test_interrupted_run_ends_in_the_same_weights(stage, step, resumed, whole_run, tiny_backbone_dir, tmp_path):
    out, settings = tmp_path / "out", {"steps": 4, **ONLINE}
    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, out, settings=settings, progress=interrupt_at(stage, step))
    assert not out.exists() and out.with_name("out.partial").is_dir()
    torch.manual_seed(12345)  # a new process has another random state
    short_train(tiny_backbone_dir, out, settings=settings)
    assert [entry["resumed_from"] for entry in record_of(out)["stages"]] == resumed
    actual = weights(out)
    assert actual.keys() == whole_run.keys()
    for name in actual:
        assert torch.equal(actual[name], whole_run[name]), name


@pytest.mark.parametrize("torn", ["trainer_state.json", "stage_state.safetensors"])
def test_torn_checkpoint_is_ignored(torn, whole_run, tiny_backbone_dir, tmp_path):
    out, settings = tmp_path / "out", {"steps": 4, **ONLINE}
    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, out, settings=settings, progress=interrupt_at("model_derived", 4))
    stage = tmp_path / "out.partial" / "2-model_derived"
    assert (stage / "checkpoint-3" / torn).exists() and (stage / "checkpoint-2" / torn).exists()
    card = (stage / "checkpoint-2" / "README.md").read_text()
    assert "A checkpoint of an unfinished run" in card and not any(text in card for text in SENTENCES)
    (stage / "checkpoint-3" / torn).unlink()
    short_train(tiny_backbone_dir, out, settings=settings)
    assert record_of(out)["stages"][1]["resumed_from"] == "checkpoint-2"
    for name, tensor in weights(out).items():
        assert torch.equal(tensor, whole_run[name]), name


def test_existing_output_is_refused(tiny_backbone_dir, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(InputError, match="exists already"):
        short_train(tiny_backbone_dir, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]


def test_unfinished_run_of_other_settings_is_refused(tiny_backbone_dir, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, out, progress=interrupt_at("data_driven", 1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="unfinished run with another recipe"):
        short_train(tiny_backbone_dir, out, settings={"learning_rate": 1e-3})
    with pytest.raises(InputError, match="unfinished run with another seed"):
        short_train(tiny_backbone_dir, out, seed=1)
    with pytest.raises(InputError, match="unfinished run with another corpus"):
        short_train(tiny_backbone_dir, out, corpus=iter(SENTENCES[:30]))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    shutil.rmtree(tmp_path / "out.partial")
    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, out, settings={"learning_rate": 1e-3}, progress=interrupt_at("data_driven", 1))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("plan", [None, "", "[]", '{"mine": 1}'], ids=["no plan", "empty", "a list", "another"])
@pytest.mark.parametrize("corpus", [["and or but"], SENTENCES], ids=["fails", "trains"])
def test_a_folder_that_is_not_ours_is_left_alone(plan, corpus, tiny_backbone_dir, tmp_path):
    work = tmp_path / "out.partial"
    (work / "1-data_driven").mkdir(parents=True)
    (work / "1-data_driven" / "mine").write_text("x")
    if plan is not None:
        (work / "plan.json").write_text(plan)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"out.partial, which holds something else .*choose another output"):
        short_train(tiny_backbone_dir, tmp_path / "out", corpus=iter(corpus))
    assert contents(tmp_path) == before


def test_what_a_user_puts_into_our_folder_stays(tiny_backbone_dir, tmp_path):
    out, work = tmp_path / "out", tmp_path / "out.partial"
    work.mkdir()  # an empty one is taken

    def add_files(task, done, total):
        (work / "mine").write_text("x")
        (work / "folder").mkdir(exist_ok=True)
        (work / "folder" / "mine").write_text("y")

    short_train(tiny_backbone_dir, out, settings=ONLINE, progress=add_files)
    assert contents(work) == {"mine": b"x", "folder/mine": b"y"}
    failing = tmp_path / "failing"

    def add_file(task, done, total):
        (tmp_path / "failing.partial" / "mine").write_text("x")

    with pytest.raises(InputError, match="key token"):
        short_train(tiny_backbone_dir, failing, corpus=iter(["and or but"]), progress=add_file)
    assert contents(tmp_path / "failing.partial") == {"mine": b"x"}


def test_a_finished_embedder_named_partial_is_left_alone(tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    finished = tmp_path / "x.partial"
    short_train(tiny_backbone_dir, finished, recipe=recipe)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"x.partial, which holds something else"):
        short_train(tiny_backbone_dir, tmp_path / "x", recipe=recipe)
    assert contents(tmp_path) == before and "model.safetensors" in contents(finished)


def test_an_unfinished_run_is_no_place_for_another(tiny_backbone_dir, tmp_path):
    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, tmp_path / "x", progress=interrupt_at("data_driven", 1))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="exists already"):
        short_train(tiny_backbone_dir, tmp_path / "x.partial")
    assert contents(tmp_path) == before


def test_outputs_that_no_folder_can_be_moved_to(tiny_backbone_dir, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mounted").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    (tmp_path / "file.partial").write_text("x")
    (tmp_path / "linked.partial").symlink_to(tmp_path / "empty")
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path).name == "mounted")
    before = sorted(tmp_path.rglob("*"))
    for out, reason in {
        ".": "expected the name of a new folder",
        "..": "expected the name of a new folder",
        "a\0b": "expected the name of a new folder",
        tmp_path / "here": "the folder you are in",
        "x" * 250: "expected at most",
        "\u00e9" * 124: "expected at most",
        "/".join(["x" * 200] * 30): "cannot be looked at",
        tmp_path / "link": "a link",
        tmp_path / "broken": "a link",
        tmp_path / "mounted": "a mount point",
        tmp_path / "file": "a file, a link or a mount point",
        tmp_path / "linked": "a file, a link or a mount point",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            short_train(tiny_backbone_dir, Path(out))
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    longest = "x" * (255 - len(".partial"))
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    short_train(tiny_backbone_dir, tmp_path / longest, recipe=recipe, settings={"steps": 1})
    assert (tmp_path / longest / "model.safetensors").exists()


def test_no_text_has_a_key_token(tiny_backbone_dir, tmp_path):
    with pytest.raises(InputError, match="none of 2 texts has a key token"):
        short_train(tiny_backbone_dir, tmp_path / "out", corpus=iter(["and or but", "then he went"]))
    assert not list(tmp_path.iterdir())


def test_texts_without_a_target_are_left_out_and_counted(tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    corpus = iter([*SENTENCES[:10], "and or but", "then he went"])
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=recipe, corpus=corpus)
    stage = record_of(tmp_path / "out")["stages"][0]
    assert stage["texts_without_target"] == 2 and stage["texts"] == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "dtype 'float16'"),
        ({"recipe": "none such"}, "recipe 'none such'"),
        ({"model": "/none/such"}, "model /none/such"),
        ({"corpus": "/none/such.txt"}, "none/such.txt"),
        ({"settings": {"max_length": 3}}, "the prompt alone takes"),
    ],
)
def test_bad_input(options, message, tiny_backbone_dir, tmp_path):
    given = {"model": tiny_backbone_dir, "corpus": iter(SENTENCES), "device": "cpu", "tagger": "hanta", **options}
    given["settings"] = {**SETTINGS, **given.get("settings", {})}
    with pytest.raises(InputError, match=message):
        train(**given, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
