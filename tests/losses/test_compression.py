"""Compression into memory tokens: against two more copies of the model, one text at a time and logits written out."""

from __future__ import annotations

import pytest
import torch
from runs import add_random_adapter, assert_gradient_close, plain_embedder
from tiny import BOS_ID, SENTENCES, save_tiny
from transformers import AutoModelForCausalLM

from selfembed.errors import InputError
from selfembed.losses.compression import CompressionLoss
from selfembed.model.memory_tokens import memory_embedding
from selfembed.model.modes import checkpointing_kwargs
from selfembed.objectives.compression import Compression

K = 3
BOUNDS = {"min_context": 2, "min_continuation": 2}
MEMORY = {"pooling": "memory", "memory_tokens": K, "prompt": "{text}"}
TEXTS = [*SENTENCES[:3], SENTENCES[3] + " " + SENTENCES[4]]
LABELS = torch.tensor([4, 0, 17, 2])


@pytest.fixture(scope="module", params=["llama", "gpt2", "granite"])
def folder(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp("backbone"))


def memory_embedder(folder, **config):
    embedder, backbone, _ = plain_embedder(folder, **{"attention": "bidirectional", **MEMORY, **config})
    add_random_adapter(embedder, dropout=0.0)
    memory_embedding(embedder).memory.requires_grad_(True)
    return embedder, backbone


def features_of(embedder, texts=TEXTS):
    return {key: value for key, value in embedder.preprocess(texts).items() if torch.is_tensor(value)}


def naive_loss(folder, embedder, loss):
    """Position by position from the paper: decoder and teacher are models of their own."""
    decoder = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    rows = decoder.get_input_embeddings().weight
    first = memory_embedding(embedder).first_id
    losses = []
    for text, row in zip(TEXTS, LABELS.tolist(), strict=True):
        ids = embedder.tokenizer(text)["input_ids"]
        assert ids[-K:] == list(range(first, first + K))
        ids = ids[:-K]
        site = loss.options.split(len(ids), seed=loss.seed, row=row)
        context, rest = ids[:site], ids[site:]
        encoded = torch.tensor([context + list(range(first, first + K))])
        hidden = embedder({"input_ids": encoded, "attention_mask": torch.ones_like(encoded)})["token_embeddings"][0]
        memory = hidden[len(context) :]
        if loss.options.word_length:
            memory = memory * rows[:first].norm(dim=1).mean() / memory.norm(dim=1, keepdim=True)
        if loss.options.task == "reconstruction":
            rest = [i for i in context if i != BOS_ID]
        inputs = torch.cat([rows[[BOS_ID]], memory, rows[rest]])
        log_q = decoder(inputs_embeds=inputs[None]).logits[0].log_softmax(-1)
        if loss.options.task == "distillation":
            log_p = decoder(torch.tensor([ids])).logits[0].log_softmax(-1)
            # expected after context[-1], rest[0], ..., rest[-1]; read after memory[-1], rest[0], ..., rest[-1]
            pairs = [(log_p[site - 1 + i], log_q[K + i]) for i in range(len(rest) + 1)]
            losses.append(torch.stack([(p.exp() * (p - q)).sum() for p, q in pairs]).mean())
        else:
            losses.append(torch.stack([-log_q[K + i, token] for i, token in enumerate(rest)]).mean())
    return torch.stack(losses).mean()


def gradients(embedder, value):
    trained = {name: p for name, p in embedder.named_parameters() if p.requires_grad}
    return dict(zip(trained, torch.autograd.grad(value, list(trained.values())), strict=True))


@pytest.mark.parametrize("word_length", [False, True])
@pytest.mark.parametrize("task", ["distillation", "continuation", "reconstruction"])
def test_equals_a_naive_implementation(folder, task, word_length):
    embedder, backbone = memory_embedder(folder)
    options = Compression(task=task, word_length=word_length, **BOUNDS)
    loss = CompressionLoss(embedder, backbone.head(), options, bos_id=BOS_ID, seed=3)
    value = loss([features_of(embedder)], LABELS)
    expected = naive_loss(folder, embedder, loss)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    found, wanted = gradients(embedder, value), gradients(embedder, expected)
    assert any(name.endswith("memory") for name in found)
    for name in wanted:
        assert_gradient_close(found[name], wanted[name], name)
        assert wanted[name].abs().max() > 0 or "lora_A" in name, name


