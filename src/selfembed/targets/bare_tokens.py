"""A tokenizer's ids of texts alone, as targets count them.

Shapes: B texts of one batch, T their tokens, C their characters, W their kept words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING

import numpy as np

from selfembed.errors import InputError
from selfembed.model.prompt import text_backend
from selfembed.targets.tagger import Span

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

_BATCH = 1000


class BareTokenizer:
    """A tokenizer that reads texts alone: no prompt, no truncation, no padding, and no special tokens in texts either.

    Args:
        tokenizer: Any fast transformers tokenizer, which is not changed.
        vocab_size: V, the number of rows of the decoder layer.
        leading_space: Whether the first word is tokenised like a later one. Tokenizers that do so anyway get no space.

    Raises:
        InputError: The tokenizer is a slow one, which does not say which characters a token comes from.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, *, leading_space: bool = True) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                f"tokenizer {type(tokenizer).__name__}: a slow tokenizer without character offsets; expected a fast "
                "one; load it from a folder with tokenizer.json"
            )
        self.vocab_size = vocab_size
        self.special = np.array([i for i in tokenizer.all_special_ids if i < vocab_size], np.int64)
        self._backend = text_backend(tokenizer)
        probe = self._backend.encode("a a", add_special_tokens=False).ids
        alike = probe[: len(probe) // 2] == probe[len(probe) // 2 :]
        self.prefix = " " if leading_space and not alike else ""

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Gives `ids_T` and `row_T` (int64): all tokens of the texts, and the text that each belongs to."""
        return self._flat(self._backend.encode_batch_fast(self._prefixed(texts), add_special_tokens=False))

    def ids_and_kept(self, texts: Sequence[str], words: Sequence[list[Span]]) -> tuple[np.ndarray, ...]:
        """Gives the same as `ids`, and `kept_T` (bool): whether a token shares a character with a word of its text."""
        prefixed = self._prefixed(texts)
        encodings = self._backend.encode_batch(prefixed, add_special_tokens=False)
        ids_T, row_T = self._flat(encodings)
        # All texts on one line of characters; words do not cover white space, so a token's own does not matter.
        base_B = np.fromiter(accumulate(map(len, prefixed), initial=0), np.int64)
        owner_W = np.repeat(np.arange(len(texts)), [len(spans) for spans in words])
        word_W2 = np.array([span[:2] for span in chain.from_iterable(words)], np.int64).reshape(-1, 2)
        word_W2 += (base_B[owner_W] + len(self.prefix))[:, None]
        edges_C = np.bincount(word_W2[:, 0], minlength=base_B[-1] + 1) - np.bincount(
            word_W2[:, 1], minlength=base_B[-1] + 1
        )
        covered_C1 = np.concatenate([[0], np.cumsum(np.cumsum(edges_C) > 0)])
        offsets = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        token_T2 = np.fromiter(offsets, np.int64, 2 * len(ids_T)).reshape(-1, 2) + base_B[row_T][:, None]
        return ids_T, row_T, covered_C1[token_T2[:, 1]] > covered_C1[token_T2[:, 0]]

    def _prefixed(self, texts: Sequence[str]) -> list[str]:
        return [self.prefix + text for text in texts]

    def _flat(self, encodings: Sequence[Encoding]) -> tuple[np.ndarray, np.ndarray]:
        rows = [encoding.ids for encoding in encodings]
        lengths_B = np.fromiter(map(len, rows), np.int64, len(rows))
        ids_T = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths_B.sum()))
        if len(ids_T) and ids_T.max() >= self.vocab_size:
            raise InputError(
                f"tokenizer: gives id {ids_T.max()}, but the decoder layer has {self.vocab_size} rows; "
                "expected the backbone's own tokenizer"
            )
        return ids_T, np.repeat(np.arange(len(rows)), lengths_B)


def chunked(texts: Iterable[str], size: int = _BATCH) -> Iterator[list[str]]:
    """Cuts a stream of texts into lists of at most `size`."""
    stream = iter(texts)
    while batch := list(islice(stream, size)):
        yield batch


def number_of(texts: Iterable[str]) -> int | None:
    """Counts the texts where that is possible without reading them; None elsewhere."""
    return len(texts) if isinstance(texts, Sized) else None
