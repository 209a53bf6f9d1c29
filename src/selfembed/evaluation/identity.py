"""What is evaluated: an embedder's name, its settings, and the training run that made it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from selfembed.ground.hashing import content_hash
from selfembed.model.attention import probe_attention
from selfembed.model.folder import RunRecord

# of a training run's record, what makes two runs differ in nothing but the seed
_PLAN = ("model_fingerprint", "corpus_fingerprint", "recipe", "dtype", "device", "tagger")


def training_run(embedder: str | Path | SentenceTransformer) -> dict[str, Any] | None:
    """Returns the recipe and seed of the training run that made a folder, and a content hash of the rest of its plan.

    Returns:
        The keys `recipe`, `seed` and `plan`; None where :func:`selfembed.train` has not made the folder.

    Raises:
        InputError: The record in the folder is damaged.
    """
    record = None if isinstance(embedder, SentenceTransformer) else RunRecord.of_folder(embedder)
    if record is None:
        return None
    plan = {name: getattr(record, name) for name in _PLAN}
    return {"recipe": record.recipe["name"], "seed": record.seed, "plan": content_hash(plan)}


def embedder_settings(embedder: SentenceTransformer) -> dict[str, Any]:
    """Describes what an embedder does to a text before there is a vector.

    Returns:
        Plain JSON values by name; `input` shows what the tokenizer puts around `{text}` (prompt, special tokens).
    """
    length = embedder.max_seq_length  # infinite for static embeddings
    pooling = next((module for module in embedder if isinstance(module, Pooling)), None)
    config = getattr(embedder.transformers_model, "config", None)
    return {
        "input": _input(embedder.tokenizer),
        "prompts": {key: value for key, value in (embedder.prompts or {}).items() if value},
        "pooling": pooling.pooling_mode if pooling else None,
        "attention": _attention(embedder),
        "attention_implementation": getattr(config, "_attn_implementation", None),
        "max_length": length if length is not None and math.isfinite(length) else None,
        "normalized": any(type(module).__name__ == "Normalize" for module in embedder),
        "similarity": str(embedder.similarity_fn_name) if embedder.similarity_fn_name else "cosine",
        "dimensions": embedder.get_embedding_dimension(),
        "dtype": str(embedder.dtype).removeprefix("torch."),
        "device": str(embedder.device),
    }


def _attention(embedder: SentenceTransformer) -> str | None:
    """Returns the kind of attention as the configuration states it, else as the leak probe finds it."""
    config = getattr(embedder.transformers_model, "config", None)
    stated = getattr(config, "is_causal", None)
    if stated is not None:
        return "causal" if stated else "bidirectional"
    try:
        return probe_attention(embedder.transformers_model).verdict
    except Exception:  # a kind of model that the probe was not made for, such as static embeddings
        return None


def _input(tokenizer: Any) -> str | None:
    marker = "text"
    try:
        whole = tokenizer.decode(tokenizer(marker)["input_ids"])
    except Exception:  # not every tokenizer has transformers' interface
        return None
    before, found, after = whole.rpartition(marker)
    return f"{before}{{text}}{after}" if found else whole


def name_of(embedder: str | Path | SentenceTransformer) -> str:
    """Names an embedder: after its folder, its hub id, or its model card."""
    if isinstance(embedder, SentenceTransformer):
        return embedder.model_card_data.model_name or embedder.model_card_data.base_model or "embedder"
    return Path(embedder).resolve().name if Path(embedder).is_dir() else str(embedder)
