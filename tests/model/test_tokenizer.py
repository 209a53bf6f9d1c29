"""Tokenizers whose class ignores tokenizer.json, and wrappers that hold more than a decoder."""

from __future__ import annotations

import json

import pytest
from tiny import save_tiny, tiny_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from selfembed import InputError, load_backbone
from selfembed.model.tokenizer import load_tokenizer

TEXT = "The teacher sold two wooden chairs."


def settings(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_class_that_ignores_the_file_is_not_used(tmp_path):
    folder = save_tiny("llama", tmp_path, tied=True, tokenizer=tiny_tokenizer("unigram"))
    written = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    settings(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast")
    assert len(AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]) != len(written)
    assert load_tokenizer(folder)(TEXT, add_special_tokens=False)["input_ids"] == written
    assert load_backbone(folder).tokenizer(TEXT, add_special_tokens=False)["input_ids"] == written


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_others_are_loaded_as_ever(kind, tmp_path):
    folder = save_tiny("llama", tmp_path, tied=True, tokenizer=tiny_tokenizer(kind, with_bos=True))
    for special in (False, True):
        one, other = (
            tokenizer(TEXT, add_special_tokens=special)["input_ids"]
            for tokenizer in (load_tokenizer(folder), AutoTokenizer.from_pretrained(folder))
        )
        assert one == other


def test_a_multimodal_wrapper_is_refused_in_one_line(tmp_path):
    folder = save_tiny("llama", tmp_path, tied=True)
    settings(folder / "config.json", vision_config={"hidden_size": 8})
    with pytest.raises(InputError, match="holds more than a text decoder \\(vision_config\\)"):
        load_backbone(folder)