def test_the_vocabulary_gets_no_gradient_and_memory_does(folder):
    embedder, backbone = memory_embedder(folder)
    loss = CompressionLoss(embedder, backbone.head(), Compression(**BOUNDS), bos_id=BOS_ID)
    loss([features_of(embedder)], LABELS).backward()
    memory = memory_embedding(embedder)
    assert memory.weight.grad is None and not memory.weight.requires_grad
    assert (memory.memory.grad.abs().sum(-1) > 0).all()


def test_checkpointing_changes_no_gradient(folder):
    embedder, backbone = memory_embedder(folder)
    loss = CompressionLoss(embedder, backbone.head(), Compression(**BOUNDS), bos_id=BOS_ID)
    embedder.train()
    plain = gradients(embedder, loss([features_of(embedder)], LABELS))
    embedder.transformers_model.gradient_checkpointing_enable(checkpointing_kwargs(embedder))
    value = loss([features_of(embedder)], LABELS)
    value.backward()  # torch.autograd.grad does not go through checkpointed blocks
    for name, parameter in embedder.named_parameters():
        if parameter.requires_grad:
            assert_gradient_close(parameter.grad, plain[name], name)


def test_batch_and_padding_change_nothing(folder):
    embedder, backbone = memory_embedder(folder)
    loss = CompressionLoss(embedder, backbone.head(), Compression(**BOUNDS), bos_id=BOS_ID)
    whole = loss([features_of(embedder)], LABELS)
    alone = [loss([features_of(embedder, [text])], LABELS[i : i + 1]) for i, text in enumerate(TEXTS)]
    torch.testing.assert_close(whole, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


def test_a_decoder_that_reads_the_context_itself_is_at_its_teacher(folder, monkeypatch):
    """With the context's own embeddings in place of the memory, distillation costs nothing: no position is off."""
    embedder, backbone = memory_embedder(folder)
    loss = CompressionLoss(embedder, backbone.head(), Compression(**BOUNDS), bos_id=BOS_ID)
    ids = torch.tensor([[BOS_ID, *embedder.tokenizer(SENTENCES[3])["input_ids"]]])
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    monkeypatch.setattr(Compression, "split", lambda self, tokens, *, seed, row: K + 1)
    rows = embedder.transformers_model.get_input_embeddings().weight
    monkeypatch.setattr(CompressionLoss, "compress", lambda self, contexts: rows[contexts[0][1:]][None])
    assert loss([features], LABELS[:1]).item() == pytest.approx(0, abs=1e-6)
    monkeypatch.setattr(CompressionLoss, "compress", lambda self, contexts: rows[contexts[0][1:].roll(1)][None])
    assert loss([features], LABELS[:1]).item() > 1e-5


def test_splits_keep_to_their_bounds_and_seeds():
    options = Compression(min_context=4, min_continuation=3)
    sites = [options.split(12, seed=1, row=row) for row in range(400)]
    assert set(sites) == set(range(4, 10))
    assert sites == [options.split(12, seed=1, row=row) for row in range(400)]
    assert sites != [options.split(12, seed=2, row=row) for row in range(400)]
    assert options.split(7, seed=0, row=0) == 4
    with pytest.raises(ValueError, match="6 tokens cannot be split into 4 and 3"):
        options.split(6, seed=0, row=0)


def test_bad_input_is_named(folder):
    embedder, backbone = memory_embedder(folder)
    with pytest.raises(InputError, match="no beginning-of-sequence token"):
        CompressionLoss(embedder, backbone.head(), bos_id=None)
    plain, _, _ = plain_embedder(folder)
    with pytest.raises(InputError, match="no memory tokens"):
        CompressionLoss(plain, backbone.head(), bos_id=BOS_ID)
    with pytest.raises(InputError, match="task 'rc': expected 'distillation'"):
        Compression(task="rc")
    with pytest.raises(InputError, match="min_context 0: expected at least 1"):
        Compression(min_context=0)
