"""EBAE's target: uniform over the distinct tokens of a text (Llama2Vec, arXiv 2312.15503; Text2Token's baseline).

Shapes: B texts of one batch, U distinct (text, token) pairs in it, T tokens of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from selfembed.ground.progress import Progress, silent
from selfembed.targets.bare_tokens import BareTokenizer, chunked, number_of
from selfembed.targets.token_targets import TokenTargets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_bag_of_tokens(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    *,
    leading_space: bool = True,
    progress: Progress = silent,
) -> TokenTargets:
    """Builds targets in which each token of a text weighs the same, however often it occurs.

    Args:
        texts: Full texts; row i of the result is text i, empty where the text has no token.
        tokenizer: The backbone's tokenizer, a fast one. Special tokens and the prompt do not count.
        vocab_size: V, the number of rows of the decoder layer.
        leading_space: Whether the first word is tokenised like a word inside a sentence.
        progress: Told after each batch how many texts are done.

    Raises:
        InputError: The tokenizer is slow or gives ids that the decoder layer lacks.
    """
    bare = BareTokenizer(tokenizer, vocab_size, leading_space=leading_space)
    supports, ids, weights = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    done = 0
    for batch in chunked(texts):
        ids_T, row_T = bare.ids(batch)
        plain_T = ~np.isin(ids_T, bare.special)
        row_U, ids_U = np.divmod(np.unique((row_T * vocab_size + ids_T)[plain_T]), vocab_size)
        support_B = np.bincount(row_U, minlength=len(batch))
        supports.append(support_B)
        ids.append(ids_U.astype(np.int32))
        weights.append((1.0 / support_B[row_U]).astype(np.float32))
        done += len(batch)
        progress("bag-of-tokens targets", done, number_of(texts))
    return TokenTargets(
        offsets_N1=np.cumsum(np.concatenate(supports), dtype=np.int64),
        ids_S=np.concatenate(ids),
        weights_S=np.concatenate(weights),
        vocab_size=vocab_size,
    )
