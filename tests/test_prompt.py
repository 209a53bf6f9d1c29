"""The prompt in the tokenizer: whole under truncation, there after saving, and a padding token of its own."""

from __future__ import annotations

import pytest
from tiny import BOS_ID, EOS, EOS_ID, PAD, SENTENCES, UNKNOWN, tiny_tokenizer
from tokenizers import processors
from transformers import AutoTokenizer

from selfembed.errors import InputError
from selfembed.prompt import (
    NO_PROMPT,
    PROMPT_EOL,
    PromptIds,
    bake_prompt,
    check_prompt,
    padding_token,
    prompt_ids,
    split_template,
)

KINDS = {
    "bpe": lambda: tiny_tokenizer(),
    "bpe with bos": lambda: tiny_tokenizer(with_bos=True),
    "unigram": lambda: tiny_tokenizer("unigram", with_bos=True),
    "wordlevel": lambda: tiny_tokenizer("wordlevel"),
    "bos setting and chat template": lambda: tiny_tokenizer(with_bos=True, chat_template=True, add_bos_token=True),
}


@pytest.mark.parametrize("template", [PROMPT_EOL, 'a "{text}" b "', "{text} in a word:", "about {text}", NO_PROMPT])
@pytest.mark.parametrize("kind", KINDS)
def test_prompt_survives_truncation_and_saving(kind, template, tmp_path):
    tokenizer = KINDS[kind]()
    ids = prompt_ids(tokenizer, template)
    length = len(ids) + 6
    baked = bake_prompt(tokenizer, template, max_length=length)
    baked.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    check_prompt(loaded, ids)
    long = " ".join(SENTENCES)
    own = tuple(tokenizer(long, add_special_tokens=False)["input_ids"])
    assert loaded.model_max_length == length and loaded.chat_template is None
    for one in (baked, loaded):
        encoded = tuple(one(long, truncation=True)["input_ids"])
        assert encoded == ids.before + own[:6] + ids.after
        own_short = tuple(tokenizer("door", add_special_tokens=False)["input_ids"])[:6]
        assert tuple(one("door", truncation=True)["input_ids"]) == ids.before + own_short + ids.after


def test_prompt_reads_as_the_template():
    tokenizer = tiny_tokenizer()
    encoded = bake_prompt(tokenizer, PROMPT_EOL, max_length=200)("A red fox.")["input_ids"]
    assert tokenizer.decode(encoded) == 'This sentence: "A red fox." means in one word: "'


def test_sentencepiece_suffix_does_not_mark_a_new_word():
    tokenizer = tiny_tokenizer("unigram")
    ids = prompt_ids(tokenizer, "{text}: b")
    assert not tokenizer.convert_ids_to_tokens(ids.after[0]).startswith("▁")


def test_the_tokenizer_given_is_left_alone():
    tokenizer = tiny_tokenizer(with_bos=True, chat_template=True)
    before = tokenizer("door")["input_ids"]
    bake_prompt(tokenizer, PROMPT_EOL, max_length=200)
    assert tokenizer("door")["input_ids"] == before and tokenizer.chat_template and tokenizer.model_max_length == 512


def test_native_bos_stays_and_eos_only_without_a_suffix():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<|bos|> $A {EOS}", special_tokens=[("<|bos|>", BOS_ID), (EOS, EOS_ID)]
    )
    assert prompt_ids(tokenizer, NO_PROMPT) == PromptIds(before=(BOS_ID,), after=(EOS_ID,))
    suffixed = prompt_ids(tokenizer, "{text} b")
    assert suffixed.before == (BOS_ID,) and EOS_ID not in suffixed.after


@pytest.mark.parametrize("template", ["", "no slot", "{text} and {text}", "{Text}"])
def test_malformed_template(template):
    with pytest.raises(InputError, match="exactly once"):
        split_template(template)
    with pytest.raises(InputError, match="exactly once"):
        bake_prompt(tiny_tokenizer(), template, max_length=64)


def test_prompt_leaves_no_room():
    tokenizer = tiny_tokenizer()
    size = len(prompt_ids(tokenizer, PROMPT_EOL))
    with pytest.raises(InputError, match=f"the prompt alone takes {size} tokens"):
        bake_prompt(tokenizer, PROMPT_EOL, max_length=size)
    bake_prompt(tokenizer, PROMPT_EOL, max_length=size + 1)


def test_a_tokenizer_without_the_prompt_is_caught():
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 32
    with pytest.raises(InputError, match="did not survive"):
        check_prompt(tokenizer, prompt_ids(tokenizer, "about {text}"))


def test_padding_token():
    assert padding_token(tiny_tokenizer()) == PAD
    # declared nowhere: the vocabulary's own is found
    missing = tiny_tokenizer(with_pad=False)
    assert missing.pad_token is None and padding_token(missing) == PAD
    baked = bake_prompt(missing, NO_PROMPT, max_length=32)
    assert baked.pad_token == PAD and missing.pad_token is None
    # taken from eos
    borrowed = tiny_tokenizer(with_pad=False)
    borrowed.pad_token = borrowed.eos_token
    assert padding_token(borrowed) == PAD
    # no special token named pad
    unnamed = tiny_tokenizer("wordlevel", with_pad=False)
    unnamed.pad_token = unnamed.eos_token
    assert padding_token(unnamed) in (PAD, UNKNOWN)
    assert padding_token(unnamed) not in (unnamed.bos_token, unnamed.eos_token)
