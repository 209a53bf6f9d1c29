"""Which texts share a forward pass: as many as their tokens permit, texts of one length together.

Shapes: N texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from selfembed.ground.options import Range, check_options

_CHUNK = 512  # texts, of about one length in characters, that are put in order by their tokens together
_CPU_TOKENS = 2_048  # 8 texts of 256 tokens; more leave a CPU's caches (docs/log.md)
_GPU_TOKENS = 16_384

TokenCounts = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TokenBudget:
    """How much goes through a model at a time.

    Args:
        batch_size: Number of texts in a batch, at most.
        tokens: Number of tokens in a batch, at most, prompt and padding included; a longer text is a batch by itself.
            None cuts batches by the number of texts alone, in the order of their characters.
        short: Number of characters up to which texts are cut into batches by their number alone.

    Raises:
        InputError: A number is too small.
    """

    batch_size: Annotated[int, Range(least=1)] = 128
    tokens: Annotated[int, Range(least=1)] | None = None
    short: Annotated[int, Range(least=0)] = 0

    def __post_init__(self) -> None:
        check_options(self)


def budget_on(device: Any, **settings: Any) -> TokenBudget:
    """Gives the budget of a device, for a model of any size.

    Args:
        device: The device, as torch takes it.
        **settings: Fields of the :class:`TokenBudget` that shall differ.
    """
    tokens = _CPU_TOKENS if torch.device(device).type == "cpu" else _GPU_TOKENS
    return TokenBudget(**{"tokens": tokens, **settings})


def batches_within(texts: Sequence[str], budget: TokenBudget, count_tokens: TokenCounts) -> Iterator[list[int]]:
    """Yields the rows of each batch; every row once.

    Long texts come first: texts of one length share a batch, and memory runs out at once or not at all. They are
    sorted by their characters, and 512 at a time by their tokens, as padding costs as much as text.

    Args:
        texts: N texts, in any order.
        budget: Size of a batch.
        count_tokens: Counts the tokens of texts as they go into the model, prompt included; zeros where a model has
            no tokens.
    """
    order_N = np.argsort([-len(text) for text in texts], kind="stable")
    size = budget.batch_size * max(1, _CHUNK // budget.batch_size)  # whole batches
    for start in range(0, len(order_N), size):
        chunk_N = order_N[start : start + size]
        if budget.tokens is None or len(texts[chunk_N[0]]) <= budget.short:
            yield from (chunk_N[i : i + budget.batch_size].tolist() for i in range(0, len(chunk_N), budget.batch_size))
            continue
        tokens_N = count_tokens([texts[row] for row in chunk_N])
        by_tokens_N = np.argsort(-tokens_N, kind="stable")
        first = 0
        while first < len(chunk_N):
            longest = max(1, int(tokens_N[by_tokens_N[first]]))
            last = first + max(1, min(budget.batch_size, budget.tokens // longest))
            yield chunk_N[by_tokens_N[first:last]].tolist()
            first = last
