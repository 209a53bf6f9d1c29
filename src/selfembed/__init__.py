"""selfembed turns any decoder-only language model into a text embedder, from unlabelled text alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfembed.calibration.calibrate import calibrate
    from selfembed.data.corpus import Corpus
    from selfembed.doctor import examine
    from selfembed.errors import InputError
    from selfembed.evaluation.compare import compare
    from selfembed.evaluation.run import evaluate
    from selfembed.explanation.explain import explain
    from selfembed.model.backbone import load_backbone
    from selfembed.model.embedder import load_embedder
    from selfembed.recipes import Recipe, Stage
    from selfembed.training.run import train

_HOMES = {
    "Corpus": "data.corpus",
    "InputError": "errors",
    "Recipe": "recipes",
    "Stage": "recipes",
    "calibrate": "calibration.calibrate",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.run",
    "examine": "doctor",
    "explain": "explanation.explain",
    "load_backbone": "model.backbone",
    "load_embedder": "model.embedder",
    "train": "training.run",
}

__all__ = [
    "Corpus",
    "InputError",
    "Recipe",
    "Stage",
    "calibrate",
    "compare",
    "evaluate",
    "examine",
    "explain",
    "load_backbone",
    "load_embedder",
    "train",
]


def __getattr__(name: str) -> Any:
    # Importing torch and transformers takes seconds: it waits until something is used.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"selfembed.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
