"""Export: the merged folder equals the model in memory, read with stock classes, and arrives whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import processes
import pytest
import torch
from runs import PROMPT, add_random_adapter, plain_embedder, run_record
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import BOS_ID, EOS_ID, PAD_ID, SENTENCES, save_tiny, tiny_tokenizer
from transformers import AutoModel

from selfembed.errors import InputError, TrainingDiverged
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import load_embedder
from selfembed.model.memory_tokens import memory_embedding
from selfembed.model.prompt import prompt_ids
from selfembed.recipes import find_recipe, override
from selfembed.training import export

RECORD = run_record(model="tiny", corpus="sentences")


def recipe_of(config, **settings):
    recipe = override(find_recipe("text2token"), {"embed_length": 64, **settings})
    return dataclasses.replace(recipe, embedder=config)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("gpt_neox", False)])
def test_folder_equals_memory_and_a_forward_pass_by_hand(family, tied, attention, tmp_path):
    raw = save_tiny(family, tmp_path / "raw", tied=tied, tokenizer=tiny_tokenizer(with_bos=True, chat_template=True))
    embedder, backbone, config = plain_embedder(raw, attention=attention)
    untrained = embedder.encode(SENTENCES[:4])
    add_random_adapter(embedder)
    embedder.eval()
    out = tmp_path / "new" / "out"
    finished = export.export_embedder(embedder, backbone, recipe_of(config), RECORD, out, saved_dtype="float32")
    texts = ["Fox.", *SENTENCES[:4], " ".join(SENTENCES)]
    memory = embedder.encode(texts)
    assert np.abs(memory[1:5] - untrained).max() > 0.05
    for loaded in (finished, SentenceTransformer(str(out), device="cpu")):
        np.testing.assert_allclose(loaded.encode(texts, batch_size=2), memory, atol=1e-4)
    ids = prompt_ids(backbone.tokenizer, PROMPT)
    model = AutoModel.from_pretrained(out)
    for text, vector in zip(texts, memory, strict=True):
        own = backbone.tokenizer(text, add_special_tokens=False)["input_ids"][: 64 - len(ids)]
        with torch.no_grad():
            by_hand = model(torch.tensor([[*ids.before, *own, *ids.after]]))[0][0, -1].numpy()
        cosine = by_hand @ vector / np.linalg.norm(by_hand) / np.linalg.norm(vector)
        assert cosine >= 0.9999
    assert torch.equal(Backbone("out", out).head().weight, backbone.head().weight)
    assert (out / export.HEAD).exists() is not tied
    assert not (out / "adapter").exists() and not (out / "chat_template.jinja").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    record = json.loads((out / export.RECORD).read_text())
    assert record["cosine_to_model_in_memory"] >= 0.9999 and record["saved_dtype"] == "float32"
    assert "transformers" in json.loads((out / "config_sentence_transformers.json").read_text())["requirements"]
    assert f"| attention | {attention} |" in (out / "README.md").read_text()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_special_tokens_spelled_out_in_a_text_are_text_to_stock_classes(kind, tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tied=True, tokenizer=tiny_tokenizer(kind, with_bos=True))
    embedder, backbone, config = plain_embedder(raw, prompt='<|bos|>a "{text}" b<|eos|>')
    ids = prompt_ids(backbone.tokenizer, config.template)
    assert ids.before[:2] == (BOS_ID, BOS_ID) and ids.after[-1] == EOS_ID
    add_random_adapter(embedder)
    embedder.eval()
    export.export_embedder(embedder, backbone, recipe_of(config), RECORD, tmp_path / "out", saved_dtype="float32")
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    texts = [f"{SENTENCES[0]} <|eos|>", "<|bos|><|pad|>", f"a<|eos|>{SENTENCES[1]}"]
    model = AutoModel.from_pretrained(tmp_path / "out")
    for text, vector, mine in zip(texts, stock.encode(texts), embedder.encode(texts), strict=True):
        np.testing.assert_allclose(vector, mine, atol=1e-4)
        (row,) = stock.preprocess([text])["input_ids"].tolist()
        own = row[len(ids.before) : len(row) - len(ids.after)]
        assert tuple(row) == (*ids.before, *own, *ids.after) and not {BOS_ID, EOS_ID, PAD_ID} & set(own)
        with torch.no_grad():
            spelled, parsed = (
                model(torch.tensor([[*ids.before, *middle, *ids.after]]))[0][0, -1].numpy()
                for middle in (own, backbone.tokenizer(text, add_special_tokens=False)["input_ids"])
            )
        np.testing.assert_allclose(vector, spelled, atol=1e-4)
        assert np.abs(vector - parsed).max() > 1e-2


def exported_memory(raw, out, *, k, attention="bidirectional"):
    embedder, backbone, config = plain_embedder(raw, pooling="memory", memory_tokens=k, attention=attention)
    add_random_adapter(embedder)
    with torch.no_grad():
        memory_embedding(embedder).memory.mul_(1.5)
    embedder.eval()
    export.export_embedder(embedder, backbone, recipe_of(config), RECORD, out, saved_dtype="float32")
    return embedder


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("k", [1, 4])
def test_memory_tokens_become_rows_of_a_plain_model(k, tied, attention, tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tied=tied, tokenizer=tiny_tokenizer(with_bos=True))
    embedder = exported_memory(raw, tmp_path / "out", k=k, attention=attention)
    texts = ["Fox.", *SENTENCES[:4], " ".join(SENTENCES)]
    expected = embedder.encode(texts)
    assert np.abs(expected[0] - expected[1]).max() > 0.05
    loaded = load_embedder(tmp_path / "out", device="cpu")
    np.testing.assert_allclose(loaded.encode(texts, batch_size=2), expected, atol=1e-4)
    assert loaded.similarity_fn_name == "cosine" and loaded.max_seq_length == 64
    model = AutoModel.from_pretrained(tmp_path / "out")
    weight = model.get_input_embeddings().weight
    assert type(model.get_input_embeddings()) is torch.nn.Embedding and model.config.vocab_size == 640 + k
    assert torch.equal(weight[640:], memory_embedding(embedder).memory)
    assert torch.equal(weight[:640], memory_embedding(embedder).weight)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| memory tokens (in the tokenizer) | {k} |" in card
    stock = k == 1
    assert ("trust_remote_code=True" in card) is not stock
    types = [module["type"] for module in json.loads((tmp_path / "out" / "modules.json").read_text())]
    assert all(name.startswith("sentence_transformers.") for name in types) is stock
    if stock:
        np.testing.assert_allclose(
            SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts), expected, atol=1e-4
        )


WITHOUT_SELFEMBED = """
import sys
sys.modules["selfembed"] = None  # not to be imported
import numpy as np
from sentence_transformers import SentenceTransformer
out, copy, file, *texts = sys.argv[1:]
try:
    SentenceTransformer(out, device="cpu")
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise AssertionError("loaded without permission")
model = SentenceTransformer(out, device="cpu", trust_remote_code=True)
assert type(model[1]).__name__ == "MemoryPooling"
vectors = model.encode(texts)
model.save(copy, create_model_card=False)
again = SentenceTransformer(copy, device="cpu", trust_remote_code=True).encode(texts)
assert (again == vectors).all()
np.save(file, vectors)
"""


def test_several_memory_tokens_work_where_selfembed_is_not_installed(tiny_backbone_dir, tmp_path):
    embedder = exported_memory(tiny_backbone_dir, tmp_path / "out", k=4)
    texts = ["Fox.", *SENTENCES[:3]]
    paths = [str(tmp_path / name) for name in ("out", "copy", "vectors.npy")]
    run = processes.run(WITHOUT_SELFEMBED, *paths, *texts)
    assert run.returncode == 0, run.stderr
    alone, here = np.load(paths[2]), load_embedder(paths[0], device="cpu").encode(texts)
    np.testing.assert_array_equal(alone, here)
    np.testing.assert_allclose(alone, embedder.encode(texts), atol=1e-4)
    np.testing.assert_array_equal(load_embedder(paths[1], device="cpu").encode(texts), here)


def test_vectors_that_are_not_finite_are_not_saved(tiny_backbone_dir, tmp_path):
    embedder, backbone, config = plain_embedder(tiny_backbone_dir)
    add_random_adapter(embedder)
    with torch.no_grad():
        next(p for name, p in embedder.named_parameters() if "lora_A" in name).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="not finite"):
        export.export_embedder(embedder, backbone, recipe_of(config), RECORD, tmp_path / "out", saved_dtype="float32")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_differs_is_not_saved(tiny_backbone_dir, tmp_path, monkeypatch):
    embedder, backbone, config = plain_embedder(tiny_backbone_dir)
    add_random_adapter(embedder)
    embedder.eval()
    monkeypatch.setattr(
        export,
        "merge",
        lambda *_: AutoModel.from_pretrained(tiny_backbone_dir),  # the adapter forgotten
    )
    with pytest.raises(InputError, match="gives other vectors"):
        export.export_embedder(embedder, backbone, recipe_of(config), RECORD, tmp_path / "out", saved_dtype="float32")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_attention_is_not_saved(tiny_backbone_dir, tmp_path, monkeypatch):
    embedder, backbone, config = plain_embedder(tiny_backbone_dir)
    add_random_adapter(embedder)
    monkeypatch.setattr(export, "probe_attention", lambda _: SimpleNamespace(verdict="bidirectional"))
    with pytest.raises(InputError, match="comes back bidirectional, expected causal"):
        export.export_embedder(embedder, backbone, recipe_of(config), RECORD, tmp_path / "out", saved_dtype="float32")
    assert not list(tmp_path.iterdir())


def test_merging_leaves_the_model_in_memory_alone(tiny_backbone_dir, tmp_path):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(embedder)
    before = {name: tensor.clone() for name, tensor in embedder.state_dict().items()}
    merged = export.merge(embedder, backbone, tmp_path / "adapter")
    after = embedder.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(("tied", "wanted"), [(True, "auto"), (False, "float16"), (False, "bfloat16")])
def test_sixteen_bits_on_disk_are_computed_in_float32(tied, wanted, tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tied=tied)
    embedder, backbone, config = plain_embedder(raw)
    add_random_adapter(embedder)
    embedder.eval()
    out = tmp_path / "out"
    export.export_embedder(embedder, backbone, recipe_of(config), RECORD, out, saved_dtype=wanted)
    on_disk = getattr(torch, "float16" if wanted == "auto" else wanted)
    files = [out / "model.safetensors", *([] if tied else [out / export.HEAD])]
    for file in files:
        assert {tensor.dtype for tensor in load_file(file).values()} == {on_disk}
    stock = SentenceTransformer(str(out), device="cpu")
    assert stock.dtype == AutoModel.from_pretrained(out).dtype == torch.float32
    memory, actual = embedder.encode(SENTENCES[:4]), stock.encode(SENTENCES[:4])
    cosines = (memory * actual).sum(1) / np.linalg.norm(memory, axis=1) / np.linalg.norm(actual, axis=1)
    assert actual.dtype == np.float32 and cosines.min() > (0.99 if wanted == "bfloat16" else 0.99999)
    assert json.loads((out / export.RECORD).read_text())["saved_dtype"] == str(on_disk).removeprefix("torch.")
    head = Backbone("out", out).head().weight
    torch.testing.assert_close(head, backbone.head().weight, rtol=0.01, atol=1e-4)


def test_what_float16_cannot_hold_is_saved_in_float32(tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tied=True)
    weights = load_file(raw / "model.safetensors")
    weights[next(name for name in weights if "up_proj" in name)][0, 0] = 7e4
    save_file(weights, raw / "model.safetensors", metadata={"format": "pt"})
    embedder, backbone, config = plain_embedder(raw)
    add_random_adapter(embedder)
    embedder.eval()
    with pytest.raises(InputError, match=r"saved_dtype float16: a weight is beyond its range"):
        export.export_embedder(embedder, backbone, recipe_of(config), RECORD, tmp_path / "out", saved_dtype="float16")
    assert not (tmp_path / "out").exists()
    export.export_embedder(embedder, backbone, recipe_of(config), RECORD, tmp_path / "out")
    assert json.loads((tmp_path / "out" / export.RECORD).read_text())["saved_dtype"] == "float32"
