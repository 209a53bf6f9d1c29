"""Every recipe, trained on a tiny model, still goes the way that was recorded of it: loss, gradient, weights.

The traces lie in tests/traces; `python tests/record_traces.py` makes them anew, which is right only where training was
meant to change. On the machine that recorded them weights are held to the last bit, elsewhere losses and gradient
norms within rounding.

Of the package only `train` and the recipes are used, so that modules may move; what happened is read from the run
record and from the adapters that training leaves beside its output until it is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny import SENTENCES, save_tiny, save_tiny_embedder

from selfembed import train
from selfembed.recipes import RECIPES

FOLDER = Path(__file__).parent / "traces"
STEPS = {1: (20,), 2: (12, 8), 3: (8, 8, 4)}  # of each stage, by the number of stages: 20 in all
# So fast that another optimiser, schedule or order of texts shows.
NUMBERS: dict[str, Any] = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 5e-3}
# Two views of four sentences are told apart too easily: losses near 0 are rounding for the most part.
TWO_VIEWS = {"two_views.batch_size": 8, "two_views.micro_batch_size": 4, "two_views.temperature": 0.5}
SPLIT = {"min_context": 4, "min_continuation": 4}

QUESTIONS = {"query": [" ".join(text.split()[-4:]) for text in SENTENCES[:30]], "positive": SENTENCES[:30]}
TITLES = {"query": [" ".join(text.split()[:4]) for text in SENTENCES[30:50]], "positive": SENTENCES[30:50]}
TRIPLETS = {**QUESTIONS, "negative": SENTENCES[1:31]}
DEV = {"query": [" ".join(text.split()[1:5]) for text in SENTENCES[50:]], "positive": SENTENCES[50:]}


def options_of(name: str) -> dict[str, Any]:
    """What `train` is given, beside model and output, for the trace of this name."""
    recipe = RECIPES[{"text2token-merge": "text2token", "supervised-mined": "llm2comp-small"}.get(name, name)]()
    settings, options = dict(NUMBERS), {}
    if name == "text2token-merge":  # targets of the second stage come from the merged model
        settings["model_derived.adapter"] = "merge"
    if name == "supervised-mined":  # every five steps, from two sets, one without negatives; best step on dev is kept
        recipe = dataclasses.replace(recipe, stages={"supervised": recipe.stages["supervised"]})
        settings |= {"batches": "homogeneous", "refresh_every": 5, "eval_steps": 5, "patience": 9}
        options = {
            "pairs": {"questions": Dataset.from_dict(TRIPLETS), "titles": Dataset.from_dict(TITLES)},
            "dev": Dataset.from_dict(DEV),
        }
    elif "supervised" in recipe.stages:
        options = {"pairs": {"questions": Dataset.from_dict(TRIPLETS)}, "instructions": {"questions": "Find the text"}}
    settings |= SPLIT if "compression" in recipe.stages else {}
    settings |= TWO_VIEWS if "two_views" in recipe.stages else {}
    settings |= {f"{stage}.steps": n for stage, n in zip(recipe.stages, STEPS[len(recipe.stages)], strict=True)}
    return {"recipe": recipe, "settings": settings, **options}


NAMES = (*RECIPES, "text2token-merge", "supervised-mined")


def trace(name: str, folder: Path) -> dict[str, Any]:
    """Trains, and tells loss and gradient norm of every step and hashes of what came out.

    Args:
        name: one of `NAMES`.
        folder: empty; nothing that an earlier training cached may be read.
    """
    adapters: dict[str, str] = {}

    def look(task: str, done: int, total: int | None) -> None:
        for file in sorted(folder.rglob("adapter.safetensors")):
            if str(file) not in adapters:
                adapters[str(file)] = tensors_hash(load_file(file), with_names=False)

    if name == "adapt":
        model = save_tiny_embedder("bert", folder / "raw")
    else:
        model = save_tiny("llama", folder / "raw", tied=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFEMBED_CACHE", str(folder / "cache"))
        train(
            model,
            iter(SENTENCES),
            out=folder / "out",
            seed=0,
            dtype="float32",
            saved_dtype="float32",  # weights to the last bit
            device="cpu",
            tagger="hanta",
            progress=look,
            **options_of(name),
        )
    record = json.loads((folder / "out" / "selfembed.json").read_text())
    stages = []
    for adapter, stage in zip(adapters.values(), record["stages"], strict=True):
        curve = stage["loss_curve"]
        numbers = {key: [entry[key] for entry in curve] for key in ("loss", "grad_norm")}
        dropout = record["recipe"]["stages"][stage["name"]]["objective"].get("attention_dropout", 0.0)
        notes = {key: stage[key] for key in ("rows_with_mined_negatives", "dev") if key in stage}
        stages.append({"name": stage["name"], "attention_dropout": dropout, **numbers, "adapter": adapter, **notes})
    embedder = tensors_hash(load_file(folder / "out" / "model.safetensors"), with_names=True)
    return {"stages": stages, "embedder": embedder}


def tensors_hash(tensors: dict[str, torch.Tensor], *, with_names: bool) -> str:
    """SHA-256 over tensors to the last bit; without their names a module may call a parameter as it likes."""
    digests = []
    for name, tensor in tensors.items():
        digest = hashlib.sha256(f"{name if with_names else ''}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
        digests.append(digest.hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def machine() -> dict[str, Any]:
    """What decides how numbers are rounded: machines that agree in all of it are held to the last bit."""
    packages = ("torch", "transformers", "sentence-transformers", "peft", "accelerate", "tokenizers", "numpy")
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "environment": {key: os.environ[key] for key in sorted(os.environ) if key.startswith(("MKL_", "ONEDNN_"))},
        **{package: importlib.metadata.version(package) for package in packages},
    }


def processor() -> str:
    """Name and a hash of model and instruction sets, since virtual machines give one name to several processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.system()} {platform.processor() or platform.machine()}"
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    known = [entries.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping", "flags", "Features")]
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]
    return f"{entries.get('model name', platform.machine())} {digest}"


