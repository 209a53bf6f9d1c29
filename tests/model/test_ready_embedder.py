"""Ready embedders: found, loaded, hashed; and what is refused as none."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import save_tiny, save_tiny_embedder

from selfembed.errors import InputError
from selfembed.model.lora import ALL_LINEAR, Lora, lora_config
from selfembed.model.ready_embedder import MODULES, is_ready, load_ready


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_embedder("bert", tmp_path_factory.mktemp("encoder") / "model", dense=True)


@pytest.fixture
def copy(encoder, tmp_path):
    return shutil.copytree(encoder, tmp_path / "copy")


@pytest.mark.parametrize("max_length", [None, 40])
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_length_is_what_sentence_transformers_reads(family, max_length, tmp_path):
    folder = save_tiny_embedder(family, tmp_path / "model", max_length=max_length)
    assert load_ready(folder).max_length == SentenceTransformer(str(folder), device="cpu").max_seq_length
    settings = folder / "sentence_bert_config.json"  # where older versions kept it
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_seq_length": 24}))
    assert load_ready(folder).max_length == SentenceTransformer(str(folder), device="cpu").max_seq_length == 24


def test_what_is_ready(encoder, tmp_path):
    model = save_tiny("llama", tmp_path / "model")
    assert is_ready(encoder) and not is_ready(model) and not is_ready("embedded") and not is_ready("x.gguf")
    with pytest.raises(InputError, match="model /none/such: no such folder"):
        is_ready("/none/such")


def test_fingerprint_is_of_all_modules_and_not_of_the_place(encoder, copy):
    assert load_ready(copy).fingerprint == load_ready(encoder).fingerprint
    file = next(copy.glob("2_Dense/*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert load_ready(copy).fingerprint != load_ready(encoder).fingerprint


def change_modules(folder, change):
    modules = json.loads((folder / MODULES).read_text())
    change(modules)
    (folder / MODULES).write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / MODULES).write_text("{"), "its modules.json cannot be read"),
        (lambda folder: (folder / MODULES).write_text("[]"), "its modules.json cannot be read"),
        (
            lambda folder: change_modules(folder, lambda modules: modules.pop(0)),
            "its first module is .*Pooling; expected sentence-transformers' Transformer",
        ),
        (
            lambda folder: change_modules(
                folder, lambda modules: modules[1].update(type="memory_pooling.MemoryPooling")
            ),
            "pools over memory tokens",
        ),
        (lambda folder: (folder / "config.json").unlink(), "its config.json cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: without_a_layer(folder), ".* missing in its weights, .* of the whole model"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(change, message, copy):
    change(copy)
    with pytest.raises(InputError, match=f"^model {copy}: {message}") as caught:
        load_ready(copy)
    assert "\n" not in str(caught.value)


def without_a_layer(folder):
    file = folder / "model.safetensors"
    save_file({name: one for name, one in load_file(file).items() if "layer.1.output.dense" not in name}, file)


def test_a_pooler_may_be_missing(copy):
    file = copy / "model.safetensors"
    tensors = load_file(file)
    assert any(name.startswith("pooler.") for name in tensors)
    save_file({name: one for name, one in tensors.items() if not name.startswith("pooler.")}, file, {"format": "pt"})
    assert load_ready(copy).load(device="cpu").dtype == torch.float32


def test_what_sentence_transformers_cannot_load_is_one_line(copy):
    next(copy.glob("2_Dense/*.safetensors")).write_bytes(b"nothing")
    with pytest.raises(InputError, match=f"^model {copy}: sentence-transformers cannot load it .*; download it again"):
        load_ready(copy).load(device="cpu")


def test_weights_of_another_folder(encoder, tmp_path):
    other = load_ready(save_tiny_embedder("bert", tmp_path / "other", seed=1))
    mixed = load_ready(encoder).load(device="cpu", weights=other.transformer)
    expected = other.load(device="cpu").transformers_model.state_dict()
    found = mixed.transformers_model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected) and len(mixed) == 4


@pytest.mark.parametrize(("family", "layers"), [("gpt2", {"c_attn", "c_proj", "c_fc"}), ("gpt_neox", None)])
def test_all_linear_layers_of_the_upper_half(family, layers, tmp_path):
    folder = save_tiny_embedder(family, tmp_path / "model")
    model = load_ready(folder).load(device="cpu").transformers_model
    names = lora_config(model, Lora(targets=ALL_LINEAR, top_layers=0.5)).target_modules
    assert {name.rpartition(".")[2] for name in names} == (
        layers or {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
    )
    assert all(".1." in f".{name}." for name in names), "of two layers, the upper one"
