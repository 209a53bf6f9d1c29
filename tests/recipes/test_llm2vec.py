"""LLM2Vec on tiny models, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import weights
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.model.attention import probe_attention
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training.run import train

SETTINGS = {"steps": 4, "batch_size": 4, "micro_batch_size": 2, "max_length": 40, "embed_length": 40}


def short_train(model: Path, out: Path, *, settings=None, recipe="llm2vec-unsup", corpus=None, **options):
    given = {**SETTINGS, "learning_rate": 1e-2, "gradient_checkpointing": False, **(settings or {})}
    exact = {"saved_dtype": "float32", "device": "cpu"}
    return train(model, corpus or iter(SENTENCES), recipe, out=out, settings=given, **exact, **options)


def record_of(out: Path) -> dict:
    return json.loads((out / "selfembed.json").read_text())


def test_numbers_of_the_paper():
    recipe = find_recipe("llm2vec-unsup")
    first, second = recipe.stages.values()
    assert (recipe.embedder.pooling, recipe.embedder.attention, recipe.embedder.template) == (
        "mean",
        "bidirectional",
        "{text}",
    )
    assert (first.steps, first.batch_size, first.max_length, first.learning_rate) == (1000, 32, 512, 5e-5)
    assert (first.objective.rate, first.objective.style, first.objective.mask_token) == (0.2, "bert", "_")
    assert (second.steps, second.batch_size, second.max_length, second.learning_rate) == (1000, 128, 128, 3e-5)
    assert (second.objective.temperature, second.objective.attention_dropout) == (0.05, 0.3)
    assert second.adapter == "merge" and len(recipe.lora.targets) == 7
    assert [name in entry for name, entry in zip(("llm2vec", "simcse"), recipe.citations, strict=True)] == [True] * 2


@pytest.fixture(scope="module")
def whole_run(tiny_backbone_dir, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    short_train(tiny_backbone_dir, out)
    return out


def test_both_stages_and_the_folder_that_comes_of_them(whole_run):
    record = record_of(whole_run)
    assert [stage["name"] for stage in record["stages"]] == ["masked_next_token", "two_views"]
    assert [len(stage["loss_curve"]) for stage in record["stages"]] == [4, 4]
    assert record["stages"][0]["texts_too_short"] == 0
    assert record["recipe"]["stages"]["masked_next_token"]["objective"]["kind"] == "MaskedNextToken"
    assert record["cosine_to_model_in_memory"] > 0.9999
    embedder = SentenceTransformer(str(whole_run), device="cpu")
    assert probe_attention(embedder.transformers_model).verdict == "bidirectional"


def test_masked_tokens_are_learnt(tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("llm2vec-unsup"), ["masked_next_token"])
    settings = {"steps": 30, "batch_size": 16, "micro_batch_size": None, "dropout": 0, "learning_rate": 2e-2}
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=recipe, settings=settings, corpus=iter(SENTENCES[:8]))
    losses = [entry["loss"] for entry in record_of(tmp_path / "out")["stages"][0]["loss_curve"]]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3


class Interruption(Exception):
    """What a power cut is to the library."""


def test_interrupted_run_ends_in_the_same_weights(whole_run, tiny_backbone_dir, tmp_path):
    def power_cut(task: str, done: int, total: int | None) -> None:
        if task.startswith("masked_next_token,") and done >= 3:
            raise Interruption

    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, tmp_path / "out", progress=power_cut)
    torch.manual_seed(12345)
    short_train(tiny_backbone_dir, tmp_path / "out")
    assert [stage["resumed_from"] for stage in record_of(tmp_path / "out")["stages"]] == ["checkpoint-2", None]
    expected = weights(whole_run)
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "causal"}, "attention 'causal': masked next-token prediction learns to see"),
        ({"mask_token": "[MASK]"}, r"mask_token '\[MASK\]': not in the vocabulary"),
        ({"rate": "1.5"}, "rate 1.5: expected a number above 0 and below 1"),
    ],
)
def test_bad_settings(settings, message, tiny_backbone_dir, tmp_path):
    with pytest.raises(InputError, match=message):
        short_train(tiny_backbone_dir, tmp_path / "out", settings=settings)
    assert not list(tmp_path.iterdir())


def test_texts_of_one_token_are_counted_and_left_out(tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tied=True)
    recipe = choose_stages(find_recipe("llm2vec-unsup"), ["masked_next_token"])
    settings = {"steps": 1, "batch_size": 10, "micro_batch_size": 5}
    short_train(raw, tmp_path / "out", recipe=recipe, settings=settings, corpus=iter([*SENTENCES[:8], "a", "b"]))
    stage = record_of(tmp_path / "out")["stages"][0]
    assert stage["texts_too_short"] == 2 and stage["texts"] == 8
    with pytest.raises(InputError, match="none of 2 texts has a token to mask"):
        short_train(raw, tmp_path / "none", recipe=recipe, settings=settings, corpus=iter(["a", "b"]))
