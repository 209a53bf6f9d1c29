"""The prompt in the tokenizer: whole under truncation, there after saving, and a padding token of its own."""

from __future__ import annotations

import json
import pickle

import pytest
from tiny import BOS, BOS_ID, EOS, EOS_ID, PAD, SENTENCES, UNKNOWN, tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from selfembed.errors import InputError
from selfembed.model.prompt import (
    NO_PROMPT,
    PROMPT_EOL,
    PromptIds,
    as_read,
    bake_prompt,
    check_prompt,
    check_text,
    padding_token,
    prompt_ids,
    split_template,
    text_backend,
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


@pytest.mark.parametrize("template", [NO_PROMPT, 'a "{text}" b'])
@pytest.mark.parametrize("kind", KINDS)
def test_memory_tokens_survive_truncation_and_saving(kind, template, tmp_path):
    tokenizer = KINDS[kind]()
    plain = prompt_ids(tokenizer, template)
    memory = tuple(range(len(tokenizer), len(tokenizer) + 3))
    ids = prompt_ids(tokenizer, template, 3)
    assert ids == PromptIds(before=plain.before, after=plain.after + memory)
    baked = bake_prompt(tokenizer, template, max_length=len(ids) + 6, memory_tokens=3)
    baked.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    check_prompt(loaded, ids)
    own = tuple(tokenizer(" ".join(SENTENCES), add_special_tokens=False)["input_ids"])
    for one in (baked, loaded):
        assert tuple(one(" ".join(SENTENCES), truncation=True)["input_ids"]) == ids.before + own[:6] + ids.after
        assert one.convert_ids_to_tokens(memory) == ["<memory_1>", "<memory_2>", "<memory_3>"]
        for side in ("left", "right"):
            one.padding_side = side
            rows = one(["door", " ".join(SENTENCES)], truncation=True, padding=True)
            unpadded = [i for i, mask in zip(rows["input_ids"][0], rows["attention_mask"][0], strict=True) if mask]
            assert tuple(unpadded[-3:]) == memory == tuple(rows["input_ids"][1][-3:])


def test_names_of_memory_tokens_in_a_text_are_text(tmp_path):
    bake_prompt(tiny_tokenizer(with_bos=True), NO_PROMPT, max_length=64, memory_tokens=2).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "a <memory_1> b<memory_2>"
    ids = tokenizer(text)["input_ids"]
    assert [i for i in ids if i >= 640] == ids[-2:] == [640, 641]
    assert tokenizer.decode(ids[1:-2]) == text


SPELLED = ["{}", "a {} b", "a{}b{}", " {}", "{}\n{} a river"]


def control_tokenizer(**kwargs):
    """With tokens that control a model though only some are declared special, and with plain added words."""
    tokenizer = tiny_tokenizer(with_bos=True, **kwargs)
    backend = tokenizer.backend_tokenizer
    backend.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("[INST]", special=True)])
    backend.add_tokens([AddedToken(name) for name in ("<think>", "<｜User｜>", "</s>", "covid19", "    ")])
    return tokenizer


CONTROL = [BOS, EOS, PAD, "<|im_start|>", "[INST]", "<think>", "<｜User｜>", "</s>"]


@pytest.mark.parametrize("memory_tokens", [0, 2])
@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordlevel"])
def test_special_tokens_spelled_out_in_a_text_are_text(kind, memory_tokens, tmp_path):
    tokenizer = control_tokenizer(kind=kind)
    control = {*map(tokenizer.convert_tokens_to_ids, CONTROL)}
    assert len(control) == len(CONTROL)
    template = "<|im_start|>{text}[INST]"
    ids = prompt_ids(tokenizer, template, memory_tokens)
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "[INST]"])
    assert ids.before == (BOS_ID, start) and ids.after[0] == end, "the house's own prompt has the tokens"
    baked = bake_prompt(tokenizer, template, max_length=200, memory_tokens=memory_tokens)
    assert prompt_ids(baked, NO_PROMPT) == PromptIds(before=ids.before, after=ids.after)
    baked.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    check_text(loaded, baked)
    for one in (baked, loaded, pickle.loads(pickle.dumps(loaded))):
        for name in [*CONTROL, *["<memory_1>"] * (memory_tokens > 0)]:
            for text in SPELLED:
                found = one(text.replace("{}", name))["input_ids"]
                own = found[len(ids.before) : len(found) - len(ids.after)]
                assert tuple(found[: len(ids.before)]) == ids.before and own
                assert not control & set(own) and not set(own) & set(ids.after), (name, text)
                if kind == "bpe":
                    assert one.decode(own) == text.replace("{}", name)
        for word in ("covid19", "    "):  # what others have added as words stays a word
            assert tokenizer.convert_tokens_to_ids(word) in one(f"a{word}b")["input_ids"]
    texts = text_backend(tokenizer)
    assert texts.encode("a <|im_start|> b").ids[1:] == loaded("a <|im_start|> b")["input_ids"][2 : -len(ids.after)]


def test_an_added_word_that_the_vocabulary_has_is_no_control_token():
    tokenizer = tiny_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"]["<table>"] = 640
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    tokenizer.add_tokens(["<table>"])
    assert 640 in bake_prompt(tokenizer, NO_PROMPT, max_length=64)("a <table> b")["input_ids"]


def test_a_tokenizer_that_forgets_to_read_texts_as_text_is_caught():
    baked = bake_prompt(tiny_tokenizer(), NO_PROMPT, max_length=64)
    with pytest.raises(InputError, match="spelled out in a text otherwise"):
        check_text(PreTrainedTokenizerFast(tokenizer_object=baked.backend_tokenizer), baked)


def test_a_prompt_is_read_alike_after_a_call_that_reads_text_as_text():
    tokenizer = control_tokenizer()
    before = prompt_ids(tokenizer, "<|im_start|>{text}")
    tokenizer("a", split_special_tokens=True)
    assert prompt_ids(tokenizer, "<|im_start|>{text}") == before


def test_a_tokenizer_that_has_memory_tokens_is_refused():
    baked = bake_prompt(tiny_tokenizer(), NO_PROMPT, max_length=64, memory_tokens=2)
    with pytest.raises(InputError, match="has a token <memory_1> already"):
        bake_prompt(baked, NO_PROMPT, max_length=64, memory_tokens=3)


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
    assert prompt_ids(tokenizer, NO_PROMPT, 2) == PromptIds(before=(BOS_ID,), after=(640, 641))


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


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordlevel"])
def test_a_text_is_cut_behind_what_is_read(kind):
    tokenizer = tiny_tokenizer(kind, with_bos=True)
    room = len(prompt_ids(tokenizer, PROMPT_EOL)) + 4
    baked = bake_prompt(tokenizer, PROMPT_EOL, max_length=room)
    long, short = " ".join(SENTENCES[:2]), SENTENCES[0].split()[0]
    cut, whole, empty = as_read(baked, [long, short, ""])
    assert long.startswith(cut) and 0 < len(cut) < len(long)
    assert (whole, empty) == (short, "")
    read = baked(long, truncation=True)["input_ids"]
    assert len(read) == room and baked(cut, truncation=False)["input_ids"] == read


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