def dropout_masks() -> str:
    """Hash of masks that torch draws for attention dropout; they may be others where it has no MKL to draw them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mask = torch.nn.functional.dropout(torch.ones(4, 64, 64), 0.2) > 0
    return hashlib.sha256(mask.numpy().tobytes()).hexdigest()


def recorded(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


@pytest.fixture(scope="module", params=NAMES)
def traced(request) -> tuple[dict[str, Any], dict[str, Any]]:
    """A trace as it is now and as it was recorded."""
    with TemporaryDirectory() as folder:
        return trace(request.param, Path(folder)), recorded(request.param)


def test_every_recipe_has_a_trace_and_no_trace_is_left_over():
    assert {file.stem for file in FOLDER.glob("*.json")} == set(NAMES)
    for name in NAMES:
        stages = recorded(name)["stages"]
        assert [stage["name"] for stage in stages] == list(options_of(name)["recipe"].stages)
        for key in ("loss", "grad_norm"):
            assert tuple(len(stage[key]) for stage in stages) == STEPS[len(stages)]
    assert len(recorded("supervised-mined")["stages"][0]["rows_with_mined_negatives"]) == 3


def test_losses_and_gradients(traced):
    now, before = traced
    assert [stage["name"] for stage in now["stages"]] == [stage["name"] for stage in before["stages"]]
    step = 0
    for stage, expected in zip(now["stages"], before["stages"], strict=True):
        if expected["attention_dropout"] and dropout_masks() != before["dropout_masks"]:
            pytest.skip(f"torch draws other dropout masks on this processor: not compared from {stage['name']} on")
        for key in ("loss", "grad_norm"):
            assert len(stage[key]) == len(expected[key])
            # What another processor rounds otherwise grows on the way: from AVX-512 to AVX2 or no vectors at all, by
            # 1e-5 in the first five steps and 3e-5 later.
            rtol_S = np.where(step + np.arange(len(stage[key])) < 5, 1e-4, 3e-4)
            error_S = np.abs(np.array(stage[key]) - expected[key])
            assert (error_S <= rtol_S * np.abs(expected[key])).all(), (stage["name"], key, stage[key], expected[key])
        step += len(stage["loss"])


def test_weights(traced):
    now, before = traced
    here = machine()
    changed = [key for key, value in before["machine"].items() if here[key] != value]
    if changed:
        pytest.skip(f"recorded with another {', '.join(changed)}: weights are not compared to the last bit")
    assert now == {key: before[key] for key in now}
