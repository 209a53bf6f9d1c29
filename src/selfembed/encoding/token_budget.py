"""Which texts share a forward pass: as many as their tokens permit, texts of one length together.

Shapes: N texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfembed.errors import InputError

_CHUNK = 512  # texts, of about one length in characters, that are put in order by their tokens together
_CPU_TOKENS = 2_048  # 8 texts of 256 tokens; more leave a CPU's caches (docs/log.md)
_GPU_TOKENS = 16_384

TokenCounts = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TokenBudget:
    """How much goes through a model at a time.

    Args:
        texts: at most that many in a batch.
        tokens: at most that many in a batch, prompt and padding included; a single longer text is a batch by itself.
            None cuts batches by the number of texts alone, in the order of their characters.
        short: texts of at most that many characters are cut by their number alone.

    Raises:
        InputError: a number that is too small.
    """

    texts: int = 128
    tokens: int | None = None
    short: int = 0

    def __post_init__(self) -> None:
        if self.texts < 1:
            raise InputError(f"batch size {self.texts}: expected at least 1")
        if self.tokens is not None and self.tokens < 1:
            raise InputError(f"tokens {self.tokens} of a batch: expected at least 1, or None")


def budget_on(device: Any, **settings: Any) -> TokenBudget:
    """Gives the budget of a device, for a model of any size.

    Args:
        device: as torch takes it.
        **settings: of the :class:`TokenBudget`, where they shall differ.
    """
    tokens = _CPU_TOKENS if torch.device(device).type == "cpu" else _GPU_TOKENS
    return TokenBudget(**{"tokens": tokens, **settings})


def batches_within(texts: Sequence[str], budget: TokenBudget, count_tokens: TokenCounts) -> Iterator[list[int]]:
    """Yields the rows of each batch; every row once.

    Long texts come first: texts of one length share a batch, and memory runs out at once or not at all. They are put
    in order by their characters, and 512 at a time by their tokens, as padding costs what text costs.

    Args:
        texts: N, in any order.
        budget: of a batch.
        count_tokens: gives the tokens of texts, prompt included, as they go into the model; zeros where it has none.
    """
    order_N = np.argsort([-len(text) for text in texts], kind="stable")
    size = budget.texts * max(1, _CHUNK // budget.texts)  # whole batches
    for start in range(0, len(order_N), size):
        chunk_N = order_N[start : start + size]
        if budget.tokens is None or len(texts[chunk_N[0]]) <= budget.short:
            yield from (chunk_N[i : i + budget.texts].tolist() for i in range(0, len(chunk_N), budget.texts))
            continue
        tokens_N = count_tokens([texts[row] for row in chunk_N])
        by_tokens_N = np.argsort(-tokens_N, kind="stable")
        first = 0
        while first < len(chunk_N):
            longest = max(1, int(tokens_N[by_tokens_N[first]]))
            last = first + max(1, min(budget.texts, budget.tokens // longest))
            yield chunk_N[by_tokens_N[first:last]].tolist()
            first = last
