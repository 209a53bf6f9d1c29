"""What objectives are given, on tiny models, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import plain_embedder
from tiny import SENTENCES

from selfembed.data.corpus import Corpus
from selfembed.objectives.objective import Budget, Material
from selfembed.targets.tagger import load_tagger


def material_of(folder: Path, texts: Sequence[str] = SENTENCES, **given: Any) -> Material:
    """Material of a model in a folder, without an adapter unless `adapt` puts one on; options of the embedder aside,
    what is given is the material's own.
    """
    reading = {name: given.pop(name) for name in ("pooling", "attention", "prompt", "memory_tokens") if name in given}
    adapt = given.pop("adapt", lambda embedder: None)
    embedder, backbone, config = plain_embedder(folder, **reading)
    adapt(embedder)
    return Material(
        **{
            "backbone": backbone,
            "reading": config,
            "make_embedder": lambda: embedder,
            "make_head": backbone.head,
            "corpus": Corpus(iter(SENTENCES)),
            "texts": texts,
            "tagger": load_tagger("hanta"),
            "statistics_texts": 1000,
            "budget": Budget(steps=2, batch_size=4),
            **given,
        }
    )
