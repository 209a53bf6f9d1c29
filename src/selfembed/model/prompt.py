"""The prompt around every text, with memory tokens behind it, baked into the tokenizer itself.

The saved `tokenizer.json` carries the prompt as a post-processing template. So truncation cuts only the text, never
the prompt, and whatever reads the folder (sentence-transformers, a server) applies it without code of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Sequence as InTurn
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from selfembed.errors import InputError

# PromptEOL (Jiang et al. 2023), as Text2Token prints it, with straight quotes and no trailing space.
PROMPT_EOL = 'This sentence: "{text}" means in one word: "'
NO_PROMPT = "{text}"

_SLOT = "{text}"
_TEXTS_AT_ONCE = 1_000
_MEMORY_TOKEN = "<memory_{}>"
# Added tokens that control a model though their tokenizer does not declare them special: DeepSeek's turns, Phi-3's
# </s>. Other names in angle brackets count where the vocabulary lacks them (Qwen3's <think>, not Gemma's <table>).
_CONTROL = re.compile(r"<[|｜].*[|｜]>|</?(s|unk|pad|bos|eos|mask)>", re.DOTALL)
_BRACKETED = re.compile(r"</?[^<>\s]+>")


@dataclass(frozen=True, kw_only=True)
class PromptIds:
    """The token ids that stand before and after every text.

    Attributes:
        before: Ids before the text, the tokenizer's own bos included.
        after: Ids after the text; memory tokens are the last of them.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def split_template(template: str) -> tuple[str, str]:
    """Splits a template into what stands before and after `{text}`.

    Raises:
        InputError: The template does not hold `{text}` exactly once.
    """
    if template.count(_SLOT) != 1:
        raise InputError(f"prompt {template!r}: expected {_SLOT} exactly once, as in {PROMPT_EOL!r}")
    before, after = template.split(_SLOT)
    return before, after


def prompt_ids(tokenizer: PreTrainedTokenizerBase, template: str, memory_tokens: int = 0) -> PromptIds:
    """Tokenizes a prompt once. Names of special tokens in the prompt are those tokens.

    The tokenizer's own bos is kept in front. Its own eos is kept only where nothing else comes after the text:
    otherwise the embedding is read at the prompt's last token or at the memory tokens.

    Memory tokens get the first ids that the tokenizer does not use. An embedding matrix with more rows than the
    tokenizer has tokens may have rows there; no other token uses them.

    Args:
        tokenizer: A fast tokenizer.
        template: Prompt with `{text}` once.
        memory_tokens: Number of memory tokens behind text and prompt.

    Raises:
        InputError: The template is malformed, or the tokenizer is slow or has memory tokens already.
    """
    backend = backend_tokenizer(tokenizer)
    if backend.encode_special_tokens:  # a tokenizer told to read texts as text; a copy forgets it
        backend = Tokenizer.from_str(backend.to_str())
    before, after = split_template(template)
    native = backend.encode("a", add_special_tokens=True)
    special = [i for i, mask in enumerate(native.special_tokens_mask) if mask]
    bare = [i for i in range(len(native.ids)) if i not in special]
    bos = tuple(native.ids[i] for i in special if i < min(bare))
    eos = tuple(native.ids[i] for i in special if i > max(bare))
    before_ids = tuple(backend.encode(before, add_special_tokens=False).ids) if before else ()
    if not memory_tokens:
        return PromptIds(before=bos + before_ids, after=_ids_after_text(backend, after) if after else eos)
    after_ids = _ids_after_text(backend, after) if after else ()
    memory_ids = _add_memory_tokens(Tokenizer.from_str(backend.to_str()), memory_tokens)
    return PromptIds(before=bos + before_ids, after=after_ids + memory_ids)


def _add_memory_tokens(backend: Tokenizer, memory_tokens: int) -> tuple[int, ...]:
    names = [_MEMORY_TOKEN.format(number + 1) for number in range(memory_tokens)]
    if taken := [name for name in names if backend.token_to_id(name) is not None]:
        raise InputError(
            f"tokenizer: has a token {taken[0]} already, like a finished embedder with memory tokens; "
            "expected a language model; give the one it was made from"
        )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    ids: tuple[int, ...] = tuple(backend.token_to_id(name) for name in names)
    return ids


