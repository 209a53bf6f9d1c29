"""Tokenizers whose class ignores tokenizer.json, and wrappers that hold more than a decoder."""

from __future__ import annotations

import json

import pytest
from tiny import CHAT_TEMPLATE, SENTENCES, save_tiny, tiny_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from selfembed import InputError, load_backbone
from selfembed.data.corpus import Corpus
from selfembed.ground.hashing import files_hash
from selfembed.model.embedder import EmbedderConfig, assemble_folder
from selfembed.model.tokenizer import load_tokenizer
from selfembed.training.plan import make_plan

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


def keys(folder, config=None):
    """What names the cached folder of an embedder, and the plan of a run."""
    plan = make_plan(folder, Corpus(iter(SENTENCES)), "bag-of-tokens", device="cpu", dtype="float32")
    return assemble_folder(plan.backbone, config or EmbedderConfig()).name, plan.key


@pytest.mark.parametrize("changes", [{"bos_token": "<|eos|>"}, {"eos_token": "<|bos|>"}, {"pad_token": None}])
def test_what_tokenizer_config_says_counts(changes, tmp_path):
    folder = save_tiny("llama", tmp_path, tied=True)
    before, fingerprint = keys(folder), load_backbone(folder).fingerprint
    settings(folder / "tokenizer_config.json", **changes)
    assert load_backbone(folder).fingerprint == fingerprint, "tokenizer.json is the same"
    after = keys(folder)
    assert before[0] != after[0] and before[1] != after[1]


def test_added_tokens_of_tokenizer_config_count(tmp_path):
    folder = save_tiny("llama", tmp_path, tied=True)
    before = keys(folder)
    token = {"content": "teacher", "special": False, "lstrip": False, "rstrip": False, "normalized": False}
    settings(folder / "tokenizer_config.json", extra_special_tokens=["teacher"], added_tokens_decoder={"639": token})
    assert before[0] != keys(folder)[0]


def test_what_changes_no_ids_does_not_count(tmp_path):
    folder = save_tiny("llama", tmp_path, tied=True)
    backbone = load_backbone(folder)
    before = keys(folder)
    settings(folder / "tokenizer_config.json", model_max_length=99, padding_side="left", note="by hand")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert load_backbone(folder).tokenizer.chat_template and keys(folder) == before
    own = [folder / name for name in ("model.safetensors", "config.json", "tokenizer.json")]
    assert backbone.fingerprint == files_hash(own), "the records of finished embedders hold this hash"


def test_a_tokenizer_without_tokenizer_json_counts_by_its_files(tmp_path):
    tokenizer = tiny_tokenizer()
    folder = save_tiny("gpt2", tmp_path, tokenizer=tokenizer)
    tokenizer.backend_tokenizer.model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    settings(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    merges = folder / "merges.txt"
    before, keys_before = load_backbone(folder), keys(folder)
    ids, fingerprint = before.tokenizer(TEXT)["input_ids"], before.fingerprint
    merges.write_text("\n".join(merges.read_text().splitlines()[:50]))
    after = load_backbone(folder)
    assert after.tokenizer(TEXT)["input_ids"] != ids
    assert after.fingerprint != fingerprint
    assert keys(folder)[0] != keys_before[0] and keys(folder)[1] != keys_before[1]
