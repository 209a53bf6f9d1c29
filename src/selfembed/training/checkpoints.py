"""What is kept of a stage while it runs, and found again after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfembed.ground.files import arriving_file
from selfembed.ground.progress import Progress
from selfembed.losses.token_target import finite
from selfembed.objectives.objective import Prepared

_STATE_FILE = "stage_state.safetensors"


class StageWatch(TrainerCallback):
    """Reports steps, and keeps with every checkpoint what the trainer does not know to be training state.

    Args:
        name: Name of the stage.
        steps: Number of steps of the stage.
        prepared: What the stage trains with, whose state is kept.
        progress: Called with (task, done, total) after every step.
    """

    def __init__(self, name: str, steps: int, prepared: Prepared, progress: Progress) -> None:
        self.name = name
        self.steps = steps
        self.prepared = prepared
        self.progress = progress

    @property
    def has_state(self) -> bool:
        """Tells whether a checkpoint holds a file of this state."""
        return self.prepared.state is not None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        shown = self.name
        if logs and "loss" in logs:
            finite(torch.tensor(logs["loss"]))  # before this step's checkpoint is written
            shown = f"{self.name}, loss {logs['loss']:.3f}"
        self.progress(shown, state.global_step, self.steps)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.prepared.state is not None:
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _STATE_FILE
            with arriving_file(file) as staging:
                save_file(self.prepared.state(), staging)

    def restore(self, checkpoint: Path) -> None:
        """Reads back what :meth:`on_save` wrote."""
        if self.prepared.restore is not None:
            self.prepared.restore(load_file(checkpoint / _STATE_FILE))


def checkpoint_step(checkpoint: Path | None) -> int:
    """Reads the step after which a checkpoint was written; 0 without a checkpoint."""
    return int(checkpoint.name.split("-")[1]) if checkpoint else 0


def last_checkpoint(folder: Path, watch: StageWatch) -> Path | None:
    """Finds the newest checkpoint that was written to its end; the trainer writes `trainer_state.json` last."""
    found = sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
            continue
        if not watch.has_state or (checkpoint / _STATE_FILE).exists():
            return checkpoint
        shutil.rmtree(checkpoint)
    return None
