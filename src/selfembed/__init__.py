"""selfembed turns any decoder-only language model into a text embedder, from unlabelled text alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfembed.backbone import load_backbone
    from selfembed.corpus import Corpus
    from selfembed.doctor import examine
    from selfembed.embedder import EmbedderConfig, build_embedder
    from selfembed.errors import InputError
    from selfembed.explain.aligned_tokens import aligned_tokens
    from selfembed.losses.token_target import TokenTargetLoss
    from selfembed.recipes import Recipe, Stage
    from selfembed.training import train

_HOMES = {
    "Corpus": "corpus",
    "EmbedderConfig": "embedder",
    "InputError": "errors",
    "Recipe": "recipes",
    "Stage": "recipes",
    "TokenTargetLoss": "losses.token_target",
    "aligned_tokens": "explain.aligned_tokens",
    "build_embedder": "embedder",
    "examine": "doctor",
    "load_backbone": "backbone",
    "train": "training",
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
    globals()[name] = value  # a sub-module of the same name (train) must not win over the function
    return value
