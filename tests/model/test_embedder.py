"""The untrained embedder: its vectors are the backbone's own, whatever stands beside a text in a batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from runs import PROMPT, add_random_adapter, plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny, tiny_tokenizer
from transformers import AutoModel

from selfembed.errors import InputError
from selfembed.model.backbone import load_backbone
from selfembed.model.embedder import EmbedderConfig, assemble_folder, build_embedder
from selfembed.model.memory_tokens import memory_embedding
from selfembed.model.prompt import NO_PROMPT, PROMPT_EOL, prompt_ids

TEXTS = ["Fox.", *SENTENCES[:5], " ".join(SENTENCES[:20])]


def by_hand(folder, text: str, template: str, pooling: str, max_length: int) -> np.ndarray:
    """One text, no padding, the ids put together without the prompted tokenizer."""
    backbone = load_backbone(folder)
    ids = prompt_ids(backbone.tokenizer, template)
    own = backbone.tokenizer(text, add_special_tokens=False)["input_ids"][: max_length - len(ids)]
    with torch.no_grad():
        hidden_TD = AutoModel.from_pretrained(folder)(torch.tensor([[*ids.before, *own, *ids.after]]))[0][0]
    if pooling == "weightedmean":
        weight_T1 = torch.arange(1.0, len(hidden_TD) + 1)[:, None]
        return ((hidden_TD * weight_T1).sum(0) / weight_T1.sum()).numpy()
    return (hidden_TD[-1] if pooling == "last" else hidden_TD.mean(0)).numpy()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("pooling", ["last", "mean", "weightedmean"])
def test_vectors_equal_a_forward_pass_by_hand(family, pooling, tmp_path):
    save_tiny(family, tmp_path, tokenizer=tiny_tokenizer(with_bos=True))
    embedder, _, config = plain_embedder(tmp_path, pooling=pooling)
    vectors = embedder.encode(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, by_hand(tmp_path, text, PROMPT, pooling, 64), atol=1e-5)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("pooling", ["last", "mean", "weightedmean"])
def test_vectors_do_not_depend_on_the_batch(pooling, attention, tiny_backbone_dir):
    embedder, _, _ = plain_embedder(tiny_backbone_dir, pooling=pooling, attention=attention)
    add_random_adapter(embedder)
    embedder.eval()
    alone = embedder.encode(TEXTS, batch_size=1)
    assert np.linalg.norm(alone[1] - alone[2]) > 0.1
    for size in (2, 3, len(TEXTS)):
        np.testing.assert_allclose(embedder.encode(TEXTS, batch_size=size), alone, atol=1e-5)
    embedder.tokenizer.padding_side = "left"
    np.testing.assert_allclose(embedder.encode(TEXTS, batch_size=len(TEXTS)), alone, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("k", [1, 4])
def test_memory_vectors_do_not_depend_on_the_batch(k, attention, side, tiny_backbone_dir):
    embedder, _, _ = plain_embedder(tiny_backbone_dir, pooling="memory", memory_tokens=k, attention=attention)
    add_random_adapter(embedder)
    embedder.eval()
    alone = embedder.encode(TEXTS, batch_size=1)
    assert np.linalg.norm(alone[1] - alone[2]) > 0.1
    embedder.tokenizer.padding_side = side
    for size in (2, len(TEXTS)):
        np.testing.assert_allclose(embedder.encode(TEXTS, batch_size=size), alone, atol=1e-5)


@pytest.mark.parametrize("rows", [640, 700])  # as many as the tokenizer has tokens, and more
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "opt"])
def test_memory_vectors_equal_a_forward_pass_by_hand(family, rows, tmp_path):
    save_tiny(family, tmp_path, tokenizer=tiny_tokenizer(with_bos=True), vocab_size=rows)
    embedder, backbone, _ = plain_embedder(tmp_path, pooling="memory", memory_tokens=4, prompt=None)
    model = AutoModel.from_pretrained(tmp_path)
    memory = memory_embedding(embedder).memory
    for text, vector in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        ids = backbone.tokenizer(text)["input_ids"][:60]
        words = model.get_input_embeddings()(torch.tensor([ids]))
        scale = 32**0.5 if family == "gemma3" else 1
        with torch.no_grad():
            hidden = model(inputs_embeds=torch.cat([words, scale * memory[None]], 1))[0][0]
        np.testing.assert_allclose(vector, hidden[-4:].mean(0).numpy(), atol=1e-5)


def test_memory_start_is_seeded(tiny_backbone_dir):
    backbone = load_backbone(tiny_backbone_dir)
    config = EmbedderConfig(pooling="memory", memory_tokens=2)
    first, again, other = (
        memory_embedding(build_embedder(backbone, config, device="cpu", seed=seed)).memory for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.allclose(first, other)
    from_eos = EmbedderConfig(pooling="memory", memory_tokens=2, memory_init="eos")
    rows = memory_embedding(build_embedder(backbone, from_eos, device="cpu")).memory
    eos = backbone.load().get_input_embeddings().weight[backbone.tokenizer.eos_token_id]
    assert (rows - eos).norm() < 0.5 * (first - eos).norm()


def test_folders_in_the_cache(tiny_backbone_dir):
    backbone = load_backbone(tiny_backbone_dir)
    plain = EmbedderConfig(prompt=NO_PROMPT)
    folder = assemble_folder(backbone, plain)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["split_special_tokens"] is True
    names = {assemble_folder(backbone, EmbedderConfig(pooling="memory", memory_tokens=k)).name for k in (1, 2)}
    assert len(names | {folder.name}) == 3


def test_attention_mode_matters(tiny_backbone_dir):
    causal, _, _ = plain_embedder(tiny_backbone_dir)
    both, _, _ = plain_embedder(tiny_backbone_dir, attention="bidirectional")
    assert np.abs(causal.encode(TEXTS) - both.encode(TEXTS)).max() > 0.05


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_saved_folder_comes_back_with_stock_classes(attention, tmp_path):
    tokenizer = tiny_tokenizer(with_bos=True, chat_template=True, add_bos_token=True)
    embedder, _, _ = plain_embedder(save_tiny("llama", tmp_path / "raw", tokenizer=tokenizer), attention=attention)
    embedder.save(str(tmp_path / "saved"), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), embedder.encode(TEXTS), atol=1e-6)


def test_no_dropout_but_the_adapters(tmp_path):
    embedder, _, _ = plain_embedder(save_tiny("gpt2", tmp_path, attn_pdrop=0.5, embd_pdrop=0.5, resid_pdrop=0.5))
    expected = embedder.encode(TEXTS[:2], convert_to_tensor=True)
    features = {key: value for key, value in embedder.preprocess(TEXTS[:2]).items() if torch.is_tensor(value)}
    embedder.train()
    with torch.no_grad():
        torch.testing.assert_close(embedder(features)["sentence_embedding"], expected, atol=1e-6, rtol=0)


def test_prompt_defaults():
    assert EmbedderConfig().template == PROMPT_EOL
    assert EmbedderConfig(pooling="mean").template == NO_PROMPT
    assert EmbedderConfig(pooling="mean", prompt="q: {text}").template == "q: {text}"


def test_bad_options(tiny_backbone_dir):
    with pytest.raises(InputError, match="pooling 'cls'"):
        EmbedderConfig(pooling="cls")
    with pytest.raises(InputError, match="attention 'both'"):
        EmbedderConfig(attention="both")
    for k in (0, -1):
        with pytest.raises(InputError, match=f"memory_tokens {k}: expected at least 1 for pooling 'memory'"):
            EmbedderConfig(pooling="memory", memory_tokens=k)
    for k in (8, -1):
        with pytest.raises(InputError, match=f"memory_tokens {k}: expected 0 for pooling 'mean', which reads none"):
            EmbedderConfig(pooling="mean", memory_tokens=k)
    with pytest.raises(InputError, match="memory_init 'zero'"):
        EmbedderConfig(pooling="memory", memory_tokens=8, memory_init="zero")
    backbone = load_backbone(tiny_backbone_dir)
    with pytest.raises(InputError, match="the prompt alone takes"):
        build_embedder(backbone, EmbedderConfig(), max_length=4, device="cpu")
    with pytest.raises(InputError, match="the prompt alone takes 8 tokens"):
        build_embedder(backbone, EmbedderConfig(pooling="memory", memory_tokens=8), max_length=8, device="cpu")
    with pytest.raises(InputError, match="exactly once"):
        build_embedder(backbone, EmbedderConfig(prompt="no slot"), device="cpu")


def test_backbone_that_cannot_be_bidirectional_is_refused(tmp_path):
    with pytest.raises(InputError):
        plain_embedder(save_tiny("gpt_neo", tmp_path), attention="bidirectional")


def test_length_is_cut_to_the_backbones_positions(tmp_path):
    embedder, _, _ = plain_embedder(save_tiny("llama", tmp_path, max_position_embeddings=40), max_length=512)
    assert embedder.max_seq_length == 40
    assert np.isfinite(embedder.encode([" ".join(SENTENCES)])).all()


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_vectors_hardly_depend_on_the_dtype(pooling, tiny_backbone_dir):
    backbone = load_backbone(tiny_backbone_dir)
    config = EmbedderConfig(prompt=PROMPT, pooling=pooling)
    vectors = [
        build_embedder(backbone, config, dtype=dtype, device="cpu").encode(TEXTS, convert_to_tensor=True).float()
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert not torch.equal(*vectors)
    assert torch.cosine_similarity(*vectors).min() > 0.999
