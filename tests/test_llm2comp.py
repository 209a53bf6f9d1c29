"""LLM2Comp without labels, on tiny models, end to end: what is trained when, carried over and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import weights
from sentence_transformers import SentenceTransformer
from tiny import BOS_ID, SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.memory import memory_embedding
from selfembed.plan import make_plan
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training import run_plan, train

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


class Interruption(Exception):
    """What a power cut is to the library."""


def short_train(model: Path, out: Path, *, settings=None, recipe="llm2comp-unsup", **options):
    settings = {**SETTINGS, **(settings or {})}
    corpus = options.pop("corpus", None) or iter(SENTENCES)
    return train(model, corpus, recipe, out=out, settings=settings, dtype="float32", device="cpu", **options)


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
        "micro_batch_size": 2,
    }
    recipe = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=recipe, settings=settings, corpus=corpus)
    stage = record_of(tmp_path / "out")["stages"][0]
    assert stage["texts_too_short"] == 2 and stage["texts"] == len(SENTENCES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_context": 900}, "none of .* texts has 902 tokens, as a split needs"),
        ({"prompt": "say {text}"}, "compression splits the bare text"),
        ({"memory_tokens": 0}, "memory_tokens 0: pooling 'memory' needs at least 1"),
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
