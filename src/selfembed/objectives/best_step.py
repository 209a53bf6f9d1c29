"""The best step of a stage: looked for while it is trained, kept, and the end where no better one comes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfembed.ground.files import write_json
from selfembed.model.adapter import load_adapter, save_adapter
from selfembed.objectives.objective import Prepared


class BestStep(TrainerCallback):
    """Scores an embedder at some of its steps, keeps the adapter of the best, and stops when there is no gain.

    What was scored before a checkpoint counts after a resume.

    Args:
        name: Name of the files, `<name>.json` with the curve and `<name>-<step>.safetensors`, and of the entry in the
            record of the stage.
        score: Gives the score of the embedder as it stands after a step, and leaves the embedder as it was.
        steps: The steps that are scored, the last of the stage among them; 0 is before training.
        patience: Number of scores without gain after which training stops.
        embedder: The embedder in training.
        folder: Folder of the stage.
    """

    def __init__(
        self,
        name: str,
        score: Callable[[int], float],
        steps: Collection[int],
        patience: int,
        embedder: SentenceTransformer,
        folder: Path,
    ) -> None:
        self.name = name
        self.score = score
        self.steps = steps
        self.patience = patience
        self.embedder = embedder
        self.folder = folder
        self.curve: list[dict[str, Any]] = []

    @property
    def best(self) -> dict[str, Any]:
        """Finds the best step and its score; of equal scores the first."""
        return max(self.curve, key=lambda entry: entry["score"])

    @property
    def over(self) -> bool:
        """Tells whether the last scores brought no gain, so that training stops."""
        return bool(self.curve) and len(self.curve) - 1 - self.curve.index(self.best) >= self.patience

    @property
    def adapter(self) -> Path:
        """Names the file with the adapter of the best step."""
        return self._adapter_file(self.best["step"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._file.exists():  # written by this run or by one that was interrupted
            curve = json.loads(self._file.read_text())
            self.curve = [entry for entry in curve if entry["step"] <= state.global_step]
        if not self.curve and state.global_step in self.steps:
            self._evaluate(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step not in self.steps:
            return
        self._evaluate(state.global_step)
        if self.over:
            control.should_training_stop = True
            control.should_save = False  # the trainer, resumed here, would make one more step

    def record(self) -> dict[str, Any]:
        """Gives best step and curve, for the record of the stage."""
        return {
            "best_step": self.best["step"],
            "stopped_early": self.curve[-1]["step"] < max(self.steps),
            "curve": self.curve,
        }

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.name}.json"

    def _adapter_file(self, step: int) -> Path:
        return self.folder / f"{self.name}-{step}.safetensors"

    def _evaluate(self, step: int) -> None:
        self.curve.append({"step": step, "score": self.score(step)})
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.best["step"] == step:
            save_adapter(self.embedder, self._adapter_file(step))
        write_json(self._file, self.curve)


def keep_best(prepared: Prepared, best: BestStep, **notes: Any) -> Prepared:
    """Lets a stage end with the adapter of its best step, and earlier where no better one comes.

    Args:
        prepared: What the stage trains with, which is left as it is.
        best: The search for the best step.
        **notes: Further notes on it for the record of the stage.
    """

    def finish() -> dict[str, Any]:
        load_adapter(best.embedder, best.adapter)
        return {best.name: {**notes, **best.record()}, **prepared.finish()}

    return dataclasses.replace(
        prepared,
        callbacks=(best, *prepared.callbacks),  # first, so that nothing is made ready for steps that do not come
        goes_on=lambda step: not best.over and prepared.goes_on(step),
        finish=finish,
    )
