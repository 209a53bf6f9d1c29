"""Word embeddings beside final states: by hand, of several families, and as a stock folder that comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import PROMPT, plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny, tiny_tokenizer
from transformers import AutoModel

from selfembed.errors import InputError
from selfembed.model.backbone import load_backbone
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.model.prompt import prompt_ids
from selfembed.model.word_embeddings import root_mean_square

TEXTS = ["Fox.", *SENTENCES[:4]]


@pytest.mark.parametrize("pooling", ["mean", "mean+last"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
def test_vectors_are_made_of_states_and_word_embeddings(family, pooling, tmp_path):
    save_tiny(family, tmp_path, tokenizer=tiny_tokenizer(with_bos=True))
    embedder, _, _ = plain_embedder(tmp_path, pooling=pooling, word_embeddings=0.5)
    backbone = load_backbone(tmp_path)
    ids = prompt_ids(backbone.tokenizer, PROMPT)
    weights_L = embedder[1].layer_weights
    assert weights_L[-1] == 1 and not weights_L[1:-1].any()
    model = AutoModel.from_pretrained(tmp_path).eval()
    for text, vector in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        own = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            states = model(torch.tensor([[*ids.before, *own, *ids.after]]), output_hidden_states=True).hidden_states
        both_TD = (states[-1][0] + weights_L[0] * states[0][0]) / (1 + weights_L[0])
        expected = torch.cat([both_TD.mean(0), both_TD[-1]][: 1 + pooling.count("+")])
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_at_one_states_and_word_embeddings_have_the_same_size(tiny_backbone_dir):
    backbone = load_backbone(tiny_backbone_dir)
    embedder = build_embedder(backbone, EmbedderConfig(pooling="mean", word_embeddings=1.0), device="cpu")
    from selfembed.model.word_embeddings import _PROBE

    ids = backbone.tokenizer(_PROBE, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = embedder[0].model(ids).hidden_states
    words = embedder[1].layer_weights[0] * states[0][0, 1:]
    assert root_mean_square(words) == pytest.approx(root_mean_square(states[-1][0, 1:]), rel=1e-4)


def test_the_saved_folder_is_stock_and_gives_the_same_vectors(tiny_backbone_dir, tmp_path):
    config = EmbedderConfig(pooling="mean", word_embeddings=1.5)
    embedder = build_embedder(load_backbone(tiny_backbone_dir), config, device="cpu")
    assert not any(parameter.requires_grad for parameter in embedder[1].parameters())
    embedder.save(str(tmp_path / "out"))
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert [type(module).__module__.split(".")[0] for module in stock] == ["sentence_transformers"] * 3
    np.testing.assert_allclose(stock.encode(TEXTS), embedder.encode(TEXTS), atol=1e-6)
    plain = build_embedder(load_backbone(tiny_backbone_dir), EmbedderConfig(pooling="mean"), device="cpu")
    assert len(plain) == 2 and not plain[0].model.config.output_hidden_states


def test_what_it_cannot_be_used_with_is_refused():
    with pytest.raises(InputError, match="word_embeddings -1"):
        EmbedderConfig(pooling="mean", word_embeddings=-1)
    with pytest.raises(InputError, match="memory tokens are no words"):
        EmbedderConfig(pooling="memory", memory_tokens=2, word_embeddings=1.0)
