"""Offline, quiet and out of the user's cache; the settings come before anything of ours or theirs is imported."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

_CACHE = tempfile.mkdtemp(prefix="selfembed-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_MODULES_CACHE=f"{_CACHE}/modules",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",  # matrices of width 32 gain nothing from a second thread
    SELFEMBED_CACHE=_CACHE,
)

import pytest  # noqa: E402
import torch  # noqa: E402
from tiny import save_tiny  # noqa: E402

torch.set_num_threads(1)

# With two workers the long files come first, so that both end at about the same time.
LONG = (
    "model/test_embedded.py",
    "recipes/test_llm2comp.py",
    "training/test_run.py",
    "test_traces.py",
    "evaluation/test_scores.py",
    "training/test_interruption.py",
    "test_studies.py",
    "terminal/test_main.py",
    "objectives/test_token_target.py",
    "explanation/test_report.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def pytest_collection_finish() -> None:
    """The trainer collects garbage at its end, which takes half a second if it looks at all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_backbone_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny tied Llama and its tokenizer; do not write into it."""
    return save_tiny("llama", tmp_path_factory.mktemp("backbone"), tied=True)
