"""Checkpoints that lack something or hold something else are refused in one line, by training and doctor alike."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from runs import add_random_adapter, plain_embedder, run_record, short_train
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, save_tiny, tiny_model, tiny_tokenizer

from selfembed.doctor import examine
from selfembed.errors import InputError
from selfembed.model.backbone import load_backbone
from selfembed.recipes import find_recipe, override
from selfembed.terminal.main import main
from selfembed.training.export import export_embedder

Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def plain(folder: Path, change: Change = dict, **settings) -> None:
    """An untied Llama of which some weights or settings are changed."""
    save_tiny("llama", folder, tied=False)
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    set_config(folder, **settings)


def set_config(folder: Path, **settings) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def without(part: str) -> Change:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def spoilt(name: str, value: float, dtype: torch.dtype = torch.float32) -> Change:
    def change(tensors):
        tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        tensors[name].view(-1)[-1] = value
        return tensors

    return change


def sharded(folder: Path) -> None:
    tiny_model("llama", tied=False).save_pretrained(folder, max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2


def lost_shard(folder: Path) -> None:
    sharded(folder)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def torn_shard(folder: Path) -> None:
    sharded(folder)
    file = sorted(folder.glob("model-*.safetensors"))[1]
    file.write_bytes(file.read_bytes()[:1000])


def bad_index(text: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        sharded(folder)
        (folder / "model.safetensors.index.json").write_text(text)

    return build


def adapter(folder: Path, *, whole: bool = False) -> None:
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.peft_config["default"].base_model_name_or_path = "someone/base"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    tiny_model("llama").config.save_pretrained(folder)
    if whole:
        tiny_model("llama").save_pretrained(folder)


def adapter_alone(folder: Path) -> None:
    adapter(folder)
    (folder / "config.json").unlink()


def gguf_beside_nothing(folder: Path) -> None:
    folder.mkdir()
    (folder / "model-q8.gguf").write_bytes(b"GGUF")


def pointer(folder: Path) -> None:
    plain(folder)
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    (folder / "model.safetensors").write_text(text)


def own_code(folder: Path) -> None:
    plain(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})


def larger_tokenizer(folder: Path, tokens: list[str] | None = None, *, padding: str | None = None) -> None:
    """A tokenizer with more tokens than the model has embeddings: those it was trained with, or added ones."""
    save_tiny("llama", folder, tied=False, **({} if tokens or padding else {"vocab_size": 300}))
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(tokens or [])
    if padding:
        tokenizer.add_special_tokens({"pad_token": padding})
    tokenizer.save_pretrained(folder)


def whole_numbers(tensors):
    return {name: t.to(torch.int8) if name.endswith("up_proj.weight") else t for name, t in tensors.items()}


def float8(tensors):
    return {name: t.to(torch.float8_e4m3fn) if "proj" in name else t for name, t in tensors.items()}


def with_bias(tensors):
    return {**tensors, "model.layers.0.self_attn.q_proj.bias": torch.ones(32)}


NORM = "model.layers.1.input_layernorm.weight"
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no head": (lambda f: plain(f, without("lm_head")), r"lm_head.weight is missing in its weights"),
    "no layer": (lambda f: plain(f, without(".layers.1.")), r"model.layers.1.input_layernorm.weight, .* \(9\) are"),
    "no embedding": (lambda f: plain(f, without("embed_tokens")), r"model.embed_tokens.weight is missing"),
    "tied, neither there": (
        lambda f: plain(f, lambda t: without("lm_head")(without("embed_tokens")(t)), tie_word_embeddings=True),
        r"model.embed_tokens.weight(, lm_head.weight)?",
    ),
    "one layer more by config": (lambda f: plain(f, num_hidden_layers=3), r"model.layers.2.* \(9\) are missing"),
    "one layer less by config": (lambda f: plain(f, num_hidden_layers=1), r"layers.1.* \(9\) are in its weights, but"),
    "biases left out": (lambda f: plain(f, with_bias), r"layers.0.self_attn.q_proj.bias is in its weights, but not"),
    "other shapes": (lambda f: plain(f, intermediate_size=48), r"down_proj.weight is \[32, 64\] .* \[32, 48\]"),
    "no shard": (lost_shard, r"model-00002-of-\d+.safetensors is missing, which model.safetensors.index.json names"),
    "torn shard": (torn_shard, r"model-00002-of-\d+.safetensors is damaged"),
    "no index": (bad_index("{"), r"index.json: expected a weight_map"),
    "empty index": (bad_index('{"weight_map": {}}'), r"index.json: expected a weight_map"),
    "index out of the folder": (bad_index('{"weight_map": {"a": "../a.safetensors"}}'), r"expected a weight_map"),
    "adapter": (adapter, r"an adapter of someone/base, not a model; .*; merge it into that one"),
    "adapter beside a model": (lambda f: adapter(f, whole=True), r"an adapter of someone/base"),
    "adapter alone": (adapter_alone, r"an adapter of someone/base, not a model; .*; merge it into that one"),
    "folder of a GGUF file": (gguf_beside_nothing, r"no config.json .*; give the file itself, .*/model-q8.gguf"),
    "pointer": (pointer, r"model.safetensors is a Git LFS pointer; expected the weights themselves; run git lfs pull"),
    "own code": (own_code, r"config.json cannot be read .*use `trust_remote_code=True`"),
    "tokenizer of a larger model": (larger_tokenizer, r"has the token .* of number 300, and .* only 300"),
    "added token": (lambda f: larger_tokenizer(f, ["colour"]), r"the token 'colour' of number 640, and .* only 640"),
    "added padding": (lambda f: larger_tokenizer(f, padding="<pad>"), r"the token '<pad>' of number 640, and"),
    "whole numbers": (lambda f: plain(f, whole_numbers), r"up_proj.weight is int8, which is quantized"),
    "infinity": (lambda f: plain(f, spoilt(NORM, torch.inf)), rf"{NORM} holds infinity or NaN"),
    "minus infinity, bfloat16": (lambda f: plain(f, spoilt(NORM, -torch.inf, torch.bfloat16)), rf"{NORM} holds inf"),
    "NaN, float16": (lambda f: plain(f, spoilt("lm_head.weight", torch.nan, torch.float16)), r"lm_head.weight holds"),
    "float8": (lambda f: plain(f, float8), r"proj.weight is float8_e4m3fn, which is quantized"),
    **{
        method: (lambda f, m=method: plain(f, quantization_config={"quant_method": m}), rf"are quantized \({method}\)")
        for method in ("gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8", "mxfp4", "not_yet_known")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_checkpoints_are_refused_in_one_line(case, tmp_path):
    build, message = BROKEN[case]
    build(tmp_path / "raw")
    texts = []
    for use in (lambda raw: short_train(raw, tmp_path / "out"), examine):
        with pytest.raises(InputError, match=message) as caught:
            use(tmp_path / "raw")
        texts.append(str(caught.value))
    assert texts[0] == texts[1] and "\n" not in texts[0]
    assert [path.name for path in tmp_path.iterdir()] == ["raw"], "nothing is begun"


def test_the_commands_say_one_line(tmp_path, capfd):
    plain(tmp_path / "raw", without("lm_head"))
    corpus = tmp_path / "texts.txt"
    corpus.write_text("\n\n".join(SENTENCES))
    train = ["train", "--model", str(tmp_path / "raw"), "--corpus", str(corpus), "--out", str(tmp_path / "out")]
    for command in (train, ["doctor", "--model", str(tmp_path / "raw")]):
        assert main(command) == 2
        errors = capfd.readouterr().err
        lines = [line for line in errors.splitlines() if line.strip()]
        assert lines and "lm_head.weight is missing" in lines[-1] and "Traceback" not in errors, errors
        assert not [line for line in lines[:-1] if "missing" in line.lower()], errors


def harmless(tensors):
    """What checkpoints hold besides the model: buffers of old versions, heads and towers of others."""
    return {
        **tensors,
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.layers.0.self_attn.masked_bias": torch.tensor(-torch.inf),
        "score.weight": torch.ones(2, 32),
        "vision.layers.0.weight": torch.full((2, 2), torch.nan),
    }


def test_what_else_a_checkpoint_holds_does_no_harm(tmp_path):
    plain(tmp_path / "raw", harmless)
    plain(tmp_path / "same")
    assert torch.equal(load_backbone(tmp_path / "raw").head().weight, load_backbone(tmp_path / "same").head().weight)


def test_only_what_the_index_names_is_read(tmp_path):
    sharded(tmp_path)
    other = {
        name: tensor.contiguous() for name, tensor in tiny_model("llama", tied=False, seed=7).state_dict().items()
    }
    fingerprint = load_backbone(tmp_path).fingerprint
    save_file(other, tmp_path / "old-checkpoint.safetensors", {"format": "pt"})
    save_file(other, tmp_path / "zz.safetensors", {"format": "pt"})
    backbone = load_backbone(tmp_path)
    expected = tiny_model("llama", tied=False)
    assert torch.equal(backbone.head().weight, expected.lm_head.weight)
    assert backbone.fingerprint == fingerprint
    assert not {"zz.safetensors", "old-checkpoint.safetensors"} & {file.name for file in backbone.weight_files}
    assert examine(tmp_path).usable


def test_one_file_goes_before_an_index(tmp_path):
    """As in transformers."""
    sharded(tmp_path)
    tiny_model("llama", tied=False, seed=7).save_pretrained(tmp_path / "one")
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "model.safetensors")
    backbone = load_backbone(tmp_path)
    assert torch.equal(backbone.head().weight, backbone.load().get_output_embeddings().weight)
    assert torch.equal(backbone.head().weight, tiny_model("llama", tied=False, seed=7).lm_head.weight)


@pytest.mark.parametrize("same", [True, False])
def test_tied_by_config_with_a_decoder_layer_in_the_weights(same, tmp_path):
    """Transformers ties them only where they are the same."""
    source = "model.embed_tokens.weight"
    plain(tmp_path, (lambda t: {**t, "lm_head.weight": t[source].clone()}) if same else dict, tie_word_embeddings=True)
    backbone = load_backbone(tmp_path)
    assert backbone.tied is same
    model = backbone.load()
    assert torch.equal(backbone.head().weight, model.get_output_embeddings().weight)
    assert torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight) is same
    assert examine(tmp_path).usable


def test_tied_with_the_decoder_layer_alone(tmp_path):
    plain(tmp_path, without("embed_tokens"), tie_word_embeddings=True)
    backbone = load_backbone(tmp_path)
    assert torch.equal(backbone.head().weight, load_file(tmp_path / "model.safetensors")["lm_head.weight"])


def test_the_layer_nearest_to_the_root_is_the_decoder_layer(tmp_path):
    """Heads of layers that predict further tokens stand deeper."""
    plain(tmp_path, lambda t: {**t, "extra.layers.9.lm_head.weight": torch.zeros(640, 32)})
    assert load_backbone(tmp_path).head().weight.std() > 0.01


def test_a_finished_embedder_brings_its_decoder_layer(tmp_path):
    plain(tmp_path / "raw")
    embedder, backbone, config = plain_embedder(tmp_path / "raw")
    add_random_adapter(embedder)
    embedder.eval()
    record = run_record(model="tiny", corpus="sentences")
    recipe = dataclasses.replace(override(find_recipe("text2token"), {"embed_length": 64}), embedder=config)
    export_embedder(embedder, backbone, recipe, record, tmp_path / "out", saved_dtype="float32")
    again = load_backbone(tmp_path / "out")
    for layer in (again.head(), again.load().get_output_embeddings()):
        assert torch.equal(layer.weight, backbone.head().weight)
    (tmp_path / "out" / "lm_head.safetensors").unlink()
    with pytest.raises(InputError, match="lm_head.weight is missing"):
        load_backbone(tmp_path / "out")


def test_a_file_that_changes_is_looked_at_again(tmp_path):
    plain(tmp_path)
    load_backbone(tmp_path)
    plain(tmp_path, without("lm_head"))
    with pytest.raises(InputError, match="lm_head.weight is missing"):
        load_backbone(tmp_path)
