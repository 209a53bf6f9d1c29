"""Backbones: what is refused, the decoder layer, and the adapter switched off and on."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
import torch
from peft import get_peft_model
from runs import add_random_adapter, plain_embedder
from safetensors.torch import load_file
from tiny import SENTENCES, save_tiny, tiny_config, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, BertConfig, ByT5Tokenizer

from selfembed.errors import InputError
from selfembed.model.backbone import load_backbone, raw_backbone
from selfembed.model.lora import Lora, lora_config


@pytest.mark.parametrize(
    ("family", "tied"),
    [
        ("llama", True),
        ("llama", False),
        ("gpt_neox", False),
        ("gpt2", True),
        ("opt", True),
        ("qwen2", False),
        ("gemma2", True),
        ("cohere", True),
        ("granite", False),
        ("hyperclovax", False),
    ],
)
def test_head_gives_the_models_own_logits(family, tied, tmp_path):
    backbone = load_backbone(save_tiny(family, tmp_path, tied=tied))
    assert backbone.tied is tied
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(5, 600, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden_BTD = model.base_model(ids).last_hidden_state
        logits_BTV = model(ids).logits
        ours_BTV = backbone.head()(hidden_BTD)
    assert backbone.vocab_size == logits_BTV.shape[-1]
    assert logits_BTV.std() > 0.01
    torch.testing.assert_close(ours_BTV, logits_BTV, atol=1e-6, rtol=1e-5)
    assert not list(backbone.head().parameters()), "the decoder layer must be frozen"


def test_head_is_not_the_input_embedding_where_untied(tmp_path):
    backbone = load_backbone(save_tiny("llama", tmp_path, tied=False))
    embedding = backbone.load().get_input_embeddings().weight
    assert not torch.allclose(backbone.head().weight, embedding)


def test_head_keeps_a_bias(tmp_path):
    backbone = load_backbone(save_tiny("llama", tmp_path, tied=False))
    weights = backbone._head_weights()
    head = type(backbone.head())({**weights, "bias": torch.arange(640.0)})
    zero_1D = torch.zeros(1, 32)
    assert torch.equal(head(zero_1D)[0], torch.arange(640.0))


def test_raw_backbone_is_the_backbone_and_all_is_restored(tiny_backbone_dir):
    raw, _, _ = plain_embedder(tiny_backbone_dir)
    adapted, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(adapted)
    adapted.train()
    adapted[0].eval()  # a mixed state must come back too
    modes = {name: module.training for name, module in adapted.named_modules()}
    trained = {name: parameter.requires_grad for name, parameter in adapted.named_parameters()}
    assert True in modes.values() and False in modes.values() and True in trained.values()
    features = {key: value for key, value in raw.preprocess(SENTENCES[:4]).items() if torch.is_tensor(value)}
    with torch.no_grad():
        expected_BD = raw(dict(features))["sentence_embedding"]
        before_BD = adapted(dict(features))["sentence_embedding"]
    assert not torch.allclose(expected_BD, before_BD, atol=1e-2)
    with raw_backbone(adapted):
        assert not torch.is_grad_enabled() and not any(module.training for module in adapted.modules())
        assert torch.equal(adapted(dict(features))["sentence_embedding"], expected_BD)
    assert torch.is_grad_enabled()
    assert {name: module.training for name, module in adapted.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in adapted.named_parameters()} == trained
    with torch.no_grad():
        assert torch.equal(adapted(dict(features))["sentence_embedding"], before_BD)


def test_raw_backbone_restores_after_an_error(tiny_backbone_dir):
    adapted, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(adapted)
    expected = adapted.encode(SENTENCES[:2])
    adapted.train()
    with pytest.raises(RuntimeError, match="on purpose"), raw_backbone(adapted):
        raise RuntimeError("on purpose")
    assert all(module.training for module in adapted.modules())
    assert (adapted.encode(SENTENCES[:2]) == expected).all()


def test_lora_targets():
    assert lora_config(tiny_model("llama"), Lora()).target_modules == {"q_proj", "v_proj"}
    assert lora_config(tiny_model("gpt2"), Lora()).target_modules == {"c_attn"}
    assert lora_config(tiny_model("gpt_neox"), Lora()).target_modules == {"query_key_value"}
    with pytest.raises(InputError, match="LoRA targets nowhere.*q_proj"):
        lora_config(tiny_model("llama"), Lora(targets=("q_proj", "nowhere")))


def test_encoder_is_refused(tmp_path):
    BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32).save_pretrained(
        tmp_path
    )
    with pytest.raises(InputError, match="bert is not a decoder-only language model"):
        load_backbone(tmp_path)


def test_broken_folders(tmp_path):
    with pytest.raises(InputError, match="no config.json"):
        load_backbone(tmp_path)
    save_tiny("llama", tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="model.safetensors is damaged"):
        load_backbone(tmp_path)
    file.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no model.safetensors.*only pytorch_model.bin"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json cannot be read"):
        load_backbone(tmp_path)


def test_no_such_model(tmp_path):
    (tmp_path / "model.txt").write_text("x")
    for name in ("a b c", tmp_path / "none.gguf", tmp_path / "model.txt"):
        with pytest.raises(InputError, match="model "):
            load_backbone(name)


def test_fingerprint_is_of_the_content(tmp_path):
    first = load_backbone(save_tiny("llama", tmp_path / "a"))
    second = load_backbone(save_tiny("llama", tmp_path / "b"))
    third = load_backbone(save_tiny("llama", tmp_path / "c", seed=1))
    fourth = load_backbone(save_tiny("llama", tmp_path / "d", tokenizer=tiny_tokenizer("unigram")))
    assert first.fingerprint == second.fingerprint
    assert len({first.fingerprint, third.fingerprint, fourth.fingerprint}) == 3
    config = tmp_path / "b" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 0.5}))
    assert load_backbone(tmp_path / "b").fingerprint != first.fingerprint


def test_tokenizer_without_offsets_is_refused(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="ByT5Tokenizer gives no character offsets"):
        load_backbone(tmp_path)


def write_gguf(file, architecture: str, *, without: str = "nothing") -> None:
    """A tiny tied Llama as a GGUF file in float32, whatever it claims to be, without tensors of a name."""
    folder = save_tiny("llama", file.parent / "whole", tied=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    config = tiny_config("llama", tied=True)
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    words = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.startswith("model.layers."):
            _, _, number, part = name.removesuffix(".weight").split(".", 3)
            name = f"blk.{number}.{parts[part]}.weight"
        else:
            name = names[name]
        if without in name:
            continue
        array = tensor.numpy()
        if "attn_q." in name or "attn_k." in name:  # llama.cpp keeps the halves of a rotation side by side
            heads = config.num_attention_heads if "attn_q." in name else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    write_gguf(file, "llama")
    backbone = load_backbone(file)
    original = load_backbone(tmp_path / "whole")
    assert torch.equal(backbone.head().weight, original.head().weight)
    ids = torch.tensor([backbone.tokenizer(SENTENCES[0])["input_ids"]])
    assert ids.tolist() == [original.tokenizer(SENTENCES[0])["input_ids"]]
    with torch.no_grad():
        torch.testing.assert_close(backbone.load()(ids).logits, original.load()(ids).logits, atol=1e-5, rtol=1e-4)
    assert load_backbone(file).folder == backbone.folder
    embedder, _, _ = plain_embedder(file)
    assert np.isfinite(embedder.encode(SENTENCES[:2])).all()


def test_gguf_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "strange.gguf", "strangenet")
    with pytest.raises(InputError, match=r"cannot read this GGUF file .*strangenet.*expected"):
        load_backbone(tmp_path / "strange.gguf")
    write_gguf(tmp_path / "whole.gguf", "llama")
    (tmp_path / "torn.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:40_000])
    (tmp_path / "empty.gguf").write_bytes(b"")
    write_gguf(tmp_path / "part.gguf", "llama", without="blk.1.ffn")
    with pytest.raises(
        InputError, match=r"model.layers.1.mlp.down_proj.weight, .* \(4\) are missing in this GGUF file"
    ):
        load_backbone(tmp_path / "part.gguf")
    for name in ("torn", "empty"):
        with pytest.raises(InputError, match=f"{name}.gguf: transformers cannot read this GGUF file"):
            load_backbone(tmp_path / f"{name}.gguf")
    assert not list((tmp_path / "cache").rglob("*.*"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"r": 0}, "r 0: expected at least 1"),
        ({"alpha": 0.5}, "alpha 0.5: expected a whole number, at least 1"),
        ({"dropout": 1.0}, "dropout 1.0: expected a number from 0 to below 1"),
        ({"targets": "q_proj"}, "targets 'q_proj': expected a tuple"),
    ],
)
def test_numbers_of_an_adapter_that_cannot_be(given, message):
    with pytest.raises(InputError, match=message):
        Lora(**given)


@pytest.mark.parametrize(("share", "layers"), [(0.5, {1}), (0.4, {1}), (1.0, {0, 1})])
def test_adapters_on_the_top_layers_only(share, layers, tmp_path):
    model = load_backbone(save_tiny("llama", tmp_path)).load()
    adapted = get_peft_model(model, lora_config(model, Lora(top_layers=share)))
    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert {int(name.split("layers.")[1].split(".")[0]) for name in names} == layers
    with pytest.raises(InputError, match="top_layers 0: expected a number above 0 and at most 1"):
        Lora(top_layers=0)
