"""Export: the merged folder equals the model in memory, read with stock classes, and arrives whole or not at all."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import PROMPT, add_random_adapter, plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny, tiny_tokenizer
from transformers import AutoModel

from selfembed import export
from selfembed.backbone import Backbone
from selfembed.errors import InputError
from selfembed.prompt import prompt_ids
from selfembed.recipes import find_recipe, override

RECORD = {"model": "tiny", "corpus": "sentences", "corpus_report": {"texts": 60}, "seed": 0}


def recipe_of(config, **settings):
    read_as = {"pooling": config.pooling, "attention": config.attention, "prompt": config.prompt}
    return override(find_recipe("text2token"), {**read_as, "embed_length": 64, **settings})


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("gpt_neox", False)])
def test_folder_equals_memory_and_a_forward_pass_by_hand(family, tied, attention, tmp_path):
    raw = save_tiny(family, tmp_path / "raw", tied=tied, tokenizer=tiny_tokenizer(with_bos=True, chat_template=True))
    embedder, backbone, config = plain_embedder(raw, attention=attention)
    untrained = embedder.encode(SENTENCES[:4])
    add_random_adapter(embedder)
    embedder.eval()
    out = tmp_path / "new" / "out"
    finished = export.export_embedder(embedder, backbone, recipe_of(config), dict(RECORD), out)
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


def test_vectors_that_are_not_finite_are_not_saved(tiny_backbone_dir, tmp_path):
    embedder, backbone, config = plain_embedder(tiny_backbone_dir)
    add_random_adapter(embedder)
    with torch.no_grad():
        next(p for name, p in embedder.named_parameters() if "lora_A" in name).fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        export.export_embedder(embedder, backbone, recipe_of(config), dict(RECORD), tmp_path / "out")
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
        export.export_embedder(embedder, backbone, recipe_of(config), dict(RECORD), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_attention_is_not_saved(tiny_backbone_dir, tmp_path, monkeypatch):
    embedder, backbone, config = plain_embedder(tiny_backbone_dir)
    add_random_adapter(embedder)
    monkeypatch.setattr(export, "probe_attention", lambda _: SimpleNamespace(verdict="bidirectional"))
    with pytest.raises(InputError, match="comes back bidirectional, expected causal"):
        export.export_embedder(embedder, backbone, recipe_of(config), dict(RECORD), tmp_path / "out")
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
