"""One copy of the weights as encoder and as raw decoder, with gradient checkpointing and without."""

from __future__ import annotations

import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import BOS_ID, SENTENCES, save_tiny, tiny_model, tiny_tokenizer
from torch.utils.checkpoint import CheckpointError
from transformers import AutoModel

from selfembed.model.attention import probe_attention
from selfembed.model.memory_tokens import decoder_inputs, memory_embedding, memory_states
from selfembed.model.modes import checkpointing_kwargs, decoder_mode, decoder_of, decoder_states

MEMORY = {"pooling": "memory", "memory_tokens": 3, "prompt": "{text}"}
FAMILIES = ["llama", "gpt2", "qwen2"]


def an_embedder(folder, *, checkpointing="no", dropout=0.0, **config):
    """In training mode, with an adapter that does something and a memory that learns; always the same one."""
    torch.manual_seed(1)
    embedder, _, _ = plain_embedder(folder, **{**MEMORY, "attention": "bidirectional", **config})
    add_random_adapter(embedder, dropout=dropout)
    memory_embedding(embedder).memory.requires_grad_(True)
    if checkpointing != "no":
        kwargs = checkpointing_kwargs(embedder) if checkpointing == "ours" else {"use_reentrant": False}
        embedder.transformers_model.gradient_checkpointing_enable(kwargs)
    return embedder.train()


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp("raw"), tokenizer=tiny_tokenizer(with_bos=True))


def a_batch(embedder, texts=SENTENCES[:3]):
    return {key: value for key, value in embedder.preprocess(texts).items() if torch.is_tensor(value)}


def plain_batch(side="right"):
    tokenizer = tiny_tokenizer(with_bos=True)
    tokenizer.padding_side = side
    return dict(tokenizer(SENTENCES[:3], padding=True, return_tensors="pt", return_token_type_ids=False))


def compression_loss(embedder):
    """Encoder, decoder and teacher in one: the shape of LLM2Comp's objective, with other numbers."""
    output = embedder(a_batch(embedder))
    states = memory_states(embedder, output)
    continuation = torch.tensor([[20, 21, 22], [30, 31, 32], [40, 41, 0]])
    mask = torch.ones(3, 1 + 3 + 3).long()
    mask[2, -1] = 0
    inputs = decoder_inputs(embedder, states, continuation, bos_id=BOS_ID)
    student = decoder_states(embedder, inputs_embeds=inputs, attention_mask=mask)
    with torch.no_grad():
        teacher = decoder_states(embedder, **plain_batch())
    return (student[:, 3:6] - teacher[:, 3:6]).square().mean() + output["sentence_embedding"].square().mean()


def gradients(embedder, seed=0):
    torch.manual_seed(seed)
    embedder.zero_grad()
    compression_loss(embedder).backward()
    return {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", ["no", "ours"])
def test_teacher_is_the_raw_model_bit_for_bit(folder, checkpointing):
    embedder = an_embedder(folder, checkpointing=checkpointing, dropout=0.3)
    raw = AutoModel.from_pretrained(folder)
    head = torch.nn.Linear(32, 640, bias=False)
    for batch in (plain_batch(), plain_batch("left"), {"input_ids": torch.arange(5, 25)[None]}):
        with torch.no_grad():
            expected = head(raw(**batch, use_cache=False).last_hidden_state)
            assert torch.equal(head(decoder_states(embedder, **batch)), expected)
            encoded = head(decoder_of(embedder)(**batch, use_cache=False).last_hidden_state)
        assert (encoded - expected).abs().max() > 0.01
        with_gradient = head(decoder_states(embedder, **batch))
        assert torch.equal(with_gradient, expected)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_does_not_change_gradients(folder, dropout):
    plain = gradients(an_embedder(folder, dropout=dropout))
    ours = gradients(an_embedder(folder, checkpointing="ours", dropout=dropout))
    assert plain.keys() == ours.keys()
    assert {name.rpartition(".")[2] for name in plain} == {"memory", "weight"}
    assert all("lora" in name or name.endswith("memory") for name in plain)
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=0)


def test_plain_checkpointing_cannot(tiny_backbone_dir):
    """The pitfall is real: the decoder's blocks are recomputed with the adapter of the backward pass."""
    with pytest.raises(CheckpointError):
        gradients(an_embedder(tiny_backbone_dir, checkpointing="stock"))


