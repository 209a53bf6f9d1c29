"""Short training runs on tiny models, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed.model.backbone import Backbone, load_backbone
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.model.folder import RunRecord
from selfembed.model.lora import Lora, lora_config
from selfembed.recipes import find_recipe
from selfembed.training.run import train

PROMPT = 'a "{text}" b "'
SETTINGS: dict[str, Any] = {
    "steps": 3,
    "batch_size": 4,
    "max_length": 48,
    "prompt": PROMPT,
    "learning_rate": 1e-2,
    "temperature": 1e-2,
}


def short_train(model: Path, out: Path, *, recipe: Any = "text2token", **options: Any) -> SentenceTransformer:
    """`train()` on the CPU with `SETTINGS`, changed by `settings`; all in float32 unless options say otherwise."""
    settings = {**SETTINGS, **options.pop("settings", {})}
    corpus = options.pop("corpus", None) or iter(SENTENCES)
    return train(
        model,
        corpus,
        recipe,
        out=out,
        settings=settings,
        dtype=options.pop("dtype", "float32"),
        saved_dtype=options.pop("saved_dtype", "float32"),
        device="cpu",
        tagger="hanta",
        **options,
    )


def assert_gradient_close(found: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """Small entries are sums of large ones, so the error is held against the largest."""
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * expected.abs().max().item() + 1e-8, msg=name)


def run_record(**changes: Any) -> RunRecord:
    """The record of a run that never was."""
    values: dict[str, Any] = {
        "model": "m",
        "model_fingerprint": "f" * 64,
        "corpus": "c",
        "corpus_fingerprint": "0" * 64,
        "corpus_report": {"texts": 60, "words": 600, "skipped": {}},
        "recipe": find_recipe("text2token").to_dict(),
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "tagger": "none",
        "stages": [],
        "environment": {},
        "peak_memory_gib": 1.0,
    }
    return RunRecord(**{**values, **changes})


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def plain_embedder(
    folder: Path, *, max_length: int = 64, **config: Any
) -> tuple[SentenceTransformer, Backbone, EmbedderConfig]:
    """The untrained embedder of a folder, with the short prompt."""
    backbone = load_backbone(folder)
    read_as = EmbedderConfig(**{"prompt": PROMPT, **config})
    return build_embedder(backbone, read_as, max_length=max_length, device="cpu"), backbone, read_as


def add_random_adapter(embedder: SentenceTransformer, *, seed: int = 0, dropout: float = 0.05) -> None:
    """An adapter whose update is not zero, as after training."""
    embedder.add_adapter(lora_config(embedder.transformers_model, Lora(r=4, alpha=8, dropout=dropout)))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
