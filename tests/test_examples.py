"""The examples with vector databases find the passage that is asked for, where the database is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import plain_embedder
from tiny import SENTENCES

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NEEDS = {"faiss": "faiss", "qdrant": "qdrant_client", "lancedb": "lancedb", "duckdb": "duckdb"}


@pytest.mark.parametrize("name", NEEDS)
def test_vector_database(name: str, tiny_backbone_dir: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    embedder, *_ = plain_embedder(tiny_backbone_dir)
    embedder.save(str(tmp_path / "embedder"))
    (tmp_path / "texts.txt").write_text("\n\n".join(SENTENCES[:20]))
    arguments = [str(EXAMPLES / f"search_{name}.py"), "embedder", "texts.txt", SENTENCES[7]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 5 and lines[0] == f"1.000  {SENTENCES[7]}"
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
