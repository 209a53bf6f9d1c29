"""Offline, quiet and out of the user's cache; the settings come before anything of ours or theirs is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_CACHE = tempfile.mkdtemp(prefix="selfembed-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    SELFEMBED_CACHE=_CACHE,
)

import pytest  # noqa: E402
import torch  # noqa: E402
from tiny import save_tiny  # noqa: E402

# matrices of width 32 gain nothing from a second thread
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_backbone_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny tied Llama and its tokenizer; do not write into it."""
    return save_tiny("llama", tmp_path_factory.mktemp("backbone"), tied=True)