def _ids_after_text(backend: Tokenizer, after: str) -> tuple[int, ...]:
    # A tokenizer that marks the start of an input (SentencePiece) would mark the suffix too if it stood alone.
    encoding = backend.encode("a" + after, add_special_tokens=False)
    ids = [i for i, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start >= 1]
    merged = any(start < 1 < end for start, end in encoding.offsets)
    return tuple(backend.encode(after, add_special_tokens=False).ids if merged else ids)


def backend_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Gives the `tokenizers` object underneath a tokenizer.

    Raises:
        InputError: The tokenizer is in pure Python, without offsets and templates.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {type(tokenizer).__name__}: no character offsets; expected one with a tokenizer.json; "
            "load it with use_fast=True or convert it with transformers' convert_slow_tokenizer"
        )
    return tokenizer.backend_tokenizer


def text_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Copies the `tokenizers` object so that it reads all of a text as text, without truncation and padding.

    Names of special tokens that are spelled out in a text are read piece by piece. A copy of the copy loses part of
    that (`encode_special_tokens` is in no file); transformers sets it anew from `split_special_tokens`.

    Raises:
        InputError: See :func:`backend_tokenizer`.
    """
    backend = Tokenizer.from_str(backend_tokenizer(tokenizer).to_str())
    own = backend.get_vocab(with_added_tokens=False)
    added = list(backend.get_added_tokens_decoder().values())
    declared = set(tokenizer.all_special_tokens)
    control = {
        token.content
        for token in added
        if not token.special
        and (
            token.content in declared
            or _CONTROL.fullmatch(token.content)
            or (token.content not in own and _BRACKETED.fullmatch(token.content))
        )
    }
    if control:
        state = json.loads(backend.to_str())
        for token in state["added_tokens"]:
            token["special"] |= token["content"] in control
        backend = Tokenizer.from_str(json.dumps(state))
    # A model that looks whole stretches of text up in its vocabulary (Unigram, say) finds the names there.
    if not isinstance(backend.model, BPE) or backend.model.ignore_merges:
        special = {token.content for token in added if token.special} | control
        found = sorted(name for name in special if name in own and len(name) > 1)
        if found:
            names = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in found)
            cut = Split(Regex(names), "isolated")
            backend.pre_tokenizer = cut if backend.pre_tokenizer is None else InTurn([backend.pre_tokenizer, cut])
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True
    return backend


def bake_prompt(
    tokenizer: PreTrainedTokenizerBase, template: str, *, max_length: int, memory_tokens: int = 0
) -> PreTrainedTokenizerFast:
    """Makes a new tokenizer that puts prompt and memory tokens around every text.

    It is built from the `tokenizers` object alone, so that neither a chat template nor bos/eos settings come along:
    sentence-transformers would wrap texts in the one, and transformers would rebuild the template for the others.

    Names of special tokens in a text are text, read piece by piece (`split_special_tokens`); a program that reads
    `tokenizer.json` alone does not know that setting. Names in the template are those tokens.

    Args:
        tokenizer: A fast tokenizer.
        template: Prompt with `{text}` once.
        max_length: Number of tokens of a whole input, at most, prompt and memory tokens included; longer texts are cut
            at their end.
        memory_tokens: Number of memory tokens behind text and prompt: `<memory_1>` and so on.

    Raises:
        InputError: The prompt leaves no room for text; or see :func:`prompt_ids`.
    """
    ids = prompt_ids(tokenizer, template, memory_tokens)
    if max_length < len(ids) + 1:
        raise InputError(f"max_length {max_length}: the prompt alone takes {len(ids)} tokens; give a larger number")
    backend = text_backend(tokenizer)
    if memory_tokens:
        _add_memory_tokens(backend, memory_tokens)
    specials, single = [], "$A:0"
    if ids.before:
        specials.append(_special(backend, "<prompt_before>", ids.before))
        single = f"<prompt_before>:0 {single}"
    if ids.after:
        specials.append(_special(backend, "<prompt_after>", ids.after))
        single = f"{single} <prompt_after>:0"
    backend.post_processor = TemplateProcessing(single=single, pair="$A:0 $B:1", special_tokens=specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side="right",
        truncation_side="right",
        pad_token=padding_token(tokenizer),
        split_special_tokens=True,
        **{
            name: getattr(tokenizer, name)
            for name in ("bos_token", "eos_token", "unk_token")
            if getattr(tokenizer, name, None) is not None
        },
    )


def as_read(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """Cuts texts behind the last of their tokens that a prompted tokenizer leaves in, see :func:`bake_prompt`.

    A text that fits whole stays as it is.
    """
    found = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = list(texts[start : start + _TEXTS_AT_ONCE])
        encoded = tokenizer(some, truncation=True, return_offsets_mapping=True)
        for text, ids, offsets in zip(some, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            full = len(ids) == tokenizer.model_max_length
            found.append(text[: max(end for _, end in offsets)] if full else text)  # the prompt's offsets are (0, 0)
    return found


def _special(backend: Tokenizer, name: str, ids: tuple[int, ...]) -> dict[str, Any]:
    return {"id": name, "ids": list(ids), "tokens": [backend.id_to_token(i) for i in ids]}


def padding_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """Chooses a padding token other than bos and eos out of those that the tokenizer has.

    Here only the attention mask decides what is padding; a distinct token keeps other programs from taking a real eos
    for padding. Where the tokenizer has no such token, its eos (or its token 0) is taken.
    """
    taken = {tokenizer.bos_token, tokenizer.eos_token}
    pad: str | None = tokenizer.pad_token
    if pad is not None and pad not in taken:
        return pad
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    free = [token for token in added if token not in taken and token != tokenizer.unk_token]
    named = [token for token in free if "pad" in token.lower()]
    unknown = [tokenizer.unk_token] if tokenizer.unk_token and tokenizer.unk_token not in taken else []
    fallback = [pad or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)]
    names: list[str] = named + unknown + free + fallback
    return names[0]


def check_text(tokenizer: PreTrainedTokenizerBase, baked: PreTrainedTokenizerBase) -> None:
    """Proves that a tokenizer still reads names of special tokens as text after it was saved and loaded.

    Args:
        tokenizer: The loaded tokenizer.
        baked: The tokenizer that was saved.

    Raises:
        InputError: The two read such names differently.
    """
    names = [token.content for token in baked.added_tokens_decoder.values()]
    text = "".join(f"a{name} {name}" for name in names)
    found, expected = (one(text, truncation=False, verbose=False)["input_ids"] for one in (tokenizer, baked))
    if found != expected:
        raise InputError(
            "tokenizer: reads special tokens that are spelled out in a text otherwise once it is saved and loaded; "
            "expected text; please report this with the model's name"
        )


def check_prompt(tokenizer: PreTrainedTokenizerBase, ids: PromptIds) -> None:
    """Proves on a short and on an over-long text that the whole prompt stands around the text.

    Args:
        tokenizer: The tokenizer with the prompt.
        ids: Ids that it shall put before and after every text.

    Raises:
        InputError: The tokenizer does not apply the prompt.
    """
    for text in ("a", "river stone " * tokenizer.model_max_length):
        encoded = tuple(tokenizer(text, truncation=True)["input_ids"])
        whole = encoded[: len(ids.before)] == ids.before and encoded[len(encoded) - len(ids.after) :] == ids.after
        if not whole or not len(ids) < len(encoded) <= tokenizer.model_max_length:
            raise InputError(
                "prompt: did not survive in the tokenizer; expected its ids around every text, not "
                f"{encoded[:4]}...{encoded[-4:]}; remove bos/eos settings and chat templates from the tokenizer config"
            )
