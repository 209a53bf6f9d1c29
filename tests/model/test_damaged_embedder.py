"""Finished embedders with missing, torn or spoilt weights are refused in one line instead of giving wrong vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import plain_embedder
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from tiny import SENTENCES, save_tiny, tiny_tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from selfembed import InputError, load_embedder
from selfembed.calibration.affine_map import AffineMap, add_map

Tensors = dict[str, torch.Tensor]
NORM = "layers.1.input_layernorm.weight"


@pytest.fixture(scope="module")
def whole(tiny_backbone_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedder with an affine map behind its pooling."""
    folder = tmp_path_factory.mktemp("whole")
    embedder, _, _ = plain_embedder(tiny_backbone_dir)
    width = embedder.get_embedding_dimension()
    add_map(embedder, AffineMap("turned", np.eye(width, dtype=np.float32)[::-1], np.ones(width, np.float32))).save(
        str(folder), create_model_card=False
    )
    return folder


def weights(change: Callable[[Tensors], object], place: str = "") -> Callable[[Path], None]:
    """Changes the tensors of a module in place."""

    def damage(folder: Path) -> None:
        file = folder / place / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, {"format": "pt"})

    return damage


def cut(place: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / place / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-50])

    return damage


def spoilt(key: str, value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[key].view(-1)[-1:].fill_(value)


def no_layer(tensors: Tensors) -> None:
    for key in [key for key in tensors if ".1." in key]:
        del tensors[key]


def set_layers(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_hidden_layers": 1}))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "one missing": (weights(lambda t: t.pop(NORM)), rf"{NORM} is missing in its weights"),
    "a layer missing": (weights(no_layer), r"layers.1.* \(9\) are missing in its weights"),
    "another shape": (weights(lambda t: t.update({NORM: torch.ones(31)})), rf"{NORM} is \[31\] in .*, \[32\] by"),
    "a layer left out": (set_layers, r"layers.1.* \(9\) are in its weights, but not in the model"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"no model.safetensors in it; expected"),
    "cut": (cut(""), "model.safetensors is damaged"),
    "NaN": (weights(spoilt(NORM, torch.nan)), rf"{NORM} holds infinity or NaN; expected numbers"),
    "infinity": (weights(spoilt(NORM, -torch.inf)), rf"{NORM} holds infinity or NaN"),
    "map missing": (lambda folder: (folder / "2_Dense" / "model.safetensors").unlink(), r"2_Dense: no model.safetens"),
    "length missing": (lambda folder: (folder / "3_LayerNorm" / "model.safetensors").unlink(), r"3_LayerNorm: no "),
    "map cut": (cut("2_Dense"), "2_Dense: model.safetensors is damaged"),
    "map without bias": (weights(lambda t: t.pop("linear.bias"), "2_Dense"), r'Missing key.*"linear.bias"'),
    "map of another shape": (weights(lambda t: t.update({"linear.bias": torch.ones(5)}), "2_Dense"), r"linear.bias"),
    "map of NaN": (weights(spoilt("linear.weight", torch.nan), "2_Dense"), r"linear.weight holds infinity or NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_said_in_one_line(case: str, whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "embedder")
    damage, message = DAMAGES[case]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_embedder(folder, device="cpu")
    assert str(caught.value).startswith(f"embedder {folder}") and "\n" not in str(caught.value)


def test_a_whole_one_is_loaded_and_read_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[torch.device] = []
    plain = torch.Tensor.aminmax
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda self: (read.append(self.device), plain(self))[1])
    embedder = load_embedder(whole, device="cpu")
    assert len(read) == len(list(embedder.parameters())), "every weight is looked at once, in memory"
    assert np.isfinite(embedder.encode(SENTENCES[:2])).all()


def test_a_lost_shard(tmp_path: Path) -> None:
    embedder, _, _ = plain_embedder(save_tiny("llama", tmp_path / "raw", tied=False))
    embedder.save(str(tmp_path / "sharded"), create_model_card=False)
    transformer = embedder.transformers_model
    (tmp_path / "sharded" / "model.safetensors").unlink()
    transformer.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    load_embedder(tmp_path / "sharded", device="cpu")
    sorted((tmp_path / "sharded").glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(InputError, match=r"model-00002-of-\d+.safetensors is missing, which model.safetensors.index"):
        load_embedder(tmp_path / "sharded", device="cpu")


def test_encoders_of_others_need_no_pooler(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "bert"
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=640, **settings), add_pooling_layer=False).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    transformer = Transformer(str(folder))
    modules = [transformer, Pooling(32, pooling_mode="mean"), Dense(32, 8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "whole"), create_model_card=False)
    weights(lambda t: [t.pop(key) for key in list(t) if "pooler" in key])(tmp_path / "whole")
    assert load_embedder(tmp_path / "whole", device="cpu").encode(SENTENCES[:2]).shape == (2, 8)
    weights(lambda t: t.pop("encoder.layer.1.output.dense.bias"))(tmp_path / "whole")
    with pytest.raises(InputError, match="encoder.layer.1.output.dense.bias is missing"):
        load_embedder(tmp_path / "whole", device="cpu")
