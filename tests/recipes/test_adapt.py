"""A ready embedder, encoder or decoder, adapted: what stays as it is, what is trained, shipped and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny, save_tiny_embedder

import selfembed
from selfembed import Corpus, InputError
from selfembed.calibration.choice import Choice
from selfembed.encoding.encode import encode
from selfembed.model.adapter import adapter_parameters
from selfembed.recipes import choose_stages, find_recipe
from selfembed.terminal.main import main
from selfembed.training import run
from selfembed.training.estimate import estimate
from selfembed.training.judgement import Judge
from selfembed.training.plan import make_plan
from selfembed.training.stage import run_stages, trainable_embedder

TEXTS = [f"{one} {other}" for one, other in zip(SENTENCES[:30], SENTENCES[30:60], strict=True)]
CORPUS = Dataset.from_dict({"text": TEXTS, "title": [f"Part {number}" for number in range(30)]})
SETTINGS = {
    "steps": 4,
    "batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 32,
    "calibration_pairs": 12,
    "learning_rate": 1e-2,
}
PROMPTS = {"query": "Instruct: find it. Query: ", "document": ""}
KINDS = {
    "encoder": {"family": "bert"},
    "encoder with a dense": {"family": "bert", "dense": True, "max_length": None},
    "decoder": {"family": "qwen3", "prompts": PROMPTS, "max_length": 48},
    "decoder that pools without its prompt": {"family": "qwen3", "prompts": PROMPTS, "include_prompt": False},
}


@pytest.fixture(scope="module", params=KINDS)
def ready(request, tmp_path_factory):
    return save_tiny_embedder(path=tmp_path_factory.mktemp("ready") / "model", **KINDS[request.param])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_embedder("bert", tmp_path_factory.mktemp("encoder") / "model")


def train(model, out, recipe=None, settings=None, **options):
    corpus = Corpus(CORPUS)
    settings = {**SETTINGS, **(settings or {})}
    return selfembed.train(model, corpus, recipe, out=out, settings=settings, dtype="float32", device="cpu", **options)


def plan_of(model, recipe=None, **settings):
    corpus = Corpus(CORPUS)
    return make_plan(model, corpus, recipe, settings={**SETTINGS, **settings}, dtype="float32", device="cpu")


def record_of(out):
    return json.loads((out / "selfembed.json").read_text())


def stock(folder):
    return SentenceTransformer(str(folder), device="cpu")


def in_roles(embedder):
    """Vectors of texts as queries and as documents."""
    return np.concatenate([encode(embedder, TEXTS[:5], role=role) for role in ("query", "document")])


def test_modules_prompts_and_length_stay_and_the_vectors_are_the_trained_ones(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(Choice, "score", property(lambda choice: 1.0))  # a tiny model's training gains nothing
    trained = []
    plan = plan_of(ready)
    run.run_plan(plan, tmp_path / "out", after_stage=lambda record, embedder: trained.append(embedder))
    before, after = stock(ready), stock(tmp_path / "out")
    assert [type(one) for one in after] == [type(one) for one in before]
    assert (after.prompts, after.max_seq_length) == (before.prompts, before.max_seq_length)
    assert after.max_seq_length == plan.ready.max_length
    configs = [one.transformers_model.config.to_dict() | {"_name_or_path": ""} for one in (before, after)]
    assert configs[0] == configs[1], "its own dropout among it"
    assert [one.get_config_dict() for one in list(after)[1:]] == [one.get_config_dict() for one in list(before)[1:]]
    np.testing.assert_allclose(in_roles(after), in_roles(trained[0]), atol=1e-5)
    assert np.abs(in_roles(after) - in_roles(before)).max() > 1e-2, "training must have moved the vectors"
    old, new = (dict(one.named_parameters()) for one in (before, after))
    changed = {name for name in new if not torch.equal(new[name], old[name])}
    assert changed and all(".layer" in name and name.endswith("weight") for name in changed), "linear layers alone"
    record = record_of(tmp_path / "out")
    assert record["recipe"]["name"] == "adapt" and record["recipe"]["embedder"] is None
    assert record["model_fingerprint"] == plan.ready.fingerprint
    assert record["cosine_to_model_in_memory"] >= 0.9999
    assert record["self_retrieval"]["shipped"] == "trained" and record["stages"][0]["loss_curve"][0]["grad_norm"] > 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| modules | {', '.join(type(one).__name__ for one in before)} |" in card
    assert (PROMPTS["query"] in card) == bool(before.prompts["query"])


def test_before_any_training_it_is_the_embedder_that_came(ready):
    plan, before = plan_of(ready), stock(ready)
    embedder = trainable_embedder(plan, plan.backbone)
    embedder.max_seq_length = plan.embed_length
    expected = in_roles(before)
    np.testing.assert_allclose(in_roles(embedder.eval()), expected, atol=1e-6)
    with torch.no_grad():
        batch = embedder.train().preprocess(TEXTS[:5])
        own, again = (embedder(dict(batch))["sentence_embedding"] for _ in range(2))
    assert torch.equal(own, again), "its own dropout is off"
    trained = {name for name, parameter in embedder.named_parameters() if parameter.requires_grad}
    assert len(trained) == len(adapter_parameters(embedder)) and all("lora_" in name for name in trained)
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
    bert = {"query", "key", "value", "dense"}
    gated = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert layers == (bert if "bert" in type(embedder.transformers_model).__name__.lower() else gated)
    assert not any("pooler" in name for name in trained)


def test_where_training_found_less_it_is_shipped_as_it_was(ready, tmp_path, monkeypatch):
    scores = {"raw": 0.9, "trained": 0.1}
    asked = iter(scores.values())

    def as_it_is(judge, vectors_ND):
        return Choice(selfembed.calibration.affine_map.identity(4), {"as it is": next(asked)}, 12)

    monkeypatch.setattr(Judge, "as_it_is", as_it_is)
    train(ready, tmp_path / "out")
    assert record_of(tmp_path / "out")["self_retrieval"]["shipped"] == "raw"
    np.testing.assert_allclose(in_roles(stock(tmp_path / "out")), in_roles(stock(ready)), atol=1e-6)
    assert "0.900 before and 0.100 after; as that is no gain" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("recipe", ["adapt", "adapt -> adapt"])
def test_interrupted_it_ends_in_the_same_weights(recipe, encoder, tmp_path):
    class Interruption(Exception):
        pass

    def stop(task, done, total):
        if task.startswith("text_pairs") and done >= 3:
            raise Interruption

    settings = {"text_pairs_2.adapter": "merge"} if "->" in recipe else {}
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(encoder, whole, recipe, settings)
    with pytest.raises(Interruption):
        train(encoder, out, recipe, settings, progress=stop)
    torch.manual_seed(12345)
    train(encoder, out, recipe, settings)
    assert record_of(out)["stages"][0]["resumed_from"] == "checkpoint-2"
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, out))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_unfinished_run_of_another_embedder_is_refused(encoder, tmp_path, monkeypatch):
    def fails(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "export_adapted", fails)
        train(encoder, tmp_path / "out")
    with_dense = save_tiny_embedder("bert", tmp_path / "dense", dense=True)  # the same transformer
    with pytest.raises(InputError, match="unfinished run with another model, model_fingerprint"):
        train(with_dense, tmp_path / "out")


def test_stages_that_merge_start_from_what_was_merged(encoder, tmp_path):
    plan = plan_of(encoder, "adapt -> adapt", **{"text_pairs_2.adapter": "merge"})
    first, second = run_stages(plan, lambda number, name: tmp_path / f"{number}-{name}")
    assert second.weights.folder == tmp_path / "2-text_pairs_2-merged" and first.weights is plan.backbone
    fresh = plan.untrained(second.weights)
    assert np.abs(in_roles(fresh) - in_roles(plan.untrained())).max() > 1e-3


def test_a_prompt_of_its_own_is_trained_with(tmp_path):
    """The loss of the first step, of an adapter that adds nothing, is that of texts as queries and as documents."""
    curves = []
    for name, prompts in (("with", PROMPTS), ("without", None)):
        model = save_tiny_embedder("qwen3", tmp_path / name, prompts=prompts)
        train(model, tmp_path / f"{name}-out", settings={"calibration_pairs": 0})
        curves.append(record_of(tmp_path / f"{name}-out")["stages"][0]["loss_curve"][0]["loss"])
    assert abs(curves[0] - curves[1]) > 1e-3


def test_estimate_and_dry_run(ready, tmp_path, capsys):
    guess = estimate(plan_of(ready))
    assert guess.stages[0].texts == 16 and guess.seconds > 0 and guess.memory_gib > 0
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(TEXTS))
    assert main(["train", "--model", str(ready), "--corpus", str(texts), "--dry-run", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert '"name": "adapt"' in printed and '"embedder": null' in printed and "nothing was trained" in printed


def test_the_command_line_trains_and_says_what_it_was_worth(encoder, tmp_path, capsys):
    texts, out = tmp_path / "texts.txt", tmp_path / "out"
    texts.write_text("\n\n".join(TEXTS))
    numbers = ["--steps", "2", "--batch-size", "4", "--set", "calibration_pairs=8", "--dtype", "float32"]
    command = ["train", "--model", str(encoder), "--corpus", str(texts), "--out", str(out), "--device", "cpu"]
    assert main([*command, *numbers]) == 0
    said = capsys.readouterr()
    assert "  before   0." in said.out and "  trained  0." in said.out and "calibrated" not in said.out
    assert "no report will be left" in said.err and not (out / "report.html").exists()
    assert f"next: selfembed index {out}" in said.out
    assert main(["explain", str(out), "a text"]) == 2
    assert "a ready embedder, without a decoder layer" in capsys.readouterr().err
    again = [
        "train",
        "--model",
        str(encoder),
        "--corpus",
        str(texts),
        "--out",
        str(out) + "2",
        "--recipe",
        "selfembed",
    ]
    assert main(again) == 2
    assert capsys.readouterr().err.strip().endswith("expected a recipe that keeps them; use --recipe adapt")


def test_an_adapted_embedder_can_be_adapted_again(encoder, tmp_path):
    train(encoder, tmp_path / "one")
    train(tmp_path / "one", tmp_path / "two")
    assert record_of(tmp_path / "two")["model"] == str(tmp_path / "one")


@pytest.mark.parametrize("recipe", ["selfembed", "text2token-small", "llm2comp-unsup", "llm2vec-unsup"])
def test_recipes_for_language_models_name_the_one_to_take(recipe, encoder, tmp_path):
    with pytest.raises(InputError, match=f"^recipe {recipe}: .*; use `recipe='adapt'`$"):
        selfembed.train(encoder, Corpus(CORPUS), recipe, out=tmp_path / "out")


@pytest.mark.parametrize(
    "stage",
    [
        "text2token.data_driven",
        "text2token.model_derived",
        "bag-of-tokens",
        "llm2comp-unsup.compression",
        "llm2vec-unsup.masked_next_token",
    ],
)
@pytest.mark.parametrize("way", ["adapt -> {}", "adapt + {}"])
def test_stages_that_need_a_decoder_layer_are_refused(way, stage, encoder, tmp_path):
    with pytest.raises(InputError, match="^stage .*needs a language model with its decoder layer, .*; leave this one"):
        selfembed.train(encoder, Corpus(CORPUS), way.format(stage), out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_language_model_is_not_adapted(tmp_path):
    model = save_tiny("llama", tmp_path / "model")
    with pytest.raises(InputError, match="^recipe adapt: .* is a language model; .*; give one, or use `recipe='self"):
        train(model, tmp_path / "out", "adapt")
    assert plan_of(model).recipe.name == "selfembed", "its own default"


def test_labelled_pairs_adapt_it_too(encoder, tmp_path):
    recipe = choose_stages(find_recipe("adapt -> llm2comp.supervised"), ["supervised"])
    pairs = Dataset.from_dict({"query": [text.split(" the ")[0] for text in SENTENCES], "positive": SENTENCES})
    train(encoder, tmp_path / "out", recipe, {"calibration_pairs": 0}, pairs=pairs)
    assert "self_retrieval" not in record_of(tmp_path / "out"), "nothing was asked to be judged"
    assert np.abs(in_roles(stock(tmp_path / "out")) - in_roles(stock(encoder))).max() > 1e-3


def test_bfloat16_trains_modules_of_one_dtype(tmp_path):
    model = save_tiny_embedder("bert", tmp_path / "model", dense=True)
    corpus = Corpus(CORPUS)
    selfembed.train(model, corpus, out=tmp_path / "out", settings=SETTINGS, dtype="bfloat16", device="cpu")
    record = record_of(tmp_path / "out")
    assert record["dtype"] == "bfloat16" and record["saved_dtype"] == "float32"


def test_numbers_of_a_reading_are_not_the_recipes(encoder, tmp_path):
    with pytest.raises(InputError, match="setting 'pooling': expected one of recipe adapt"):
        train(encoder, tmp_path / "out", settings={"pooling": "mean"})


def test_the_pairs_are_those_of_our_recipe():
    ours, adapt = (find_recipe(name).stages["text_pairs"].objective for name in ("selfembed", "adapt"))
    assert ours == adapt
