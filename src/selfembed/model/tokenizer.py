"""A model's tokenizer as its tokenizer.json defines it, whatever class the folder names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from selfembed.errors import InputError
from selfembed.ground.hashing import content_hash
from selfembed.model.prompt import padding_token, text_backend

_FILE = "tokenizer.json"
# What tokenizers are built from where there is no such file.
_PARTS = ("*.model", "vocab.*", "merges.txt", "tekken.json", "*.tiktoken")
# Tokens that serve by their names: decoders read the first, memory vectors may start from the second.
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
# Words, digits, punctuation, white space, accents and a script without spaces: where tokenizers part ways.
_PROBE = "The teacher sold two wooden chairs.  It's 12,345 o'clock -- naïve café\n\tand 你好 мир"


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Loads a tokenizer and compares it with its tokenizer.json.

    Some classes build the tokenizer anew and ignore that file; where the pieces of a probe differ, the file is read by
    the plain class instead. A regular expression of Mistral's that transformers knows to be wrong is mended
    (`fix_mistral_regex`); other tokenizers ignore that option.

    Args:
        folder: Folder of the model.
        trust_remote_code: Whether the tokenizer's own Python code may run.
    """
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(folder, fix_mistral_regex=True, **options)
    file = folder / _FILE
    if not tokenizer.is_fast or not file.is_file():
        return tokenizer
    written = Tokenizer.from_file(str(file)).encode(_PROBE, add_special_tokens=False).ids
    if _pieces(tokenizer) == written or _pieces(AutoTokenizer.from_pretrained(folder, **options)) == written:
        return tokenizer  # as it is written, or as it is written but for the mended expression
    return PreTrainedTokenizerFast.from_pretrained(folder, fix_mistral_regex=True)


def _pieces(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    return ids


def tokenizer_files(folder: Path) -> list[Path]:
    """Lists the tokenizer.json of a folder, or the files that a tokenizer is built from where there is none."""
    return list(folder.glob(_FILE)) or sorted({file for part in _PARTS for file in folder.glob(part)})


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hashes what decides a tokenizer's ids."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # These change with use: they are those of the last call.
    settings = {name: value for name, value in backend.items() if name not in ("padding", "truncation")}
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    return content_hash(settings, sorted(tokenizer.all_special_ids), split)


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hashes what decides a tokenizer's ids, and which tokens it names.

    It is that of the tokenizer as it was loaded: what tokenizer_config.json and special_tokens_map.json add to
    tokenizer.json counts, what they say about chats does not.
    """
    return content_hash(tokenizer_hash(tokenizer), [str(getattr(tokenizer, name, None)) for name in _NAMED])


def require_rows(name: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Refuses a tokenizer that gives a text or padding an id beyond the model's embeddings.

    Special tokens may have none, like the image token of Gemma 3: no text is read as one.

    Args:
        name: Name of the model, for messages.
        tokenizer: A fast tokenizer.
        rows: Number of tokens that the model knows.

    Raises:
        InputError: It gives such an id.
    """
    if len(tokenizer) <= rows:
        return
    backend = text_backend(tokenizer)
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    special.discard(padding_token(tokenizer))
    beyond = {token: i for token, i in backend.get_vocab().items() if i >= rows and token not in special}
    if beyond:
        token = min(beyond, key=lambda token: beyond[token])
        raise InputError(
            f"model {name}: its tokenizer has the token {token!r} of number {beyond[token]}, and its config.json only "
            f"{rows} tokens; expected the tokenizer that belongs to the weights"
        )
