"""mteb's own check of a model: each of its kinds of task on mock data."""

from __future__ import annotations

from pathlib import Path

import mteb
import pytest
from mteb.mocks import ALL_MOCK_TASK_TEST_GRID
from mteb.results import TaskResult
from sentence_transformers import SentenceTransformer

from selfembed.evaluation.encoder import CachedEncoder

KINDS = {"STS", "PairClassification", "Classification", "Clustering", "Summarization", "Retrieval", "Reranking"}


def test_mock_run_passes_and_scores_as_without_us(
    embedders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path))
    model = SentenceTransformer(str(embedders[0]), device="cpu")
    encoder = CachedEncoder(model, name="tiny")
    ours, theirs = (mteb.mock_run(one) for one in (encoder, mteb.SentenceTransformerEncoderWrapper(model)))
    ran = {name: result for name, result in theirs.items() if result is not None}
    assert {task.metadata.type for task in ALL_MOCK_TASK_TEST_GRID if task.metadata.name in ran} >= KINDS
    for name, expected in ran.items():
        assert isinstance(ours[name], TaskResult), ours[name]
        assert ours[name].get_score() == pytest.approx(expected.get_score(), abs=1e-5)
    assert 0 < encoder.encoded < encoder.asked
