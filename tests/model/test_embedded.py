"""On the embedded 135M backbone: what tiny random models cannot show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import processes
import pytest

from selfembed import load_backbone, train
from selfembed.doctor import examine
from selfembed.explanation.aligned_tokens import Explained, aligned_tokens, load_explained

pytestmark = pytest.mark.backbone

TEXTS = [
    "The gold rush brought many migrants to Ballarat in 1851.",
    "A lock is released by another thread.",
    "The harbour bridge was closed to ships for three weeks. " * 9,  # more than fits
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
    settings = {"steps": 1, "batch_size": 3, "max_length": 40, "embed_length": 64, "common": "online"}
    train("embedded", iter(texts), "text2token", out=out, settings=settings, dtype="float32")
    return out


@pytest.fixture(scope="module")
def explained(folder: Path) -> Explained:
    return load_explained(folder)


def test_doctor_finds_it_ready() -> None:
    diagnosis = examine("embedded")
    assert diagnosis.usable and diagnosis.bidirectional, diagnosis.findings


def test_folder_gives_the_same_vectors_without_selfembed(folder: Path, explained: Explained) -> None:
    here = explained.embedder.encode(TEXTS, batch_size=3)
    run = processes.run(ELSEWHERE, str(folder), json.dumps(TEXTS))
    assert run.returncode == 0, run.stderr
    for vectors in json.loads(run.stdout.splitlines()[-1]):
        there = np.asarray(vectors)
        cosines = (here * there).sum(-1) / np.linalg.norm(here, axis=-1) / np.linalg.norm(there, axis=-1)
        assert cosines.min() >= 0.9999


def test_raw_backbone_names_what_a_text_is_about(explained: Explained) -> None:
    top = aligned_tokens(explained.raw, explained.head, explained.tokenizer, TEXTS[:1])[0]
    assert {token.token.lower() for token in top} & {"gold", "migration", "ball"}
    assert load_backbone("embedded").tied


def test_end_of_text_spelled_out_is_text(explained: Explained) -> None:
    """As the token itself it draws unrelated texts together: 0.99 instead of 0.76."""
    stock = explained.embedder
    texts = [
        "The gold rush brought many migrants to Ballarat in 1851.",
        "A lock is released by another thread.",
        "Beat the eggs with sugar until they are white.",
        "The parliament passed a new law on clean drinking water.",
    ]

    def mean_cosine(suffix: str) -> float:
        cosines_NN = stock.similarity(*[stock.encode([text + suffix for text in texts])] * 2)
        return float((cosines_NN.sum() - len(texts)) / (len(texts) * (len(texts) - 1)))

    plain = mean_cosine("")
    for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        token = stock.tokenizer.convert_tokens_to_ids(name)
        for text in texts:
            ids = stock.preprocess([text + name])["input_ids"][0].tolist()
            bare = stock.preprocess([text])["input_ids"][0].tolist()
            assert ids.count(token) == bare.count(token)
        assert mean_cosine(name) < plain + 0.05, name
