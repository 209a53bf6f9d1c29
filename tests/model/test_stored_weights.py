"""Weights on disk in another dtype: the same numbers, rounded once, and the same config."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model

from selfembed.model.checkpoint import weight_files
from selfembed.model.stored_weights import dtype_of_folder, store_weights, stored_dtype


def test_auto_halves_what_is_computed_in_float32_alone():
    model = tiny_model("llama")
    assert stored_dtype(model, "auto") == torch.float16
    assert stored_dtype(model, "float32") == torch.float32
    assert stored_dtype(model.to(torch.bfloat16), "auto") == torch.bfloat16


@pytest.mark.parametrize("shard_size", ["5GB", "50KB"])
def test_shards_and_their_index_are_rewritten(shard_size, tmp_path):
    model = tiny_model("llama")
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (len(weight_files(tmp_path)) > 2) is (shard_size == "50KB")
    config = (tmp_path / "config.json").read_text()
    before = sum(file.stat().st_size for file in weight_files(tmp_path) if file.suffix == ".safetensors")
    store_weights(tmp_path, torch.float16)
    after = sum(file.stat().st_size for file in weight_files(tmp_path) if file.suffix == ".safetensors")
    assert after < 0.6 * before and (tmp_path / "config.json").read_text() == config
    assert dtype_of_folder(tmp_path) == torch.float16 and not list(tmp_path.glob("*.part"))
    again = type(model).from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.half().float()), name
    if shard_size == "50KB":
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        tensors = [tensor for file in weight_files(tmp_path)[1:] for tensor in load_file(file).values()]
        assert index["metadata"]["total_size"] == sum(tensor.numel() * 2 for tensor in tensors)
