"""Real processes that are killed, interrupted or run out of disk; what they finished is not lost."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import processes
import pytest
import torch
from runs import PROMPT, weights
from tiny import SENTENCES

COMMAND = """
import resource, sys
# No file may grow over so many bytes, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from selfembed.terminal.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def train(tiny_backbone_dir, tmp_path):
    """The command line of a run in two stages of 12 steps, with a checkpoint every 3."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(SENTENCES))
    numbers = ["--steps", "12", "--batch-size", "4", "--max-length", "48", "--learning-rate", "1e-2", "--no-report"]
    numbers += ["--prompt", PROMPT, "--set", "common=online", "--dtype", "float32", "--device", "cpu"]
    model = ["--model", str(tiny_backbone_dir), "--recipe", "text2token"]
    return ["train", *model, "--corpus", str(texts), *numbers, "--tagger", "hanta"]


def start(arguments: list[str], *, file_limit: int = 2**40) -> processes.Program:
    return processes.start(COMMAND, str(file_limit), *arguments)


def finish(arguments: list[str], **options: int) -> subprocess.CompletedProcess[str]:
    return start(arguments, **options).finish()


def wait_for(file: Path, program: processes.Program) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert program.running, program.finish()
        assert time.monotonic() < deadline, file
        time.sleep(0.002)


def test_killed_and_interrupted_and_resumed_equals_uninterrupted(train, tmp_path):
    assert finish([*train, "--out", str(tmp_path / "whole")]).returncode == 0
    out = tmp_path / "out"
    partial = tmp_path / "out.partial"
    for stage, stop, status in (
        ("1-data_driven", signal.SIGKILL, -signal.SIGKILL),
        ("2-model_derived", signal.SIGINT, 130),
    ):
        program = start([*train, "--out", str(out)])
        wait_for(partial / stage / "checkpoint-3" / "trainer_state.json", program)
        program.send_signal(stop)
        assert program.finish().returncode == status
        assert not out.exists() and not (partial / stage / "record.json").exists()
    assert finish([*train, "--out", str(out)]).returncode == 0
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
    train += ["--set", f"lora.r={rank}", "--steps", "4"]
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    failed = finish([*train, "--out", str(out)], file_limit=file_limit)
    message = failed.stderr.splitlines()[-1]
    assert failed.returncode == 2 and "Traceback" not in failed.stderr, failed.stderr
    path = message.removeprefix("selfembed: error: cannot write ").partition(": ")[0]
    assert Path(path).relative_to(tmp_path).is_relative_to(unwritten), message
    assert not out.exists()
    again = finish([*train, "--out", str(out)])
    assert again.returncode == 0, again.stderr
