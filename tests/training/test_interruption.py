"""Real processes that are killed, interrupted or run out of disk; what they finished is not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import PROMPT, weights
from tiny import SENTENCES

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from selfembed.terminal.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def train(tiny_backbone_dir, tmp_path):
    """The command line of a run in two stages of 24 steps, with a checkpoint every 6."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(SENTENCES))
    numbers = ["--steps", "24", "--batch-size", "4", "--max-length", "48", "--learning-rate", "1e-2"]
    numbers += ["--prompt", PROMPT, "--set", "common=online", "--dtype", "float32", "--device", "cpu"]
    model = ["--model", str(tiny_backbone_dir), "--recipe", "text2token"]
    return ["train", *model, "--corpus", str(texts), *numbers, "--tagger", "hanta"]


def start(arguments: list[str], *, file_limit: int | None = None) -> subprocess.Popen:
    """The command line in a process of its own; no file of it may grow over `file_limit` bytes, as on a full disk."""
    program = ["-m", "selfembed"] if file_limit is None else ["-c", LIMITED, str(file_limit)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit status and standard error."""
    _, errors = process.communicate(timeout=180)
    return process.returncode, errors


def wait_for(file: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, file
        time.sleep(0.002)


def test_killed_and_interrupted_and_resumed_equals_uninterrupted(train, tmp_path):
    assert finish(start([*train, "--out", str(tmp_path / "whole")]))[0] == 0
    out = tmp_path / "out"
    partial = tmp_path / "out.partial"
    for stage, stop, status in (
        ("1-data_driven", signal.SIGKILL, -signal.SIGKILL),
        ("2-model_derived", signal.SIGINT, 130),
    ):
        process = start([*train, "--out", str(out)])
        wait_for(partial / stage / "checkpoint-6" / "trainer_state.json", process)
        process.send_signal(stop)
        assert finish(process)[0] == status
        assert not out.exists() and not (partial / stage / "record.json").exists()
    assert finish(start([*train, "--out", str(out)]))[0] == 0
    assert not partial.exists()
    whole, resumed = weights(tmp_path / "whole"), weights(out)
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize(
    ("file_limit", "rank", "unwritten"),
    [
        (2_000, 4, "cache/texts"),
        (20_000, 4, "cache/embedders"),
        (100_000, 64, "out.partial"),  # a checkpoint's optimiser
        (100_000, 4, "out"),
    ],
)
def test_full_disk_is_one_line_and_loses_nothing(file_limit, rank, unwritten, train, tmp_path, monkeypatch):
    train += ["--set", f"lora.r={rank}"]
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    status, errors = finish(start([*train, "--out", str(out)], file_limit=file_limit))
    message = errors.splitlines()[-1]
    assert status == 2 and "Traceback" not in errors, errors
    path = message.removeprefix("selfembed: error: cannot write ").partition(": ")[0]
    assert Path(path).relative_to(tmp_path).is_relative_to(unwritten), message
    assert not out.exists()
    status, errors = finish(start([*train, "--out", str(out)]))
    assert status == 0, errors
