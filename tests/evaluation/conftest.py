"""Two embedders that differ in their weights alone, in folders of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import save_tiny


def save_embedder(folder: Path, *, seed: int) -> Path:
    backbone = save_tiny("llama", folder / "backbone", tied=True, seed=seed)
    embedder, _, _ = plain_embedder(backbone)
    embedder.save(str(folder / "embedder"), create_model_card=False)
    return folder / "embedder"


@pytest.fixture(scope="session")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [save_embedder(tmp_path_factory.mktemp("embedders"), seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def embedder(embedders: list[Path]) -> SentenceTransformer:
    return SentenceTransformer(str(embedders[0]), device="cpu")
