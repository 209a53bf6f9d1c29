"""selfembed turns any decoder-only language model into a text embedder, from unlabelled text alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfembed.data.corpus import Corpus
    from selfembed.doctor import examine
    from selfembed.errors import InputError
    from selfembed.explanation.aligned_tokens import aligned_tokens
    from selfembed.losses.token_target import TokenTargetLoss
    from selfembed.model.backbone import load_backbone
    from selfembed.model.embedder import EmbedderConfig, build_embedder
    from selfembed.recipes import Recipe, Stage
    from selfembed.training.run import train

_HOMES = {
    "Corpus": "data.corpus",
    "EmbedderConfig": "model.embedder",
    "InputError": "errors",
    "Recipe": "recipes",
    "Stage": "recipes",
    "TokenTargetLoss": "losses.token_target",
    "aligned_tokens": "explanation.aligned_tokens",
    "build_embedder": "model.embedder",
    "examine": "doctor",
    "load_backbone": "model.backbone",
    "train": "training.run",
}

__all__ = [
    "Corpus",
    "EmbedderConfig",
    "InputError",
    "Recipe",
    "Stage",
    "TokenTargetLoss",
    "aligned_tokens",
    "build_embedder",
    "examine",
    "load_backbone",
    "train",
]


def __getattr__(name: str) -> Any:
    # Importing torch and transformers takes seconds: it waits until something is used.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"selfembed.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
