"""The doctor's findings on backbones that are fit, half fit and unfit."""

from __future__ import annotations

import pytest
from runs import short_train
from tiny import FAMILIES, save_tiny, tiny_model, tiny_tokenizer

from selfembed.doctor import Diagnosis, examine
from selfembed.errors import InputError
from selfembed.model.backbone import Backbone


def finding(diagnosis: Diagnosis, topic: str) -> tuple[str, bool]:
    (found,) = [(text, good) for name, text, good in diagnosis.findings if name == topic]
    return found


def test_llama_is_ready(tiny_backbone_dir):
    diagnosis = examine(tiny_backbone_dir)
    assert diagnosis.usable and diagnosis.causal and diagnosis.bidirectional
    assert all(good for _, _, good in diagnosis.findings)
    assert diagnosis.verdict == f"{tiny_backbone_dir}: ready, with causal or bidirectional attention"
    assert "tied to the input embeddings" in finding(diagnosis, "decoder layer")[0]
    assert "llama" in finding(diagnosis, "backbone")[0] and "vocabulary 640" in finding(diagnosis, "backbone")[0]
    assert finding(diagnosis, "beginning of text")[0] == "nothing in front"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family, tmp_path):
    diagnosis = examine(save_tiny(family, tmp_path))
    assert diagnosis.usable and diagnosis.causal, diagnosis.findings
    assert diagnosis.bidirectional is (family not in ("gpt_neo", "stablelm"))
    kind = "causal or bidirectional attention" if diagnosis.bidirectional else "causal attention only"
    assert diagnosis.verdict == f"{tmp_path}: ready, with {kind}"
    text, good = finding(diagnosis, "leak probe, bidirectional")
    assert good is diagnosis.bidirectional and (good or "use `attention='causal'`" in text)
    topics = ("leak probe, causal", "right padding", "padding token", "prompt", "decoder layer", "training memory")
    for topic in topics:
        assert finding(diagnosis, topic)[1], topic


def test_logits_that_are_not_the_models_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("selfembed.model.backbone._logit_rule", lambda config: (1.0, None))
    diagnosis = examine(save_tiny("cohere", tmp_path))
    assert not diagnosis.usable
    assert "cohere does more to its logits than we know" in diagnosis.verdict


def test_a_large_head_in_low_precision_is_the_models(tmp_path, monkeypatch):
    monkeypatch.setattr("selfembed.model.backbone._FLOAT32_HEAD_ELEMENTS", 1)
    save_tiny("gemma2", tmp_path)
    tiny_model("gemma2").bfloat16().save_pretrained(tmp_path)
    assert examine(tmp_path).usable


@pytest.mark.parametrize("family", ["gpt_neo", "stablelm"])
def test_what_cannot_be_bidirectional_is_refused_before_training(family, tmp_path):
    raw = save_tiny(family, tmp_path / "raw")
    with pytest.raises(InputError, match=f"{family}.*use `attention='causal'` or another backbone"):
        short_train(raw, tmp_path / "out", settings={"attention": "bidirectional"})
    assert not list(tmp_path.glob("out*"))


def test_tokenizer_findings(tmp_path):
    tokenizer = tiny_tokenizer(with_bos=True, with_pad=False, chat_template=True)
    diagnosis = examine(save_tiny("llama", tmp_path, tied=False, tokenizer=tokenizer))
    assert diagnosis.usable
    assert finding(diagnosis, "padding token")[0] == "missing; '<|pad|>' is used"
    assert "<|bos|>" in finding(diagnosis, "beginning of text")[0]
    assert "left out" in finding(diagnosis, "chat template")[0]
    assert "separate from" in finding(diagnosis, "decoder layer")[0]


def test_padding_borrowed_from_eos(tmp_path):
    tokenizer = tiny_tokenizer(with_pad=False)
    tokenizer.pad_token = tokenizer.eos_token
    diagnosis = examine(save_tiny("llama", tmp_path, tokenizer=tokenizer))
    assert "is also bos or eos; '<|pad|>' is used instead" in finding(diagnosis, "padding token")[0]


def test_decoder_layer_not_found_is_not_usable(tiny_backbone_dir, monkeypatch):
    def missing(self):
        raise KeyError("weight")

    monkeypatch.setattr(Backbone, "_head_weights", missing)
    diagnosis = examine(tiny_backbone_dir)
    assert not diagnosis.usable
    assert diagnosis.verdict == f"{tiny_backbone_dir}: not usable: not found (KeyError)"


def test_no_model_there(tmp_path):
    with pytest.raises(InputError, match="no config.json"):
        examine(tmp_path)
