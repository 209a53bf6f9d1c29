"""A model's tokenizer as its tokenizer.json defines it, whatever class the folder names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

_FILE = "tokenizer.json"
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
