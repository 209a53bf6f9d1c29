"""Memory tokens: their vectors beside a frozen vocabulary, their hidden states, and what the decoder reads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from runs import add_random_adapter, plain_embedder
from sentence_transformers.sentence_transformer.modules import Transformer
from tiny import BOS_ID, EOS_ID, SENTENCES, VOCAB_SIZE, save_tiny, tiny_model, tiny_tokenizer
from torch import nn
from transformers import AutoModel

from selfembed.errors import InputError
from selfembed.model.memory_tokens import (
    MEMORY_PROMPT,
    NOISE,
    MemoryEmbedding,
    add_memory_tokens,
    decoder_inputs,
    initial_memory,
    memory_embedding,
    memory_states,
    write_memory,
)
from selfembed.model.modes import checkpointing_kwargs, decoder_states
from selfembed.model.pooling import MemoryPooling, select_memory

K = 4
FIRST = VOCAB_SIZE
ROWS_KD = torch.randn(K, 32, generator=torch.Generator().manual_seed(1))
MEMORY = {"pooling": "memory", "memory_tokens": K, "prompt": "{text}"}


def features_of(embedder, texts=SENTENCES[:3]):
    return {key: value for key, value in embedder.preprocess(texts).items() if torch.is_tensor(value)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_words_as_before_and_memory_scaled_like_words(family, dtype):
    original = tiny_model(family).get_input_embeddings().to(dtype)
    embedding = MemoryEmbedding(original, ROWS_KD, FIRST)
    ids = torch.tensor([[FIRST + 3, 5, 639, FIRST], [0, FIRST + 1, 2, 7]])
    words = ids < FIRST
    scale = 32**0.5 if family == "gemma3" else 1.0
    expected = ROWS_KD[ids[~words] - FIRST].to(dtype) * torch.tensor(scale).to(dtype)
    assert torch.equal(embedding(ids)[words], original(ids[words]))
    assert torch.equal(embedding(ids)[~words], expected)
    assert embedding.weight is original.weight and embedding.memory.dtype == torch.float32
    with pytest.raises(IndexError):
        embedding(torch.tensor([FIRST + K]))


def test_an_embedding_that_does_more_is_refused():
    class Shifted(nn.Embedding):
        def forward(self, ids):
            return super().forward(ids) + 1

    with pytest.raises(InputError, match="Shifted: does more than look up and scale"):
        MemoryEmbedding(Shifted(FIRST, 32), ROWS_KD, FIRST)


def test_a_tied_decoder_layer_stays_the_original():
    model = tiny_model("llama", tied=True)
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        expected = model(ids).logits
        add_memory_tokens(model, K, FIRST)
        assert torch.equal(model(ids).logits, expected)
        logits = model(torch.tensor([[5, FIRST, FIRST + K - 1]])).logits
    assert logits.shape[-1] == VOCAB_SIZE
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_initial_vectors():
    weight = torch.randn(500, 16, generator=torch.Generator().manual_seed(2)) * torch.arange(1, 17) + 3
    state = torch.get_rng_state()
    with_eos = SimpleNamespace(eos_token_id=7)
    mean, normal, eos = (
        initial_memory(weight, 3000, init=init, tokenizer=with_eos) for init in ("mean", "normal", "eos")
    )
    assert torch.equal(torch.get_rng_state(), state)
    middle, deviation = weight.mean(0), weight.std(0, correction=0)
    for rows, centre, factor in ((mean, middle, NOISE), (normal, middle, 1.0), (eos, weight[7], NOISE)):
        torch.testing.assert_close(rows.std(0), factor * deviation, rtol=0.1, atol=0)
        assert ((rows.mean(0) - centre).abs() < 5 * factor * deviation / 3000**0.5).all()
    assert torch.equal(initial_memory(weight, 3), initial_memory(weight, 3, seed=0))
    assert not torch.allclose(initial_memory(weight, 3), initial_memory(weight, 3, seed=1))
    in_bfloat16 = initial_memory(weight.bfloat16(), 3)
    assert in_bfloat16.dtype == torch.float32
    torch.testing.assert_close(in_bfloat16, initial_memory(weight, 3), atol=0.05, rtol=0)


def test_initial_vectors_come_from_rows_in_use():
    model = tiny_model("llama", vocab_size=VOCAB_SIZE + 60)
    with torch.no_grad():
        model.get_input_embeddings().weight[FIRST:] = 1e6
    assert add_memory_tokens(model, K, FIRST).memory.abs().max() < 10


def test_bad_initial_rules():
    with pytest.raises(InputError, match="memory_init 'zero'"):
        initial_memory(torch.zeros(5, 2), 1, init="zero")
    with pytest.raises(InputError, match="no end-of-sequence token"):
        initial_memory(torch.zeros(5, 2), 1, init="eos", tokenizer=SimpleNamespace(eos_token_id=None))
    with pytest.raises(InputError, match="no memory tokens"):
        memory_embedding(tiny_model("llama"))


def test_memory_that_starts_as_a_prompt_reads_as_one(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir, **MEMORY, memory_init="prompt")
    tokenizer, model = backbone.tokenizer, backbone.load()
    prompt = tokenizer(MEMORY_PROMPT, add_special_tokens=False)["input_ids"][-K:]
    for text, vector in zip(SENTENCES[:3], embedder.encode(SENTENCES[:3], convert_to_tensor=True), strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"] + prompt])
        with torch.no_grad():
            expected = model.base_model(ids).last_hidden_state[0, -K:].mean(0)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="cannot start 500 memory tokens"):
        initial_memory(torch.zeros(5, 2), 500, init="prompt", tokenizer=tokenizer)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter_first", [False, True])
def test_memory_learns_and_the_vocabulary_does_not(adapter_first, checkpointing, tiny_backbone_dir):
    if adapter_first:
        embedder, _, _ = plain_embedder(tiny_backbone_dir)
        add_random_adapter(embedder, dropout=0.0)
        add_memory_tokens(embedder.transformers_model, K, FIRST)
    else:
        embedder, _, _ = plain_embedder(tiny_backbone_dir, **MEMORY)
        add_random_adapter(embedder, dropout=0.0)
    embedding = memory_embedding(embedder)
    embedding.memory.requires_grad_(True)
    if checkpointing:
        embedder.transformers_model.gradient_checkpointing_enable(checkpointing_kwargs(embedder))
    before = embedding.weight.clone(), embedding.memory.detach().clone()
    trained = [parameter for parameter in embedder.parameters() if parameter.requires_grad]
    assert any(parameter is embedding.memory for parameter in trained)
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.5)
    embedder.train()
    ids = torch.tensor([[BOS_ID, 9, 10, *range(FIRST, FIRST + K)]])
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    hidden = embedder[0](features)["token_embeddings"]
    hidden[0, -1].square().sum().backward()
    assert (embedding.memory.grad.abs().sum(-1) > 0).all()
    assert embedding.weight.grad is None and not embedding.weight.requires_grad
    optimizer.step()
    assert torch.equal(embedding.weight, before[0])
    assert ((embedding.memory - before[1]).abs() > 0.01).any(-1).all()


def test_a_frozen_memory_stays_frozen(tiny_backbone_dir):
    embedder, _, _ = plain_embedder(tiny_backbone_dir, **MEMORY)
    add_random_adapter(embedder)
    assert not memory_embedding(embedder).memory.requires_grad


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("k", [1, K])
def test_states_are_those_at_the_end_of_every_text(k, side, tiny_backbone_dir):
    embedder, _, _ = plain_embedder(tiny_backbone_dir, **{**MEMORY, "memory_tokens": k})
    embedder.tokenizer.padding_side = side
    features = features_of(embedder)
    assert features["attention_mask"].min() == 0
    with torch.no_grad():
        output = embedder(features)
    states = memory_states(embedder, output)
    for row, hidden, mask in zip(states, output["token_embeddings"], features["attention_mask"], strict=True):
        assert torch.equal(row, hidden[mask.bool()][-k:])
    torch.testing.assert_close(output["sentence_embedding"], states.mean(1))


def test_pooling_reads_flattened_batches_and_misses_nothing():
    pooling = MemoryPooling(8, FIRST, 2)
    hidden = torch.randn(1, 9, 8)
    ids = torch.tensor([[5, 6, FIRST, FIRST + 1, 7, 8, 9, FIRST, FIRST + 1]])
    flat = {"input_ids": ids, "token_embeddings": hidden, "cu_seq_lens_q": torch.tensor([0, 4, 9])}
    expected = torch.stack([hidden[0, 2:4].mean(0), hidden[0, 7:9].mean(0)])
    torch.testing.assert_close(pooling(dict(flat))["sentence_embedding"], expected)
    with pytest.raises(ValueError, match=r"found \[4\] memory tokens per row, expected 2"):
        pooling({"input_ids": ids, "token_embeddings": hidden})
    with pytest.raises(ValueError, match=r"found \[2, 1\] memory"):
        rows = torch.tensor([[5, FIRST, FIRST + 1], [5, 6, FIRST]])
        select_memory({"input_ids": rows, "token_embeddings": torch.zeros(2, 3, 8)}, FIRST, 2)
    with pytest.raises(ValueError, match="give input_ids"):
        pooling({"token_embeddings": hidden})
    half = {"input_ids": ids, "token_embeddings": hidden.bfloat16(), "cu_seq_lens_q": flat["cu_seq_lens_q"]}
    assert pooling(half)["sentence_embedding"].dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_decoder_reads_memory_where_words_would_stand(family, tmp_path):
    """Memory that equals three words' embeddings must decode as those words do: positions and order are right."""
    save_tiny(family, tmp_path, tokenizer=tiny_tokenizer(with_bos=True))
    embedder, backbone, _ = plain_embedder(tmp_path, **MEMORY)
    words, continuation = torch.tensor([[20, 21, 22], [30, 31, 32]]), torch.tensor([[40, 41], [50, 51]])
    states = backbone.load().get_input_embeddings()(words).detach().requires_grad_()
    inputs = decoder_inputs(embedder, states, continuation, bos_id=BOS_ID)
    hidden = decoder_states(embedder, inputs_embeds=inputs, attention_mask=torch.ones(2, 6).long())
    whole = torch.cat([torch.full((2, 1), BOS_ID), words, continuation], 1)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tmp_path)(whole).last_hidden_state
    torch.testing.assert_close(hidden, expected, atol=1e-6, rtol=1e-5)
    # the prediction of the continuation's first token, at position K, sees the memory and not the continuation
    gradient = torch.autograd.grad(hidden[:, 3].square().sum(), [states, inputs], retain_graph=True)
    assert (gradient[0].abs().sum(-1) > 0).all() and (gradient[1][:, 4:] == 0).all()