def test_a_graph_that_is_kept_can_be_gone_through_twice(tiny_backbone_dir):
    embedder = an_embedder(tiny_backbone_dir, checkpointing="ours")
    loss = compression_loss(embedder)
    memory = memory_embedding(embedder).memory
    first, second = (torch.autograd.grad(loss, memory, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() > 0


def test_both_passes_are_recomputed(tiny_backbone_dir):
    embedder = an_embedder(tiny_backbone_dir, checkpointing="ours")
    calls = []
    decoder_of(embedder).layers[0].mlp.gate_proj.register_forward_hook(lambda *_: calls.append(1))
    loss = compression_loss(embedder)
    assert len(calls) == 3  # encoder, student, teacher
    loss.backward()
    assert len(calls) == 5


def test_backward_inside_the_mode_recomputes_the_encoder_as_encoder(tiny_backbone_dir):
    embedder = an_embedder(tiny_backbone_dir, checkpointing="ours")
    expected = gradients(an_embedder(tiny_backbone_dir))
    torch.manual_seed(0)
    loss = compression_loss(embedder)
    with decoder_mode(embedder):
        loss.backward()
    # peft freezes what it disables, so that the adapter itself gets nothing while off
    name = next(name for name in expected if name.endswith("memory"))
    torch.testing.assert_close(memory_embedding(embedder).memory.grad, expected[name], rtol=0, atol=0)


def test_gradient_reaches_inputs_and_stops_at_the_future(folder):
    embedder = an_embedder(folder, checkpointing="ours")
    for side in ("right", "left"):
        batch = plain_batch(side)
        mask = batch["attention_mask"].bool()
        assert not mask.all()
        inputs = decoder_of(embedder).get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
        hidden = decoder_states(embedder, inputs_embeds=inputs, attention_mask=batch["attention_mask"])
        for row in range(3):
            place = int(mask[row].nonzero()[4])
            (gradient,) = torch.autograd.grad(hidden[row, place].square().sum(), inputs, retain_graph=True)
            seen = gradient.abs().sum(-1) > 0
            expected = torch.zeros_like(mask)
            expected[row, : place + 1] = mask[row, : place + 1]
            assert torch.equal(seen, expected), side


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_leak_probe_in_both_modes(family, tmp_path):
    embedder = an_embedder(save_tiny(family, tmp_path))
    decoder = decoder_of(embedder)
    outside = probe_attention(decoder)
    with decoder_mode(embedder):
        inside = probe_attention(decoder)
    assert (outside.verdict, inside.verdict) == ("bidirectional", "causal")
    assert not any(inside.cases.values()) and all(outside.cases.values())
    assert inside.right_padding_invariant and outside.right_padding_invariant
    assert inside.left_padding_invariant is outside.left_padding_invariant is (family != "gpt2")
    assert probe_attention(decoder) == outside


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_family_that_heeds_the_modules_flags(implementation):
    model = tiny_model("stablelm", bidirectional=True)
    model.set_attn_implementation(implementation)
    with decoder_mode(model):
        assert probe_attention(model).verdict == "causal"
    assert probe_attention(model).verdict == "bidirectional"


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_all_is_restored_even_after_an_error(attention, tiny_backbone_dir):
    embedder = an_embedder(tiny_backbone_dir, checkpointing="ours", attention=attention)
    embedder[0].model.layers[0].eval()
    frozen = next(p for name, p in embedder.named_parameters() if "lora_A" in name).requires_grad_(False)

    def state():
        config = decoder_of(embedder).config
        flags = [getattr(module, "is_causal", None) for module in embedder.modules()]
        trained = [p.requires_grad for p in embedder.parameters()]
        return [module.training for module in embedder.modules()], flags, trained, config.to_dict()

    before, expected = state(), embedder.eval().encode(SENTENCES[:2])
    embedder.train()
    embedder[0].model.layers[0].eval()
    with pytest.raises(RuntimeError, match="on purpose"), decoder_mode(embedder):
        assert decoder_of(embedder).config.is_causal is True
        raise RuntimeError("on purpose")
    assert state() == before and not frozen.requires_grad
    assert (embedder.eval().encode(SENTENCES[:2]) == expected).all()


def test_own_dropout_is_off_in_the_decoder(tmp_path):
    """OPT's blocks draw dropout themselves; with it they are not left in training mode."""
    embedder = an_embedder(save_tiny("opt", tmp_path), checkpointing="ours")
    batch = plain_batch()
    expected = decoder_states(embedder, **batch)
    for layer in decoder_of(embedder).decoder.layers:
        layer.dropout = 0.5
    assert torch.equal(decoder_states(embedder, **batch), expected)


def test_a_config_without_the_switch_stays_without():
    model = tiny_model("llama")
    assert "is_causal" not in vars(model.config)
    with decoder_mode(model):
        assert model.config.is_causal is True
    assert "is_causal" not in vars(model.config)
