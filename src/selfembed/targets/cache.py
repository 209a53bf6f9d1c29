"""Stored targets: computed once for a content fingerprint of everything they depend on, then read from the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_texts
from selfembed.ground.files import cache_dir
from selfembed.ground.hashing import content_hash
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import Backbone
from selfembed.model.tokenizer import tokenizer_hash
from selfembed.targets.data_driven import DataDrivenOptions, TokenStatistics
from selfembed.targets.token_targets import TokenTargets

Stored = TypeVar("Stored", TokenTargets, TokenStatistics)
_FORMAT = 4  # part of every key: raise it when what is computed changes


def stored(kind: str, key: list[Any], form: type[Stored], compute: Callable[[], Stored]) -> Stored:
    """Reads a result from the cache, or computes and stores it.

    Args:
        kind: Name of the folder in the cache.
        key: All that the result depends on, code aside: JSON-like parts and dataclasses.
        form: Class of the result, which can save and load itself.
        compute: Computes the result.

    Raises:
        InputError: The disk is full or not writable.
    """
    file: Path = cache_dir() / kind / f"{content_hash(_FORMAT, kind, *key)[:32]}.safetensors"
    if file.exists():
        return form.load(file)
    value = compute()
    value.save(file)
    return value


def stored_statistics(
    backbone: Backbone, corpus: Corpus, options: DataDrivenOptions, *, most: int, progress: Progress = silent
) -> TokenStatistics:
    """Counts document frequencies over a corpus, or over a seeded sample of `most` of its texts."""
    own = [backbone.fingerprint, tokenizer_hash(backbone.tokenizer)]
    key = [*own, corpus.fingerprint, most, options.leading_space, options.variants]

    def count() -> TokenStatistics:
        texts = choose_texts(corpus.texts(), most, seed=0)
        return TokenStatistics.collect(
            (text for batch in texts.iter(1000) for text in batch["text"]),
            backbone.tokenizer,
            options,
            backbone.vocab_size,
            progress=lambda task, done, _: progress(task, done, len(texts)),
        )

    return stored("statistics", key, TokenStatistics, count)


def summary(targets: TokenTargets) -> dict[str, Any]:
    """Summarises support, entropy (nats) and effective support of the texts that have a target."""
    filled_N = targets.support_N > 0
    if not filled_N.any():
        return {"texts": len(targets)}
    return {
        "texts": len(targets),
        "support_mean": round(float(targets.support_N[filled_N].mean()), 2),
        "entropy_mean_nats": round(float(targets.entropy_N[filled_N].mean()), 4),
        "effective_support_quartiles": [
            round(float(q), 2) for q in np.quantile(targets.effective_support_N[filled_N], (0.25, 0.5, 0.75))
        ],
    }
