"""From texts to vectors: the one loop over batches, for evaluation, search and explanation.

Shapes: N texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from selfembed.encoding.known import KnownVectors
from selfembed.encoding.store import TemporaryStore, Vectors, text_key
from selfembed.encoding.token_budget import TokenBudget, batches_within, budget_on
from selfembed.errors import InputError
from selfembed.ground.page import shorten
from selfembed.ground.progress import Progress, silent

Role = Literal["query", "document"]

_STORED = 512  # texts that are written together, at least


def encode(
    embedder: SentenceTransformer,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    role: Role | None = None,
    budget: TokenBudget | None = None,
    store: Vectors | None = None,
    progress: Progress = silent,
    task: str = "encoding",
    **settings: Any,
) -> np.ndarray:
    """Encodes texts, each distinct one once, in batches of a token budget.

    The vectors are those of `embedder.encode` up to rounding: which texts share a batch changes the last digits in
    float32, and the third digit in bfloat16.

    Args:
        embedder: Any SentenceTransformer.
        texts: N, in any order, repetitions allowed.
        prompt: Prompt before every text; None takes the embedder's own for that role.
        role: Whether the texts are queries or documents, where the embedder tells them apart.
        budget: Size of a batch; None takes :func:`~selfembed.encoding.token_budget.budget_on` the embedder's device.
        store: Vectors that are known already, to which new ones are added. They must be of this embedder, at this
            maximum length, in this dtype and under these settings. None keeps none.
        progress: Told how many of the texts that are not in the store are encoded.
        task: Name of the work for `progress`.
        **settings: Anything else that `SentenceTransformer.encode` takes, such as `normalize_embeddings`.

    Returns:
        `vectors_ND`, float32, in the order of the texts.

    Raises:
        InputError: A vector is zero or not finite, or the store cannot be written.
    """
    if not texts:
        return np.empty((0, embedder.get_embedding_dimension() or 0), dtype=np.float32)
    prompt = prompt_of(embedder, role) if prompt is None else prompt
    route = role if role and any(isinstance(module, Router) for module in embedder) else ""
    store = TemporaryStore() if store is None else store
    keys = [text_key(prompt, route, text) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in store}
    new_keys, new_texts = list(missing), list(missing.values())
    waiting: list[tuple[list[bytes], np.ndarray]] = []
    for rows, vectors_ND in encoded_batches(
        embedder, new_texts, prompt=prompt, role=role, budget=budget, progress=progress, task=task, **settings
    ):
        waiting.append(([new_keys[row] for row in rows], vectors_ND))
        if sum(len(part) for part, _ in waiting) >= _STORED:
            _add(store, waiting)
    _add(store, waiting)
    return store.get(keys)


def encoded_batches(
    embedder: SentenceTransformer | KnownVectors,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    role: Role | None = None,
    budget: TokenBudget | None = None,
    progress: Progress = silent,
    task: str = "encoding",
    **settings: Any,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields rows of texts that share a forward pass and their vectors, for what keeps no vectors; see `encode`.

    Returns:
        The rows of each batch, every row once, and their `vectors_BD`, float32.

    Raises:
        InputError: A vector is zero or not finite.
    """
    if isinstance(embedder, KnownVectors):  # no forward passes
        for start in range(0, len(texts), _STORED):
            known = list(range(start, min(start + _STORED, len(texts))))
            yield known, embedder.encode([texts[row] for row in known])
            progress(task, known[-1] + 1, len(texts))
        return
    prompt = prompt_of(embedder, role) if prompt is None else prompt
    for rows in text_batches(embedder, texts, prompt=prompt, role=role, budget=budget, progress=progress, task=task):
        yield rows, _vectors(embedder, [texts[row] for row in rows], prompt, role, settings)


def text_batches(
    embedder: SentenceTransformer,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    role: Role | None = None,
    budget: TokenBudget | None = None,
    progress: Progress = silent,
    task: str = "encoding",
) -> Iterator[list[int]]:
    """Yields the rows of texts that share a forward pass, and reports progress; for the arguments see `encode`."""
    budget = budget_on(embedder.device) if budget is None else budget
    prompt = prompt_of(embedder, role) if prompt is None else prompt

    def count_tokens(chunk: Sequence[str]) -> np.ndarray:
        features = embedder.preprocess(list(chunk), prompt=prompt, **({"task": role} if role else {}))
        mask = features.get("attention_mask")
        return np.zeros(len(chunk), dtype=np.int64) if mask is None else mask.sum(-1).cpu().numpy()

    done = 0
    for rows in batches_within(texts, budget, count_tokens):
        progress(task, done, len(texts))
        yield rows
        done += len(rows)
    if done:
        progress(task, done, len(texts))


def prompt_of(embedder: SentenceTransformer, role: Role | None = None) -> str:
    """Gives the prompt of an embedder for texts of a role, as sentence-transformers chooses it; "" for none."""
    prompts = embedder.prompts or {}
    names = {"query": ("query",), "document": ("document", "passage", "corpus"), None: ()}[role]
    name = next((name for name in names if name in prompts), embedder.default_prompt_name)
    return prompts.get(name or "") or ""


def _vectors(
    embedder: SentenceTransformer, texts: list[str], prompt: str, role: Role | None, settings: dict[str, Any]
) -> np.ndarray:
    """One forward pass."""
    methods = {"query": embedder.encode_query, "document": embedder.encode_document, None: embedder.encode}
    vectors_ND = methods[role](
        texts, prompt=prompt, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True, **settings
    )
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    good_N = np.isfinite(vectors_ND).all(-1) & (vectors_ND != 0).any(-1)
    if not good_N.all():
        row = int(np.flatnonzero(~good_N)[0])
        kind = "zero" if np.isfinite(vectors_ND[row]).all() else "not finite (NaN or infinite)"
        raise InputError(
            f"the embedder's vector of {shorten(texts[row], 60)!r} is {kind}; expected numbers; use it in float32, or "
            "with eager attention; if that does not help, training has diverged and needs a lower learning rate"
        )
    return vectors_ND


def _add(store: Vectors, waiting: list[tuple[list[bytes], np.ndarray]]) -> None:
    """Hands over what waits, if anything does."""
    if waiting:
        store.add([key for keys, _ in waiting for key in keys], np.concatenate([part for _, part in waiting]))
        waiting.clear()
