"""On the embedded 135M backbone: what tiny random models cannot show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selfembed import load_backbone, train
from selfembed.doctor import examine
from selfembed.explanation.aligned_tokens import aligned_tokens, load_explained

pytestmark = pytest.mark.backbone

TEXTS = [
    "The gold rush brought many migrants to Ballarat in 1851.",
    "A lock is released by another thread.",
    "The harbour bridge was closed to ships for three weeks. " * 60,
]
ELSEWHERE = """
import json, sys
sys.modules["selfembed"] = None  # as where it is not installed
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(json.dumps([model.encode(json.loads(sys.argv[2]), batch_size=size).tolist() for size in (1, 3)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embedded") / "embedder"
    texts = [f"The {word} of the old museum was shown to visitors from Lisbon." for word in ("map", "clock", "ship")]
    settings = {"steps": 2, "batch_size": 3, "max_length": 40, "common": "online", "learning_rate": 1e-4}
    train("embedded", iter(texts), out=out, settings=settings, dtype="float32")
    return out


def test_doctor_finds_it_ready() -> None:
    diagnosis = examine("embedded")
    assert diagnosis.usable and diagnosis.bidirectional, diagnosis.findings


def test_folder_gives_the_same_vectors_without_selfembed(folder: Path) -> None:
    explained = load_explained(folder)
    here = explained.embedder.encode(TEXTS, batch_size=3)
    command = [sys.executable, "-c", ELSEWHERE, str(folder), json.dumps(TEXTS)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    for vectors in json.loads(run.stdout.splitlines()[-1]):
        there = np.asarray(vectors)
        cosines = (here * there).sum(-1) / np.linalg.norm(here, axis=-1) / np.linalg.norm(there, axis=-1)
        assert cosines.min() >= 0.9999


def test_raw_backbone_names_what_a_text_is_about(folder: Path) -> None:
    explained = load_explained(folder)
    top = aligned_tokens(explained.raw, explained.head, explained.tokenizer, TEXTS[:1])[0]
    assert {token.token.lower() for token in top} & {"gold", "migration", "ball"}
    assert load_backbone("embedded").tied