def test_decoder_needs_bos_and_matching_widths(tiny_backbone_dir):
    embedder, _, _ = plain_embedder(tiny_backbone_dir, **MEMORY)
    ids = torch.tensor([[5, 6]])
    with pytest.raises(InputError, match="no beginning-of-sequence token"):
        decoder_inputs(embedder, torch.zeros(1, K, 32), ids, bos_id=None)
    with pytest.raises(InputError, match="width 48: cannot be read as input embeddings of width 32"):
        decoder_inputs(embedder, torch.zeros(1, K, 48), ids, bos_id=BOS_ID)


@pytest.mark.parametrize(("rows", "grown"), [(640, 644), (642, 644), (700, 700), (630, 644)])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_written_rows(family, rows, grown):
    model = tiny_model(family, vocab_size=rows).base_model
    plain = tiny_model(family, vocab_size=rows).base_model
    embedding = add_memory_tokens(model, K, FIRST, seed=3)
    before = plain.get_input_embeddings().weight.detach().clone()
    write_memory(plain, embedding)
    weight = plain.get_input_embeddings().weight
    assert len(weight) == grown == plain.config.vocab_size
    assert torch.equal(weight[FIRST : FIRST + K], embedding.memory)
    assert torch.equal(weight[: min(rows, FIRST)], before[:FIRST])
    assert torch.equal(weight[FIRST + K :], before[FIRST + K :])
    ids = torch.tensor([[5, *range(FIRST, FIRST + K)]])
    with torch.no_grad():
        assert torch.equal(plain(ids).last_hidden_state, model(ids).last_hidden_state)


def test_a_broken_save_cannot_pass_for_an_embedder(tiny_backbone_dir, tmp_path):
    """Saved without export, the words' rows are right and a memory id is out of range: loud, not wrong."""
    embedder, _, _ = plain_embedder(tiny_backbone_dir, **MEMORY)
    embedder.save(str(tmp_path), create_model_card=False)
    loaded = Transformer(str(tmp_path))
    assert torch.equal(loaded.model.get_input_embeddings().weight, memory_embedding(embedder).weight)
    with pytest.raises(IndexError):
        loaded({"input_ids": torch.tensor([[EOS_ID, FIRST]]), "attention_mask": torch.ones(1, 2)})
